/** An MDS that hangs, or is gone: calls end in time, and the rest of the process goes on. On a stack of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Cluster, MiB } from '../../lib/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { hang } from '../support/hang.js'
import { until } from '../support/process.js'

const limitMs = 3000

async function stackWithMds(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-stopped-mds-'))
  t.teardown(() => stopStack(dir))
  const { pids, cephConf } = await startStack({ dir, services: ['mds'] })
  const mdsPid = Number(pids['mds.a'])
  const cluster = await Cluster.connect({ configFile: cephConf, timeout: limitMs })
  t.teardown(() => cluster.close())
  const cont = () => process.kill(mdsPid, 'SIGCONT')
  return { cluster, cephConf, mdsPid, stop: () => hang(mdsPid), cont }
}

const late = { name: 'TimeoutError', code: 'ETIMEDOUT', retryable: true }

async function milliseconds(work: Promise<unknown>): Promise<number> {
  const begunAt = performance.now()
  await work
  return performance.now() - begunAt
}

t.test('an MDS that hangs', async t => {
  t.setTimeout(120_000)
  const { cluster, cephConf, stop, cont } = await stackWithMds(t)
  t.teardown(cont)
  const files = await cluster.mountFileSystem()
  await files.writeFile('/before', 'text')
  const pool = await cluster.openPool('rbd')
  stop()
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const calls = Promise.allSettled(Array.from({ length: 100 }, (_, i) => files.mkdir(`/made-${i}`)))
  const waitedMs = milliseconds(calls)
  await Promise.all(Array.from({ length: 20 }, (_, i) => pool.createImage(`image-${i}`, { size: MiB })))
  t.pass('calls of RBD that block have threads left')
  const abort = new AbortController()
  const aborted = files.stat('/made-1', { signal: abort.signal })
  abort.abort('enough')
  t.ok((await milliseconds(t.rejects(aborted, { name: 'AbortError', cause: 'enough' }))) < 1000)

  for (const result of await calls) t.match(result, { status: 'rejected', reason: late })
  delay.disable()
  t.ok((await waitedMs) < 3 * limitMs, 'in time')
  t.ok(delay.max < 1e9, `the event loop stood still for ${(delay.max / 1e6).toFixed(0)} ms at most`)
  await t.rejects(
    files.stat('/made-1'),
    { ...late, message: /too many calls/ },
    'and so does what would begin after them',
  )
  await t.rejects(cluster.mountFileSystem(), { ...late, message: /is an MDS active/ }, 'a mount')
  await t.rejects(files.close(), late, 'and the unmount')
  await t.rejects(cluster.close(), late, "and the cluster's end")
  t.same([files.closed, cluster.closed], [true, true])

  cont()
  const ended = () =>
    cluster.close().then(
      () => true,
      () => false,
    )
  t.ok(await until(ended, 60_000), 'which comes with the MDS')
  await using other = await Cluster.connect({ configFile: cephConf })
  await using again = await other.mountFileSystem()
  t.equal((await again.readFile('/before')).toString(), 'text')
})

t.test('an MDS that hangs for a while', async t => {
  t.setTimeout(120_000)
  const { cluster, stop, cont } = await stackWithMds(t)
  t.teardown(cont)
  await using files = await cluster.mountFileSystem()
  await files.writeFile('/before', 'text')
  stop()
  const calls = Array.from({ length: 100 }, (_, i) => files.mkdir(`/made-${i}`))
  await sleep(500)
  cont()
  await Promise.all(calls)
  t.equal((await files.readdir('/')).length, 101)
})

t.test('no MDS at all', async t => {
  t.setTimeout(120_000)
  const { cluster, mdsPid } = await stackWithMds(t)
  process.kill(mdsPid, 'SIGKILL')
  const took = await milliseconds(t.rejects(cluster.mountFileSystem(), late))
  t.ok(took < 2 * limitMs, `${took.toFixed(0)} ms`)
})

const exiting = fileURLToPath(new URL('../support/exit-while-mds-hangs.js', import.meta.url))

t.test('a process exits within a few seconds, whatever hangs', async t => {
  t.setTimeout(240_000)
  const { cephConf, mdsPid, cont } = await stackWithMds(t)
  for (const calls of ['no calls', 'calls', 'reads', 'unwritten data']) {
    const child = spawn(process.execPath, [exiting, calls, String(mdsPid)], {
      env: { ...process.env, CEPH_CONF: cephConf },
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: 100_000,
      killSignal: 'SIGKILL',
    })
    t.strictSame(await once(child, 'exit'), [3, null], `${calls}: no crash, no hang`)
    cont()
  }
})
