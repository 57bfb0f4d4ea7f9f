/** An OSD that hangs: the process goes on, and so do the calls once it is back. On a stack of its own. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { Cluster, GiB, Image, MiB, type Pool } from '../../lib/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { hang } from '../support/hang.js'

interface Hanging {
  pool: Pool
  cephConf: string
  osdPid: number
  stop(): void
  cont(): void
}

async function stackThatHangs(t: Test, timeout?: number): Promise<Hanging> {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-stopped-osd-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir })
  const osd = Number(stack.pids['osd.0'])
  const cluster = await Cluster.connect({ configFile: stack.cephConf, timeout })
  t.teardown(() => cluster.close())
  const cont = () => process.kill(osd, 'SIGCONT')
  t.teardown(cont)
  const pool = await cluster.openPool('rbd')
  return { pool, cephConf: stack.cephConf, osdPid: osd, stop: () => hang(osd), cont }
}

function waitingCall(pool: Pool, disk: Image, i: number): Promise<unknown> {
  if (i % 2) return pool.createImage(`made-${i}`, { size: MiB })
  return i % 4 ? disk.read(i * MiB, 4096) : disk.write(i * MiB, Buffer.alloc(4096))
}

/** Milliseconds that it takes to read a small file a thousand times, by way of libuv's pool; the best of five. */
async function readFiles(path: string): Promise<number> {
  let best = Infinity
  for (let round = 0; round < 5; round++) {
    const started = performance.now()
    for (let i = 0; i < 1000; i++) await readFile(path)
    best = Math.min(best, performance.now() - started)
  }
  return best
}

t.test('200 calls wait for a stopped OSD', async t => {
  const { pool, stop, cont } = await stackThatHangs(t)
  await pool.createImage('disk', { size: GiB })
  const disk = await pool.openImage('disk')
  const path = join(t.testdir({ file: Buffer.alloc(4096) }), 'file')
  const usual = await readFiles(path)

  stop()
  let settled = 0
  const calls = Array.from({ length: 200 }, (_, i) => waitingCall(pool, disk, i).finally(() => settled++))
  const meanwhile = await readFiles(path)
  // A pool that is taken would not be slower: it would stand still.
  t.ok(meanwhile < usual * 3, `fs.readFile goes on: ${meanwhile.toFixed(0)} ms a thousand, ${usual.toFixed(0)} before`)
  t.equal(settled, 0, 'all calls wait')

  cont()
  const results = await Promise.allSettled(calls)
  t.equal(results.filter(({ status }) => status === 'rejected').length, 0, 'all calls come back')
  t.equal((await pool.listImages()).length, 101)
})

t.test('more calls than librados has in flight by itself do not stop the event loop', async t => {
  const { pool, stop, cont } = await stackThatHangs(t)
  await pool.object('x').writeFull('x')
  stop()
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const calls: Promise<unknown>[] = []
  for (let i = 0; i < 2000; i++) {
    calls.push(pool.object('x').stat())
    if (i % 100 === 0) await setImmediate()
  }
  await sleep(100)
  delay.disable()
  t.ok(delay.max < 1e9, `the loop stood still for ${(delay.max / 1e6).toFixed(0)} ms at most`)
  cont()
  await Promise.all(calls)
})

t.test('a call on an OSD that stays away rejects in time', async t => {
  const { pool, stop } = await stackThatHangs(t, 2000)
  await pool.object('x').writeFull('x')
  stop()
  const started = performance.now()
  await t.rejects(pool.object('x').read(), { name: 'TimeoutError', code: 'ETIMEDOUT', retryable: true })
  await t.rejects(pool.createImage('disk', { size: MiB }), { name: 'TimeoutError', resource: 'rbd/disk' })
  t.ok(performance.now() - started < 8000)
})

/** Each on an image of its own, that has not the exclusive lock yet. */
const changes: Record<string, (image: Image) => Promise<unknown>> = {
  resize: image => image.resize(2 * MiB),
  disableFeatures: image => image.disableFeatures(['fast-diff']),
  'metadata.set': image => image.metadata.set('key', 'value'),
  'metadata.remove': image => image.metadata.remove('key'),
  createSnapshot: image => image.createSnapshot('new'),
  'snapshot.protect': image => image.snapshot('one').protect(),
  'snapshot.rename': image => image.snapshot('one').rename('two'),
  'snapshot.rollback': image => image.snapshot('one').rollback(),
  'snapshot.remove': image => image.snapshot('one').remove(),
  setSnapshotLimit: image => image.setSnapshotLimit(9),
  sparsify: image => image.sparsify(),
  rebuildObjectMap: image => image.rebuildObjectMap(),
}

t.test('a change that the cluster has not answered in time says so, and all is answered later', async t => {
  const { pool, cephConf, stop, cont } = await stackThatHangs(t, 2000)
  const others = await Cluster.connect({ configFile: cephConf })
  t.teardown(() => others.close())
  const othersPool = await others.openPool('rbd')
  const make = async (name: string) => {
    await pool.createImage(name, { size: MiB })
    await using image = await pool.openImage(name)
    await image.createSnapshot('one')
    await image.metadata.set('key', 'old')
  }
  const objects = Array.from({ length: 200 }, (_, i) => pool.object(`object-${i}`))
  await Promise.all(objects.map(object => object.writeFull('x')))
  // It is back when it is asked why a change has failed; or it is not, and was stopped for longer than read leases usually last.
  for (const seconds of [3, 17]) {
    const waiting: [string, () => Promise<unknown>][] = []
    for (const [name, change] of Object.entries(changes)) {
      await make(`${name}-${seconds}`)
      const image = await pool.openImage(`${name}-${seconds}`)
      waiting.push([name, () => change(image)])
    }
    await make(`owned-${seconds}`)
    const owned = await pool.openImage(`owned-${seconds}`)
    await owned.write(0, Buffer.alloc(512))
    waiting.push(['createSnapshot, with the lock', () => owned.createSnapshot('new')])
    await make(`others-${seconds}`)
    const theirs = await othersPool.openImage(`others-${seconds}`)
    await theirs.write(0, Buffer.alloc(512))
    const ours = await pool.openImage(`others-${seconds}`)
    waiting.push(['resize, by who has the lock', () => ours.resize(2 * MiB)])

    stop()
    const timesOut = { name: 'TimeoutError', code: 'ETIMEDOUT', retryable: true }
    const patient = Promise.all(objects.map(({ name }) => othersPool.object(name).stat()))
    const outcomes = waiting.map(([name, change]) => t.rejects(change(), timesOut, `${name}, of ${seconds} s`))
    outcomes.push(t.resolves(patient, `the calls that have more time, of ${seconds} s`))
    await sleep(seconds * 1000)
    cont()
    await Promise.all(outcomes)
    await t.resolves(Promise.all(objects.map(object => object.stat())), `no call is lost after ${seconds} s`)
  }
})

t.test('an abort is heard at once, whatever there is to be closed', async t => {
  const { pool, stop, cont } = await stackThatHangs(t)
  await pool.createImage('disk', { size: MiB })
  await using disk = await pool.openImage('disk')
  const { listSnapshots } = Image.prototype
  const calls: Record<string, (options: { signal: AbortSignal }) => Promise<unknown>> = {
    'a listing of objects'(options) {
      stop()
      return pool.listObjects(options).next()
    },
    'a listing of descendants'(options) {
      stop()
      return disk.descendants(options)
    },
    'a look at what is missing'(options) {
      Image.prototype.listSnapshots = function (given) {
        stop()
        return listSnapshots.call(this, given)
      }
      return pool.openImage('disk', { ...options, snapshot: 'missing' })
    },
  }
  for (const [what, begin] of Object.entries(calls)) {
    const abort = new AbortController()
    const call = begin({ signal: abort.signal })
    setTimeout(() => abort.abort(), 1_000)
    const started = performance.now()
    await t.rejects(call, { name: 'AbortError' }, what)
    t.ok(performance.now() - started < 6_000, what)
    cont()
  }
  Image.prototype.listSnapshots = listSnapshots
})

const hanging = fileURLToPath(new URL('../support/exit-while-hanging.js', import.meta.url))

t.test('a worker thread that ends leaves librbd the data that it still sends', async t => {
  const { pool, cephConf, stop, cont } = await stackThatHangs(t)
  const size = 64 * MiB
  await pool.createImage('disk', { size })
  const worker = new Worker(hanging, { workerData: ['a large write', cephConf] })
  await once(worker, 'message')
  stop()
  worker.postMessage('go on')
  await once(worker, 'message')
  const ending = worker.terminate()
  // Longer than the end of a thread waits for what it can leave behind.
  await sleep(7000)
  cont()
  await ending
  await using disk = await pool.openImage('disk', { readOnly: true })
  t.ok((await disk.read(0, size)).equals(Buffer.alloc(size, 'x')))
})

t.test('a process exits at once, or within a few seconds, whatever hangs', async t => {
  const { pool, cephConf, osdPid, cont } = await stackThatHangs(t)
  await pool.createImage('disk', { size: GiB })
  for (const calls of ['no calls', 'reads', 'writes', 'blocking calls', 'reads of a worker thread']) {
    const started = performance.now()
    const child = spawn(process.execPath, [hanging, calls, String(osdPid)], {
      env: { ...process.env, CEPH_CONF: cephConf },
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    t.strictSame(await once(child, 'exit'), [3, null], `${calls}: no crash, no hang`)
    // Two limits of five seconds each at most, where a worker thread ends too, and what it takes to start.
    t.ok(performance.now() - started < 30_000)
    cont()
  }
})
