/** A mount that hangs, or is dead: calls end in time, and the rest of the process goes on. On a stack of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Cluster, MiB, MountedPath, workerLoad } from '../../lib/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { run } from '../support/cluster.js'
import { FuseMount } from '../support/fuse-mount.js'
import { hang } from '../support/hang.js'
import { until } from '../support/process.js'

t.setTimeout(280_000)

const limitMs = 2000
/** Threads that one mount may have. */
const mostThreads = 4
const exiting = fileURLToPath(new URL('../support/exit-while-mount-hangs.js', import.meta.url))

const late = { name: 'TimeoutError', code: 'ETIMEDOUT', retryable: true }
const isWell = { mounted: true, writable: true }

const recovers = (mounted: MountedPath) => until(async () => (await mounted.probe()).writable, 60_000)

/** Runs a program as on Linux 5.8, which has no close_range(2): the kernel answers ENOSYS. */
const withoutCloseRange = [
  '/usr/bin/python3',
  '-c',
  `
import ctypes, os, struct, sys
LOAD, JUMP_IF, RETURN, ALLOW, ENOSYS = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050026
rules = [(LOAD, 0, 0, 0), (JUMP_IF, 0, 1, 436), (RETURN, 0, 0, ENOSYS), (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
for call in (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
    if libc.prctl(*call) != 0: raise OSError(ctypes.get_errno(), 'prctl')
if libc.syscall(436, 1000, 1000, 0) != -1 or ctypes.get_errno() != 38: raise SystemExit('there is a close_range')
os.execv(sys.argv[1], sys.argv[1:])`,
]

async function milliseconds(work: Promise<unknown>): Promise<number> {
  const begunAt = performance.now()
  await work
  return performance.now() - begunAt
}

/** Whether the rest of the process does its work while something else goes on. */
async function othersDuring(cluster: Cluster, work: Promise<unknown>): Promise<{ reads: number; loopMs: number }> {
  const pool = await cluster.openPool('rbd')
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  let isOver = false
  const over = work.finally(() => {
    isOver = true
  })
  let reads = 0
  for (; !isOver || reads < 20; reads++) {
    await readFile(fileURLToPath(import.meta.url))
    await pool.createImage(`image-${reads}`, { size: MiB })
    await pool.removeImage(`image-${reads}`)
  }
  await over
  delay.disable()
  await pool.close()
  return { reads, loopMs: delay.max / 1e6 }
}

/** The process ends, and so does its output: nothing that is left of it keeps that open. */
async function exits(t: Test, folder: string, why: string, launcher: readonly string[] = []): Promise<void> {
  for (const ending of ['return', 'exit']) {
    const [program = '', ...args] = [...launcher, process.execPath, exiting, folder, ending]
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    const ended = once(child, 'exit')
    t.equal(await text(child.stdout), '')
    t.strictSame(await ended, [3, null], `${why}: a process ends by ${ending}`)
  }
}

t.test('a mount that hangs', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-hanging-mount-'))
  t.teardown(() => stopStack(dir))
  const { cephConf, pids, env } = await startStack({ dir, services: ['mds'] })
  Object.assign(process.env, env)
  const mdsPid = Number(pids['mds.a'])
  const cluster = await Cluster.connect({ configFile: cephConf })
  t.teardown(() => cluster.close())
  const mount = await FuseMount.open(t, { cephConf })
  const mounted = new MountedPath(mount.folder, { timeout: limitMs })
  t.match(await mounted.probe(), isWell)

  await t.test('ceph-fuse stands still', async t => {
    mount.stop()
    t.teardown(() => mount.cont())
    const calls = Promise.allSettled(Array.from({ length: 1000 }, () => mounted.getQuota('/')))
    const waitedMs = milliseconds(calls)
    const { reads, loopMs } = await othersDuring(cluster, calls)
    for (const call of await calls) if (call.status === 'fulfilled') t.fail('a call on a mount that hangs')
    t.match((await calls)[999], { status: 'rejected', reason: late })
    t.ok((await waitedMs) < 5 * limitMs, `all have ended after ${(await waitedMs).toFixed(0)} ms`)
    t.ok(loopMs < 1000, `${reads} reads and images meanwhile; the event loop stood still for ${loopMs.toFixed(0)} ms`)
    // The thread of a call that has ended is busy a moment longer than that.
    t.ok(await until(() => workerLoad().busy === mostThreads, 1000), `${workerLoad().busy} threads are at it`)
    const thousand = Promise.allSettled(Array.from({ length: 1000 }, () => mounted.usage('/')))
    t.ok((await milliseconds(thousand)) < limitMs, 'those that come later fail at once')
    t.match((await thousand)[0], { status: 'rejected', reason: { ...late, message: /has not come back/ } })
    t.match(await mounted.probe(), { mounted: false, writable: false, latencyMs: null, lastError: /the mount hangs/ })
    await exits(t, mount.folder, 'ceph-fuse stands still')
    await exits(t, mount.folder, 'without close_range', withoutCloseRange)
    mount.cont()
    t.ok(await recovers(mounted), 'and all is well when it goes on')
    t.strictSame(await mounted.getQuota('/'), await mounted.getQuota('/'))
  })

  await t.test('the MDS stands still', async t => {
    hang(mdsPid)
    t.teardown(() => process.kill(mdsPid, 'SIGCONT'))
    const probe = mounted.probe()
    const tookMs = milliseconds(probe)
    const { loopMs } = await othersDuring(cluster, probe)
    t.match(await probe, { mounted: true, writable: false, latencyMs: null, lastError: /the mount hangs/ })
    t.ok((await tookMs) < 3 * limitMs, `found after ${(await tookMs).toFixed(0)} ms`)
    t.ok(loopMs < 1000)
    await t.rejects(mounted.setQuota('/', { maxFiles: 1000 }), late)
    t.match(await mounted.probe(), { mounted: true, writable: false }, 'it still answers what takes no MDS')
    await exits(t, mount.folder, 'the MDS stands still')
    process.kill(mdsPid, 'SIGCONT')
    t.ok(await recovers(mounted), 'and all is well when it goes on')
  })

  await t.test('ceph-fuse is killed', async t => {
    await mount.kill()
    t.match(await mounted.probe(), { mounted: false, writable: false, lastError: /ceph-fuse has ended/ })
    const dead = { name: 'NotMountedError', code: 'ENOTCONN' }
    await t.rejects(mounted.check(), dead)
    await t.rejects(mounted.getQuota('/'), dead)
    await t.rejects(mounted.setQuota('/', { maxFiles: 1000 }), dead)
    await t.rejects(mounted.usage('/'), dead)
    await mount.unmount()
    t.match(await mounted.probe(), { mounted: false, lastError: /nothing is mounted/ })
    await mount.mount()
    t.ok(await recovers(mounted), 'and all is well when it is mounted again')
  })

  await t.test('ceph-fuse is killed while a call hangs', async t => {
    mount.stop()
    await t.rejects(mounted.getQuota('/'), late)
    await mount.kill()
    const isOver = () =>
      mounted.usage('/').then(
        () => false,
        ({ code }) => code === 'ENOTCONN',
      )
    t.ok(await until(isOver, 60_000), 'the call that hung has come back')
    await mount.unmount()
    await mount.mount()
    t.ok(await recovers(mounted))
  })

  await t.test('another one is mounted there while a call hangs', async t => {
    mount.stop()
    await t.rejects(mounted.getQuota('/'), late)
    await t.rejects(mounted.getQuota('/'), { ...late, message: /has not come back/ })
    const endOld = await mount.replace()
    t.teardown(endOld)
    await t.resolves(mounted.getQuota('/'), 'it answers, though the call before has not come back')
    t.ok(workerLoad().busy > 0)
    t.ok(await recovers(mounted))
  })

  await t.test('no space is left', async t => {
    const limitObjects = (count: string) =>
      run('ceph', 'osd', 'pool', 'set-quota', 'cephfs.cephfs.data', 'max_objects', count)
    const unlimited = () => limitObjects('0')
    await cluster.mountFileSystem().then(async files => {
      await files.writeFile('/one', Buffer.alloc(9 * MiB))
      await files.close()
    })
    t.teardown(unlimited)
    await limitObjects('1')
    let found = await mounted.probe()
    await until(async () => {
      found = await mounted.probe()
      return !found.writable
    }, 60_000)
    t.match(found, { mounted: true, writable: false, latencyMs: null, lastError: /ENOSPC|EDQUOT/ })
    await unlimited()
    t.ok(await recovers(mounted), 'and all is well when there is')
  })
})
