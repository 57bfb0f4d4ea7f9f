/** What has a limit ends in time. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { withTimeLimit } from '../src/time-limit.js'
import { collectGarbage } from './support/process.js'

const nobody = new AbortController().signal

/** Waits for the signal alone, while garbage is collected. */
async function untilAborted(signal: AbortSignal): Promise<never> {
  for (;;) {
    collectGarbage()
    signal.throwIfAborted()
    await delay(20)
  }
}

t.test('what takes too long is told so, also when garbage is collected meanwhile', async t => {
  await t.rejects(withTimeLimit(200, nobody, untilAborted), { name: 'TimeoutError', message: /0\.2 s/ })
})

t.test('what is not wanted any more ends with the reason of that', async t => {
  const ended = AbortSignal.abort(new Error('not wanted'))
  await t.rejects(withTimeLimit(60_000, ended, untilAborted), { message: 'not wanted' })
  const later = new AbortController()
  const ending = withTimeLimit(60_000, later.signal, untilAborted)
  later.abort(new Error('not wanted any more'))
  await t.rejects(ending, { message: 'not wanted any more' })
})

t.test('what is done in time gives what it gives, and nothing comes after', async t => {
  let given = nobody
  const done = await withTimeLimit(50, nobody, async limit => {
    given = limit
    return 'done'
  })
  t.equal(done, 'done')
  await delay(200)
  t.equal(given.aborted, false)
})
