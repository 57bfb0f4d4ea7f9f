/** What an AbortSignal does to each call, and what comes of the work. The doc comments of the methods say the same. */
import { getEventListeners } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type CallOptions, Cluster, MiB, type Pool, type ProgressOptions, TiB } from '../lib/index.js'
import { allCalls, subjects } from './support/calls.js'
import { run, testCluster, testPool } from './support/cluster.js'
import { testFileSystem } from './support/file-system.js'
import { full, type LongCall, stopped, unstoppable } from './support/long-calls.js'
import { until } from './support/process.js'

t.setTimeout(120_000)

const reason = new Error('changed my mind')
const aborted = { name: 'AbortError', code: 'ABORT_ERR', cause: reason }

t.test('a signal that was aborted before keeps any call from beginning', async t => {
  const all = await subjects(await testPool(t))
  const { pool, image, object } = all
  const options = { signal: AbortSignal.abort(reason) } as never
  for (const { name, call } of allCalls) await t.rejects(call(all, options), aborted, name)
  await t.rejects(Cluster.connect(options), aborted, 'Cluster.connect')

  t.same(
    (await pool.listImages()).map(({ name }) => name),
    ['disk', 'other'],
  )
  t.match(await image.stat(), { size: MiB, flags: [], features: { length: 5 } })
  t.match(await image.listSnapshots(), [{ name: 'one', protected: false }])
  t.same(await image.config.getQos(), {})
  t.match(await object.stat(), { size: 0 })
  t.same((await object.listLockers('lock')).lockers, [])
})

t.test('a signal that is never aborted changes nothing, and keeps no listener', async t => {
  const { image } = await subjects(await testPool(t))
  const controller = new AbortController()
  let listeners = 0
  const count = (by: number) => (method: (...rest: never[]) => void) =>
    function (this: AbortSignal, ...rest: never[]) {
      listeners += by
      return method.apply(this, rest)
    }
  const { signal } = controller
  signal.addEventListener = count(1)(signal.addEventListener as never) as never
  signal.removeEventListener = count(-1)(signal.removeEventListener as never) as never
  t.equal(await image.size({ signal }), MiB)
  await t.rejects(image.flatten({ signal }), { name: 'InvalidArgumentError' })
  t.equal(listeners, 0)
})

/** Whether many calls with one signal are one listener of it, without a word of Node's, and then none. */
async function shareOne(t: Test, call: (options: CallOptions, i: number) => Promise<unknown>): Promise<void> {
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  const { signal } = new AbortController()
  let heard = 0
  const own = () => heard++
  signal.addEventListener('abort', own)
  const calls = Array.from({ length: 100 }, (_, i) => call({ signal }, i))
  t.ok(getEventListeners(signal, 'abort').length <= 2, 'beside that of the caller')
  await Promise.all(calls)
  t.strictSame(getEventListeners(signal, 'abort'), [own], 'which stays')

  const controller = new AbortController()
  const begun = Array.from({ length: 100 }, (_, i) => call({ signal: controller.signal }, i))
  const ended = Promise.allSettled(begun)
  controller.abort(reason)
  for (const each of await ended) if (each.status === 'rejected') t.match(each.reason, aborted)
  t.ok((await ended).some(({ status }) => status === 'rejected'))
  t.same(getEventListeners(controller.signal, 'abort'), [])
  await sleep(1) // for warnings come later
  process.off('warning', warned)
  t.same(warnings, [])
}

t.test('one signal may be that of many calls', async t => {
  const { pool, image } = await subjects(await testPool(t))
  await t.test('reads', t => shareOne(t, (options, i) => image.read(i * 4096, 4096, options)))
  await t.test('calls on threads', t => shareOne(t, options => image.parent(options)))
  await t.test('openings', async t => {
    await shareOne(t, async options => await (await pool.openImage('disk', { ...options, readOnly: true })).close())
  })
  const { files } = await testFileSystem(t, pool.cluster)
  await t.test('calls that wait for their turn', t => shareOne(t, options => files.stat('/', options)))
  await t.test('streams', t => shareOne(t, options => text(image.createReadStream({ ...options, end: 9 }))))
})

/** Aborts a call at its first report, and answers how much of the work was done in the end. */
async function abortAtFirstReport(t: Test, { prepare, done }: LongCall, observer?: Pool): Promise<number> {
  observer ??= await testPool(t)
  // One object at a time, so that there is a middle of the work, however busy the machine is.
  const cluster = await testCluster(t, { options: { rbd_concurrent_management_ops: '1' } })
  const pool = await cluster.openPool('rbd', { namespace: observer.namespace })
  const call = await prepare(pool)
  const controller = new AbortController()
  let reports = 0
  const onProgress = () => {
    reports++
    controller.abort(reason)
  }
  await t.rejects(call({ signal: controller.signal, onProgress }), aborted)
  await pool.close() // waits for what still goes on
  t.equal(reports, 1, 'nothing is reported after that')
  return done(observer)
}

t.test('an abort in the middle of the work stops it', async t => {
  for (const [name, longCall] of Object.entries(stopped)) {
    await t.test(name, async t => {
      const done = await abortAtFirstReport(t, longCall)
      t.ok(done < 0.9, `done by ${done}`)
    })
  }
})

t.test('an abort in the middle of the work ends the waiting only', async t => {
  for (const [name, longCall] of Object.entries(unstoppable)) {
    await t.test(name, async t => {
      t.equal(await abortAtFirstReport(t, longCall), 1)
    })
  }
})

t.test('a snapshot that is still made after an abort is not protected', async t => {
  const pool = await testPool(t)
  const { 'image.createSnapshot': createSnapshot } = unstoppable
  if (createSnapshot) await abortAtFirstReport(t, createSnapshot, pool)
  await using image = await pool.openImage('disk')
  t.match(await image.listSnapshots(), [{ name: 'one', protected: false }])
})

t.test('an aborted usedBytes looks at no more objects', async t => {
  const pool = await testPool(t)
  await (await full(pool, 'disk', 1, ['layering'])).close()
  const elapsed = async (options: ProgressOptions) => {
    const image = await pool.openImage('disk', { readOnly: true })
    const start = performance.now()
    await image.usedBytes(options).catch(error => t.match(error, aborted))
    await image.close()
    return performance.now() - start
  }
  const abortedAtOnce = () => {
    const controller = new AbortController()
    return elapsed({ signal: controller.signal, onProgress: () => controller.abort(reason) })
  }
  // The best of some: a moment in which others have the machine is longer than either.
  const [wholes, parts]: [number[], number[]] = [[], []]
  for (let i = 0; i < 5; i++) {
    wholes.push(await elapsed({}))
    parts.push(await abortedAtOnce())
  }
  const [whole, part] = [Math.min(...wholes), Math.min(...parts)]
  t.ok(part < whole * 0.7, `${Math.round(part)} ms instead of ${Math.round(whole)} ms`)
})

t.test('an aborted usedBytes looks at no more objects, though there are none', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * TiB, features: ['layering'] })
  const image = await pool.openImage('disk', { readOnly: true })
  const start = performance.now()
  await t.rejects(image.usedBytes({ signal: AbortSignal.timeout(200) }), { name: 'AbortError' })
  await image.close()
  const elapsed = performance.now() - start
  t.ok(elapsed < 5000, `${Math.round(elapsed)} ms`)
})

t.test('what is being opened when its caller aborts is closed again', async t => {
  const observer = await testPool(t)
  await observer.createImage('disk', { size: MiB })
  await observer.object('object').writeFull('')
  const [{ id } = { id: '' }] = await observer.listImages()
  const { cluster } = observer
  const header = `rbd_header.${id}`
  const openings: Record<string, [watched: string, open: (pool: Pool, options: CallOptions) => Promise<unknown>]> = {
    'an image': [header, (pool, options) => pool.openImage('disk', options)],
    'an image by its id': [header, (pool, options) => pool.openImageById(id, options)],
    'a watch': ['object', (pool, options) => pool.object('object').watch(() => {}, options)],
  }
  for (const [name, [watched, open]] of Object.entries(openings)) {
    const isClosed = async () =>
      (await run('rados', '-p', 'rbd', '-N', observer.namespace, 'listwatchers', watched)) === ''
    // Aborted at once, and at moments in which the opening may be anywhere.
    for (const delay of [0, 1, 4]) {
      const pool = await cluster.openPool('rbd', { namespace: observer.namespace })
      const controller = new AbortController()
      const call = open(pool, { signal: controller.signal })
      if (delay) await sleep(delay)
      controller.abort(reason)
      const opened = await call.then(
        () => true,
        error => !t.match(error, aborted),
      )
      if (!opened) t.ok(await until(isClosed, 10_000), `${name}, after ${delay} ms`)
      await pool.close()
    }
  }

  const controller = new AbortController()
  const call = cluster.openPool('rbd', { signal: controller.signal })
  controller.abort(reason)
  await t.rejects(call, aborted, 'a pool')
})

/** The names of the threads that are not the addon's own, of which it keeps a few for the next calls. */
function foreignThreads(): string[] {
  const names = readdirSync('/proc/self/task').map(id => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim()
    } catch {
      return 'cephkit' // has ended just now
    }
  })
  return names.filter(name => name !== 'cephkit').sort()
}

/** A listing can miss a thread while another ends, so it takes the same one twice. */
async function settledThreads(): Promise<string[]> {
  let names: string[] = []
  const isSettled = () => {
    const earlier = names
    names = foreignThreads()
    return names.length === earlier.length
  }
  await until(isSettled, 10_000)
  return names
}

t.test('a connection that is being made when its caller aborts is not made', async t => {
  await testCluster(t)
  const before = await settledThreads()
  const nobody = { mon_host: 'v2:127.0.0.1:1' }
  for (const options of [{}, { options: nobody, timeout: 2000 }]) {
    for (const delay of [0, 3, 50]) {
      const controller = new AbortController()
      const call = Cluster.connect({ ...options, signal: controller.signal })
      await sleep(delay)
      const start = performance.now()
      controller.abort(reason)
      const cluster = await call.catch(error => void t.match(error, aborted, `after ${delay} ms`))
      t.ok(performance.now() - start < 1500, 'and nobody waits for it')
      await cluster?.close()
    }
  }
  await until(() => foreignThreads().length <= before.length, 30_000)
  t.same(foreignThreads(), before, 'nor is a thread of it left')
})
