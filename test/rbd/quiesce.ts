import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Image, MiB, type QuiesceHooks, RadosObject, type WatchQuiesceOptions } from '../../lib/index.js'
import { native } from '../../lib/native.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { until } from '../support/process.js'

const limitMs = 20_000

/** An image whose writer is this process, as a guest's is. */
async function disk(t: Test): Promise<Image> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * MiB })
  const image = await pool.openImage('disk')
  await image.write(0, Buffer.from('before'))
  return image
}

/** By another process; rejects with what that says. */
async function snap(image: Image, name: string, ...options: string[]): Promise<void> {
  await run('timeout', '40', 'rbd', 'snap', 'create', '--no-progress', ...options, `${image.path}@${name}`)
}

const snapshotsOf = async (image: Image) => (await rbdJson('snap', 'ls', image.path)).map((each: Named) => each.name)
interface Named {
  name: string
}

const refused = { message: /\(125\) Operation canceled/ }

/** Hooks that note what happens, besides what the test wants of them. */
async function hooked(image: Image, hooks: Partial<QuiesceHooks> = {}, options: WatchQuiesceOptions = {}) {
  const events: string[] = []
  const watch = await image.watchQuiesce(
    {
      async quiesce() {
        events.push('quiesce')
        await hooks.quiesce?.()
        events.push('quiesced')
      },
      async unquiesce() {
        events.push('unquiesce')
        await hooks.unquiesce?.()
      },
    },
    options,
  )
  watch.on('error', error => events.push(error.message))
  return { events, watch }
}

t.test('quiesce() runs before the snapshot is there, and what it writes is in it', async t => {
  const image = await disk(t)
  let early: string[] = []
  const { events, watch } = await hooked(image, {
    async quiesce() {
      await image.write(0, Buffer.from('inside'))
      await sleep(300)
      early = await snapshotsOf(image)
    },
    async unquiesce() {
      await image.write(0, Buffer.from('after!'))
    },
  })
  await snap(image, 'one')
  t.same(early, [])
  t.ok(await until(() => events.length === 3, limitMs))
  t.same(events, ['quiesce', 'quiesced', 'unquiesce'])
  await using snapshot = await image.pool.openImage('disk', { snapshot: 'one' })
  t.equal((await snapshot.read(0, 6)).toString(), 'inside')
  t.equal((await image.read(0, 6)).toString(), 'after!')

  await image.createSnapshot('two')
  t.ok(await until(() => events.length === 6, limitMs), 'also for a snapshot of this process')
  await image.createSnapshot('three', { skipQuiesce: true })
  await snap(image, 'four', '--skip-quiesce')
  await watch.close()
  await snap(image, 'five')
  t.equal(events.length, 6, 'not when it is not wanted, nor after the close')
})

t.test('a quiesce() that rejects keeps the snapshot from being made, unless that does not matter', async t => {
  const image = await disk(t)
  const { events } = await hooked(image, {
    quiesce() {
      throw new Error('busy')
    },
  })
  await t.rejects(snap(image, 'one'), refused)
  await t.rejects(image.createSnapshot('two'), {
    name: 'QuiesceError',
    code: 'ECANCELED',
    syscall: 'rbd_snap_create2',
    retryable: true,
  })
  t.same(await snapshotsOf(image), [])
  await snap(image, 'three', '--ignore-quiesce-error')
  await image.createSnapshot('four', { ignoreQuiesceError: true })
  t.same(await snapshotsOf(image), ['three', 'four'])
  t.same(events, Array(4).fill(['quiesce', 'busy']).flat(), 'and what was not quiesced is not unquiesced')
})

t.test('a quiesce() that takes too long keeps the snapshot from being made, and the next one can be', async t => {
  const image = await disk(t)
  let settle = () => {}
  const hang = () =>
    new Promise<void>(resolve => {
      settle = resolve
    })
  const { events } = await hooked(image, { quiesce: () => events.length === 1 && hang() }, { timeout: 1000 })
  await t.rejects(snap(image, 'one'), refused)
  t.match(events, ['quiesce', /^ETIMEDOUT.*took more than 1000 ms/])
  await t.rejects(snap(image, 'two'), refused, 'hooks do not run beside each other')
  t.equal(events.filter(event => event === 'quiesce').length, 1)
  settle()
  t.ok(await until(() => events.includes('unquiesce'), limitMs), 'late, it is told at once that it need not')
  t.ok(
    await until(() => events.filter(event => event === 'unquiesce').length === 2, limitMs),
    'the one that waited too',
  )
  await snap(image, 'three')
  t.same(await snapshotsOf(image), ['three'])
})

t.test('where this process has not written, a quiesce() that never settles fails the snapshot by time', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * MiB })
  await using image = await pool.openImage('disk')
  await using watch = await image.watchQuiesce({ quiesce: () => new Promise(() => {}) })
  const other = await testPool(t, { options: { rbd_quiesce_notification_attempts: '1' } })
  await using asking = await (await other.cluster.openPool('rbd', { namespace: pool.namespace })).openImage('disk')
  await t.rejects(asking.createSnapshot('one'), { name: 'TimeoutError', syscall: 'rbd_snap_create2', retryable: true })
  t.notOk(watch.closed)
})

t.test('hooks that do not come into force leave nothing behind', async t => {
  const image = await disk(t)
  const { notify } = RadosObject.prototype
  const failing: Record<string, typeof notify> = {
    'an error': () => Promise.reject(new Error('no answer')),
    'an abort': () => sleep(1_500, { acks: [], timeouts: [] }),
  }
  for (const [how, fail] of Object.entries(failing)) {
    RadosObject.prototype.notify = fail
    t.teardown(() => Object.assign(RadosObject.prototype, { notify }))
    await t.rejects(hooked(image, {}, { signal: AbortSignal.timeout(500) }), how)
    RadosObject.prototype.notify = notify
    t.ok(await until(async () => (await image.watchers()).length === 1, limitMs), how)
    await snap(image, how.slice(3))
  }
})

t.test('several hooks of one image all run, and one of them is enough to refuse', async t => {
  const image = await disk(t)
  const first = await hooked(image)
  const second = await hooked(image)
  await snap(image, 'one')
  const done = ['quiesce', 'quiesced', 'unquiesce']
  t.ok(await until(() => first.events.length + second.events.length === 6, limitMs))
  t.same([first.events, second.events], [done, done])
  const third = await hooked(image, { quiesce: () => Promise.reject(new Error('busy')) })
  await t.rejects(snap(image, 'two'), refused)
  t.ok(await until(() => first.events.length + second.events.length === 12, limitMs))
  t.same(
    [first.events, second.events, third.events],
    [
      [...done, ...done],
      [...done, ...done],
      ['quiesce', 'busy'],
    ],
  )
})

t.test('close() while quiesce() runs: the snapshot is not made, and later ones are', async t => {
  for (const how of ['watch', 'image'] as const) {
    await t.test(`of the ${how}`, async t => {
      const image = await disk(t)
      let settle = () => {}
      const running = new Promise<void>(resolve => {
        settle = resolve
      })
      const { events, watch } = await hooked(image, { quiesce: () => running })
      const making = t.rejects(snap(image, 'one'), refused)
      t.ok(await until(() => events.includes('quiesce'), limitMs))
      await { watch, image }[how].close()
      t.ok(watch.closed)
      settle()
      await making
      t.ok(await until(() => events.includes('unquiesce'), limitMs), 'what was quiesced in vain is unquiesced')
      await snap(image, 'two')
      t.same(await snapshotsOf(image), ['two'])
      t.same(events, ['quiesce', 'quiesced', 'unquiesce'])
    })
  }
})

t.test('close() between quiesce() and unquiesce() unquiesces at once, and later snapshots do not wait', async t => {
  const image = await disk(t)
  const { events, watch } = await hooked(image, { quiesce: () => void setImmediate(() => watch.close()) })
  const other = await hooked(image, { quiesce: () => sleep(500) }) // so that there is a between
  const making = snap(image, 'one')
  t.ok(await until(() => events.includes('unquiesce'), limitMs))
  t.notOk(other.events.includes('quiesced'))
  await making
  await watch.close()
  await other.watch.close()

  const started = Date.now()
  const again = await hooked(image)
  await snap(image, 'two')
  t.ok(Date.now() - started < 5000, 'the image has not lost count')
  t.ok(await until(() => again.events.length === 3, limitMs))
  t.same(events, ['quiesce', 'quiesced', 'unquiesce'])
})

t.test('hooks come and go while others make snapshots', async t => {
  const image = await disk(t)
  let making = true
  const made: Promise<unknown>[] = []
  const snapshots = (async () => {
    for (let i = 0; making; i++) {
      const snapshot = image.createSnapshot(`snapshot-${i}`, { ignoreQuiesceError: true })
      made.push(snapshot)
      await snapshot
    }
  })()
  for (let i = 0; i < 30; i++) {
    const { events, watch } = await hooked(image, { quiesce: () => sleep(i % 3) })
    await sleep((i * 7) % 40)
    await watch.close()
    await sleep(10)
    const count = (name: string) => events.filter(event => event === name).length
    t.equal(count('quiesced'), count('unquiesce'), events.join())
  }
  making = false
  await t.resolves(snapshots)
  t.ok(made.length > 5, `${made.length} snapshots`)
})

t.test('what is heard of a snapshot before the watch holds is not for the hooks', async t => {
  const image = await disk(t)
  const { quiesceWatchStart } = native
  t.teardown(() => Object.assign(native, { quiesceWatchStart }))
  const heard: string[][] = []
  let snapping = Promise.resolve()
  const start: typeof quiesceWatchStart = async (handle, id, receive, token) => {
    const own: string[] = []
    heard.push(own)
    const hearing: typeof receive = event => {
      own.push(event)
      receive(event)
    }
    const watch = await quiesceWatchStart(handle, id, hearing, token)
    if (heard.length === 1) {
      // Made or refused: whoever asks is not answered by this watch.
      snapping = snap(image, 'one').catch(() => {})
      t.ok(await until(() => own.includes('quiesce'), limitMs))
    }
    return watch
  }
  Object.assign(native, { quiesceWatchStart: start })
  const { events } = await hooked(image)
  await snapping
  await snap(image, 'two')
  const asked = heard.at(-1)?.filter(event => event === 'quiesce').length ?? 0
  t.ok(heard.length > 1 && asked > 0)
  t.ok(await until(() => events.filter(event => event === 'unquiesce').length === asked, limitMs))
  await sleep(200)
  t.equal(events.filter(event => event === 'quiesce').length, asked)
})

t.test('a process that ends in the middle refuses', async t => {
  const child = fileURLToPath(new URL('../support/unwilling.js', import.meta.url))
  for (const ending of ['process.exit', 'exception']) {
    const image = await disk(t)
    await image.close()
    const unwilling = spawn(process.execPath, [child, image.pool.namespace, 'disk', ending], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(unwilling.stdout, 'data')
    const ended = once(unwilling, 'close')
    const started = Date.now()
    await t.rejects(snap(image, 'one'), refused)
    t.ok(Date.now() - started < 5000, 'without waiting for a time-out')
    t.same(await ended, [ending === 'exception' ? 1 : 0, null], ending)
    await snap(image, 'two')
  }
})
