/** What the owner of the exclusive lock does for another client, which must hear of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Image, MiB, type Pool } from '../../lib/index.js'
import { testCluster, testPool } from '../support/cluster.js'
import { until } from '../support/process.js'

t.setTimeout(240_000)
// They wait, most of the time.
t.jobs = 5

/** After so much silence the lock is moved. */
const silenceMs = 45_000

/** The same image, opened by who asks; and what another client opens it by. */
async function asker(t: Test): Promise<{ image: Image; other: Pool }> {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  await pool.createImage('disk', { size: 8 * MiB })
  return { image: await pool.openImage('disk'), other }
}

/** As an operation of librbd's own: it comes back when the owner changes. */
async function fakeUnanswered(owner: Image, limitMs: number): Promise<{ hasMoved: boolean; silentMs: number }> {
  const heardAt = performance.now()
  const hasMoved = await until(async () => !(await owner.exclusiveLock.isOwner()), limitMs)
  return { hasMoved, silentMs: performance.now() - heardAt }
}

t.test('what is done, and not said to be', async t => {
  const { image, other } = await asker(t)
  await using owner = await other.openImage('disk')
  await owner.write(0, Buffer.from('data'))
  const reports: number[] = []
  const request = async (report: (done: number, total: number) => void) => {
    await sleep(10_000)
    report(1, 2)
    return fakeUnanswered(owner, 100_000)
  }
  const { hasMoved, silentMs } = await image.proxied.run(
    async () => true,
    done => reports.push(done),
    request,
  )
  t.ok(hasMoved && silentMs >= silenceMs - 10, `the lock is moved after ${silentMs.toFixed(0)} ms without progress`)
  t.same(reports, [1])
  t.same((await image.watchers()).length, 2, 'nothing is left open')
  await t.resolves(owner.write(0, Buffer.from('more')))
  t.ok(await owner.exclusiveLock.isOwner(), 'and the lock is free again')
})

t.test('what is not done', async t => {
  const { image, other } = await asker(t)
  await using owner = await other.openImage('disk')
  await owner.write(0, Buffer.from('data'))
  const request = () => fakeUnanswered(owner, silenceMs + 12_000)
  const { hasMoved } = await image.proxied.run(async () => false, null, request)
  t.notOk(hasMoved, 'is left alone, however long it takes')
})

t.test('the owner keeps the lock for itself', async t => {
  const { image, other } = await asker(t)
  const owner = await other.openImage('disk')
  await owner.exclusiveLock.acquire()
  const request = () => fakeUnanswered(owner, silenceMs + 12_000)
  const { hasMoved } = await image.proxied.run(async () => true, null, request)
  t.notOk(hasMoved, 'it has been asked for it, and no more')
  await image.resize(16 * MiB)
  t.equal(await owner.size(), 16 * MiB)
})

/** Another client writes from before it is asked for a change, so that it announces itself just then, until that is over. */
async function whileAnnounced<T>(other: Pool, change: () => Promise<T>): Promise<T> {
  await using owner = await other.openImage('disk')
  let isOver = false
  const write = (i: number) => owner.write((i % 100) * 65_536, Buffer.alloc(8192, i))
  const goOn = async () => {
    for (let i = 0; !isOver; i++) {
      await write(i)
      await sleep(1)
    }
  }
  const first = Array.from({ length: 20 }, (_, i) => write(i))
  const changed = change().finally(() => {
    isOver = true
  })
  const [answer] = await Promise.all([changed, goOn(), ...first])
  return answer
}

/** Until it has missed its answer, which one or two of a hundred do; or for a minute, if none does. */
async function untilMissed(t: Test, attempt: (number: number) => Promise<boolean>): Promise<void> {
  const begunAt = performance.now()
  let attempts = 0
  let isMissed = false
  while (!isMissed && performance.now() - begunAt < 60_000) isMissed = await attempt(++attempts)
  t.pass(`${attempts} have come back, ${isMissed ? 'the last of which has' : 'none of which has'} missed it`)
}

t.test('the owner announces itself in the moment that it is asked', async t => {
  const { image, other } = await asker(t)
  await untilMissed(t, async number => {
    const askedAt = performance.now()
    const change = () => (number % 2 ? image.metadata.set('key', `${number}`) : image.resize(8 * MiB + number * 4096))
    await whileAnnounced(other, change)
    return performance.now() - askedAt >= silenceMs
  })
})

t.test('and who asked has had enough', async t => {
  const { image, other } = await asker(t)
  await untilMissed(t, async number => {
    await using asking = await image.pool.openImage('disk')
    const change = async () => {
      const changed = asking.metadata.set('key', `${number}`, { signal: AbortSignal.timeout(3000) })
      const [outcome] = await Promise.allSettled([changed])
      if (outcome.status === 'rejected') t.match(outcome.reason, { name: 'AbortError' })
      await asking.close()
      // The owner, and `image`.
      t.ok((await image.watchers()).length <= 2, 'nothing is left open')
      return outcome.status === 'rejected'
    }
    return await whileAnnounced(other, change)
  })
})
