import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { connect } from 'amqplib'
import t, { type Test } from 'tap'
import { type Stack, stackStatus, startStack, stopStack } from '../../src/dev/stack.js'
import { hang } from '../support/hang.js'

const run = promisify(execFile)

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

// Real daemons, some dozens of times.
t.setTimeout(280_000)

t.test('up gives a cluster, a broker and an iSCSI target to programs that know nothing of cephkit', async t => {
  const dir = folder(t)
  const stack = await startStack({ dir, services: ['rabbitmq', 'tgt'] })
  t.equal(stack.found, 'nothing')

  await runWith(stack, 'rbd', 'create', 'disk', '--size', '1G')
  t.match(await runWith(stack, 'rbd', 'ls'), /^disk$/m)
  t.match(await runWith(stack, 'ceph', 'health'), /HEALTH_OK/)
  t.match(await runWith(stack, 'rbd', 'pool', 'stats', 'catalog'), /Total Images: 0/, 'the catalog pool is there')

  await runWith(stack, 'tgtadm', ...tgt('target', 'new', '--tid', '1', '--targetname', 'iqn.2001-07.test:disk'))
  const lun = ['--tid', '1', '--lun', '1', '--bstype', 'rbd', '--backing-store', 'rbd/disk']
  await runWith(stack, 'tgtadm', ...tgt('logicalunit', 'new', ...lun, '--bsopts', `conf=${stack.cephConf};id=admin`))
  t.match(await runWith(stack, 'tgtadm', ...tgt('target', 'show')), /Size: 1074 MB/)

  const status = await stackStatus(dir)
  t.match(status, { state: 'running', health: { status: 'HEALTH_OK', checks: [] } })
  t.strictSame(status.daemons.map(({ name }) => name).sort(), Object.keys(stack.pids).sort())
  t.ok(
    status.daemons.every(({ alive }) => alive),
    'all daemons live',
  )

  const addresses = listenedOn(Object.values(stack.pids))
  t.ok(addresses.length >= 6, 'daemons listen')
  t.same(
    addresses.filter(address => !/7F$|^0{24}01000000$/.test(address)),
    [],
    'and on loopback only',
  )

  const ended = await stopStack(dir)
  t.strictSame(ended.sort(), Object.keys(stack.pids).sort())
  t.notOk(anyAlive(stack), 'all of it has ended')
  t.notOk(existsSync(dir), 'its folder is gone')
  t.match(await stackStatus(dir), { state: 'absent', daemons: [] })
})

/** In hexadecimal digits, as the kernel has them: 127.0.0.1 ends with 7F. */
function listenedOn(pids: number[]): string[] {
  const files = pids.flatMap(pid => readdirSync(`/proc/${pid}/fd`).map(fd => linkOf(`/proc/${pid}/fd/${fd}`)))
  const sockets = new Set(files.flatMap(file => /^socket:\[(\d+)\]$/.exec(file)?.[1] ?? []))
  const lines = ['tcp', 'tcp6'].flatMap(kind => readFileSync(`/proc/net/${kind}`, 'utf8').trim().split('\n').slice(1))
  const listen = '0A'
  return lines.flatMap(line => {
    const [, local = '', , state, , , , , , socket = ''] = line.trim().split(/\s+/)
    return state === listen && sockets.has(socket) ? [local.slice(0, local.indexOf(':'))] : []
  })
}

/** Of a descriptor that may be closed by now. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

t.test('a cluster is at the address that it is given', async t => {
  const dir = folder(t)
  const address = '127.0.0.2'
  const stack = await startStack({ dir, address, services: ['mds', 'radosgw', 'dashboard'] })
  for (const { url } of [stack.dashboard, stack.radosgw].filter(service => service !== undefined)) {
    t.equal(new URL(url).hostname, address)
    t.equal((await fetch(url)).status, 200)
  }
  const dump = await Promise.all(['mon', 'osd', 'fs'].map(what => runWith(stack, 'ceph', what, 'dump')))
  t.match(dump.join('\n'), /127\.0\.0\.2:\d+/)
  t.notMatch(dump.join('\n'), /127\.0\.0\.1:\d+/, 'and nowhere else')
  await t.rejects(startStack({ dir, address: '127.0.0.1' }), { code: 'CONFLICT', message: /runs at 127\.0\.0\.2/ })
  t.match(await startStack({ dir }), { found: 'running' })
  await t.rejects(startStack({ dir: folder(t), address: 'localhost' }), { code: 'INVALID_OPTION' })
})

t.test('up on a running stack', async t => {
  const dir = folder(t)
  const stack = await startStack({ dir })

  await t.test('returns it', async t => {
    const again = await startStack({ dir })
    t.match(again, { found: 'running', added: [], fsid: stack.fsid, pids: stack.pids })
  })
  await t.test('leaves it as it was when the manager with the dashboard fails to start', async t => {
    await runWith(stack, 'rbd', 'create', 'kept', '--size', '1M')
    const tried = join(mkdtempSync(join(tmpdir(), 'cephkit-test-')), 'tried')
    t.teardown(() => rmSync(dirname(tried), { recursive: true }))
    usePath(t, { 'ceph-mgr': `[ -e ${tried} ] && exec /usr/bin/ceph-mgr "$@"; touch ${tried}; exit 3` })
    await t.rejects(startStack({ dir, services: ['dashboard'] }), { message: /^mgr\.x ended with status 3/ })
    t.match(await stackStatus(dir), { state: 'running', health: { status: 'HEALTH_OK', checks: [] } })
    t.match(
      await runWith(stack, 'ceph', 'mgr', 'services', '--format', 'json'),
      /^\s*\{\}\s*$/,
      'without the dashboard',
    )
    t.match(await startStack({ dir }), { found: 'running', fsid: stack.fsid })
    t.match(await runWith(stack, 'rbd', 'ls'), /^kept$/m)
  })
  await t.test('adds the services that it lacks', async t => {
    const grown = await startStack({ dir, services: ['tgt', 'mds'] })
    const { 'mgr.x': _, ...others } = stack.pids
    t.match(grown, { found: 'running', added: ['mds', 'tgt'], fsid: stack.fsid, pids: others })
    t.match(await runWith(grown, 'ceph', 'fs', 'ls'), /name: cephfs/)
    t.match(grown.tgt?.portal, /^127\.0\.0\.1:\d+$/)
  })
  await t.test('keeps the services that it is not asked for', async t => {
    t.match(await startStack({ dir, services: ['tgt'] }), { added: [], cephfs: { name: 'cephfs' } })
  })
  await t.test('adds the dashboard, for which the manager alone is started anew', async t => {
    const { dashboard, pids } = await startStack({ dir, services: ['dashboard'] })
    const page = await fetch(`${dashboard?.url}/docs/openapi.json`)
    t.match(await page.json(), { openapi: /^3/ })
    const { 'mgr.x': manager, ...others } = stack.pids
    t.match(pids, others)
    t.not(pids['mgr.x'], manager)
  })
  await t.test('refuses what cannot be changed', async t => {
    await t.rejects(startStack({ dir, osds: 2 }), { name: 'StackConflictError', code: 'CONFLICT' })
    const conflicts: [options: object, running: string][] = [
      [{ osds: 2 }, 'with 1 OSD'],
      [{ store: 'bluestore' }, 'with store memstore'],
      [{ osdBytes: 2 ** 30 }, 'with OSD size 8 GiB'],
      [{ fastCommits: false }, 'without slow commits'],
    ]
    for (const [options, running] of conflicts) {
      const message = `the stack runs ${running}, which cannot be changed: take it down first`
      await t.rejects(startStack({ dir, ...options }), { message })
    }
    t.match(await stackStatus(dir), { state: 'running' })
  })
  await t.test('leaves it as it was when a service fails to start', async t => {
    usePath(t, { radosgw: 'echo no such realm >&2; exit 3' })
    await t.rejects(startStack({ dir, services: ['radosgw'] }), {
      name: 'DaemonFailedError',
      message: 'radosgw ended with status 3\n  no such realm',
    })
    t.match(await stackStatus(dir), { state: 'running', health: { status: 'HEALTH_OK' } })
  })
  await t.test('takes another port for a service when another program takes the first', async t => {
    const port = '$(echo "$*" | sed "s/.*-port \\([0-9]*\\).*/\\1/")'
    usePath(t, { epmd: `${takeOnce(t, port)}; exec /usr/bin/epmd "$@"` })
    const { brokerUrl = '' } = await startStack({ dir, services: ['rabbitmq'] })
    const connection = await connect(brokerUrl)
    await connection.close()
  })
  await t.test('status says that the cluster does not answer', async t => {
    const monitor = stack.pids['mon.a'] ?? 0
    hang(monitor)
    t.teardown(() => process.kill(monitor, 'SIGCONT'))
    const checks = ['the cluster has not answered in 5 s']
    t.match(await stackStatus(dir), { state: 'running', health: { status: 'unknown', checks } })
  })
})

t.test('stacks run side by side, and each ends alone', async t => {
  const dirs = [folder(t), folder(t)] as const
  const [first, second] = await Promise.all([
    startStack({ dir: dirs[0] }),
    startStack({ dir: dirs[1], osds: 2, store: 'bluestore' }),
  ])
  t.not(first.fsid, second.fsid)
  await runWith(first, 'rbd', 'create', 'only-here', '--size', '1M')

  // A stopped daemon takes no notice of SIGTERM.
  hang(first.pids['osd.0'] ?? 0)
  const started = performance.now()
  await stopStack(dirs[0])
  t.ok(performance.now() - started < 5_000, 'down did not wait for a stopped daemon in vain')

  t.notOk(anyAlive(first))
  t.equal(await runWith(second, 'rbd', 'ls'), '')
  const stores = JSON.parse(await runWith(second, 'ceph', 'osd', 'metadata', '--format', 'json'))
  t.match(stores, [{ osd_objectstore: 'bluestore' }, { osd_objectstore: 'bluestore' }])
})

t.test('two ups at once make one stack', async t => {
  const dir = folder(t)
  const outcomes = await Promise.all([1, 2].map(() => cephkit('dev', 'up', '--dir', dir, '--json')))
  const stacks = outcomes.map(({ stdout }) => JSON.parse(stdout))
  t.strictSame(stacks.map(({ found }) => found).sort(), ['nothing', 'running'])
  t.strictSame(stacks[0].pids, stacks[1].pids)
})

t.test('what a crash has left is cleaned up by the next up', async t => {
  await t.test('when some daemons were killed', async t => {
    const dir = folder(t)
    const dead = await startStack({ dir, services: ['tgt'] })
    for (const daemon of ['osd.0', 'tgtd']) process.kill(dead.pids[daemon] ?? 0, 'SIGKILL')
    await until(async () => (await stackStatus(dir)).state === 'broken')
    t.strictSame(
      (await stackStatus(dir)).daemons
        .filter(({ alive }) => !alive)
        .map(({ name }) => name)
        .sort(),
      ['osd.0', 'tgtd'],
    )

    const stack = await startStack({ dir })
    t.equal(stack.found, 'leftovers')
    t.not(stack.fsid, dead.fsid)
    t.notOk(anyAlive(dead), 'the rest was ended')
    t.match(await stackStatus(dir), { state: 'running' })
  })
  await t.test('when up itself was killed in the middle', async t => {
    const dir = folder(t)
    const up = start('dev', 'up', '--dir', dir, '--rabbitmq')
    await until(() => 'rabbitmq' in recordedPids(dir) && 'mon.a' in recordedPids(dir))
    up.kill('SIGKILL')
    await once(up, 'exit')
    const orphans = recordedPids(dir)
    await until(async () => (await stackStatus(dir)).state === 'broken')

    const stack = await startStack({ dir })
    t.equal(stack.found, 'leftovers')
    t.strictSame(Object.values(orphans).filter(isRunning), [])
    t.strictSame(markedWith(stack.fsid).length >= 3, true)
    await stopStack(dir)
    t.strictSame(markedWith(stack.fsid), [])
  })
  await t.test('when it was killed while it added a service', async t => {
    const dir = folder(t)
    await startStack({ dir })
    const up = start('dev', 'up', '--dir', dir, '--rabbitmq')
    await until(() => 'rabbitmq' in recordedPids(dir))
    up.kill('SIGKILL')
    await once(up, 'exit')
    // Once the lock of who was killed is free, and not by taking a broker that is not ready yet for one that is.
    await until(async () => (await stackStatus(dir)).state !== 'starting')
    t.match(await stackStatus(dir), { state: 'broken' })
    t.match(await startStack({ dir }), { found: 'leftovers' })
  })
  await t.test('when it was killed before it could note what it had started', async t => {
    const dir = folder(t)
    const stack = await startStack({ dir })
    const file = join(dir, 'cephkit-stack.json')
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), state: 'starting', daemons: [] }))
    await stopStack(dir)
    t.notOk(anyAlive(stack))
  })
  await t.test('when it was killed before it could write anything', async t => {
    const dir = folder(t)
    mkdirSync(dir)
    writeFileSync(join(dir, 'lock'), '')
    t.strictSame(await stopStack(dir), [])
    t.notOk(existsSync(dir))
  })
})

t.test('an up that is interrupted takes down what it has started', async t => {
  const dir = folder(t)
  const up = start('dev', 'up', '--dir', dir)
  let said = ''
  up.stderr?.on('data', text => {
    said += text
  })
  await until(() => 'mon.a' in recordedPids(dir))
  const pids = recordedPids(dir)
  t.match(await stackStatus(dir), { state: 'starting' })
  up.kill('SIGINT')
  const [status] = await once(up, 'exit')
  t.equal(status, 1)
  t.equal(said, 'cephkit: SIGINT: gave up, and took down what had been started\n')
  t.strictSame(Object.values(pids).filter(isRunning), [])
  t.notOk(existsSync(dir))
})

t.test('a daemon that fails ends the start, and is named with its last words', async t => {
  const dir = folder(t)
  usePath(t, { 'ceph-osd': 'case "$*" in *--mkfs*) exec /usr/bin/ceph-osd "$@";; esac; echo no room; exit 7' })
  const error = await startStack({ dir, services: ['tgt'] }).catch(error => error)
  t.match(error, { name: 'DaemonFailedError', code: 'DAEMON_FAILED', daemon: 'osd.0' })
  t.match(error.message, /^osd\.0 ended with status 7\n(.*\n)* {2}no room$/)
  t.notOk(existsSync(dir), 'nothing is left')
})

t.test('a start that fails is told also where it cannot be cleaned up after', async t => {
  const dir = folder(t)
  usePath(t, {
    'ceph-osd': '/usr/bin/ceph-osd "$@"; touch made',
    monmaptool: 'until [ -e made ]; do sleep 0.1; done; rm -r "$PWD"; exit 7',
  })
  await t.rejects(startStack({ dir }), {
    name: 'CleanUpError',
    cause: { cause: { name: 'DaemonFailedError', daemon: 'mon.a' } },
    message: /^mon\.a could not be made ready: monmaptool ended with status 7\nand then could not clean up: ENOENT/,
  })
})

t.test('a port that another program takes first is replaced by another', async t => {
  const dir = folder(t)
  const port = '$(echo "$*" | sed "s/.*v2:127.0.0.1:\\([0-9]*\\).*/\\1/")'
  usePath(t, { monmaptool: `${takeOnce(t, port)}; exec /usr/bin/monmaptool "$@"` })
  const stack = await startStack({ dir })
  t.match(await runWith(stack, 'ceph', 'health'), /HEALTH_OK/)
})

t.test('a missing program is one line that names its package', async t => {
  const dir = folder(t)
  usePath(t, {}, '/nonexistent')
  await t.rejects(startStack({ dir }), {
    name: 'MissingProgramsError',
    packages: ['ceph-mon', 'ceph-mgr', 'ceph-osd', 'ceph-base', 'ceph-common'],
    message: /^not installed: ceph-mon, .*\(apt-get install .*ceph-mon ceph-mgr.*\)$/,
  })
  t.notOk(existsSync(dir))
})

t.test('a process that has got the number of a dead daemon is left alone', async t => {
  const dir = folder(t)
  const stranger = spawn('sleep', ['60'])
  t.teardown(() => stranger.kill())
  const daemon = { name: 'osd.0', pid: stranger.pid, startTime: 1, ports: [] }
  mkdirSync(dir)
  writeFileSync(
    join(dir, 'cephkit-stack.json'),
    JSON.stringify({ id: 'none', state: 'ready', root: dir, daemons: [daemon] }),
  )
  t.strictSame(await stopStack(dir), [])
  t.ok(isRunning(stranger.pid ?? 0))
})

t.test('a folder that holds something else is left alone', async t => {
  const dir = folder(t)
  mkdirSync(dir)
  writeFileSync(join(dir, 'thesis.txt'), 'irreplaceable')
  writeFileSync(join(dir, 'lock'), '')
  await t.rejects(startStack({ dir }), { name: 'NotAStackError', code: 'NOT_A_STACK' })
  await t.rejects(stopStack(dir), { name: 'NotAStackError' })
  t.strictSame(readdirSync(dir), ['lock', 'thesis.txt'])
})

t.test('down where nothing is does nothing', async t => {
  t.strictSame(await stopStack(folder(t)), [])
})

t.test('a path that is too long for a socket and has odd characters works', async t => {
  const dir = join(folder(t), `it's a "long" path, ${'x'.repeat(120)}`, 'dev')
  const stack = await startStack({ dir })
  t.ok(stack.cephConf.length < 60, 'the stack is told a short one')
  t.match(await runWith(stack, 'ceph', 'health'), /HEALTH_OK/)
  const exports = (await cephkit('dev', 'env', '--dir', dir)).stdout
  t.match((await run('sh', ['-c', `${exports} rbd pool stats`])).stdout, /Total Images/)
  await stopStack(dir)
  t.notOk(readdirSync('/tmp').includes(basename(dirname(stack.cephConf))), 'the short one is gone too')
  t.notOk(existsSync(dir))
})

t.test('wrong options are refused before anything is done', async t => {
  const dir = folder(t)
  const wrong: [options: object, message: RegExp][] = [
    [{ osds: 0 }, /^osds must be a number from 1 to 16, not 0$/],
    [{ osds: 1.5 }, /osds/],
    [{ osdBytes: 2 ** 29 }, /^OSD size in GiB must be at least 1, and whole bytes, not 0\.5$/],
    [{ store: 'disk' }, /memstore or bluestore, not "disk"/],
    [{ services: ['mail'] }, /of mds, radosgw, dashboard, rabbitmq, tgt, not "mail"/],
    [{ dir: '' }, /dir must be a path/],
    [{ dir: undefined }, /dir must be a path/],
  ]
  for (const [options, message] of wrong) {
    await t.rejects(startStack({ dir, ...options }), { name: 'StackOptionError', message })
  }
  t.notOk(existsSync(dir))
})

t.test('commands that fail say so in one line', async t => {
  const dir = folder(t)
  const failed = await cephkit('dev', 'env', '--dir', dir).catch(error => error)
  t.match(failed, { code: 1, stdout: '', stderr: `cephkit: the stack in ${dir} is absent: cephkit dev up\n` })
  t.match(await cephkit('dev', 'status', '--dir', dir).catch(error => error), { code: 1, stdout: `${dir}: absent\n` })
})

/** A name for a state folder; what is started there is taken down after the test. */
function folder(t: Test): string {
  const parent = mkdtempSync(join(tmpdir(), 'cephkit-test-'))
  const dir = join(parent, 'dev')
  t.teardown(async () => {
    await stopStack(dir).catch(() => {})
    rmSync(parent, { recursive: true })
  })
  return dir
}

/** Puts shell scripts in front of the programs of the same name. */
function usePath(t: Test, scripts: Record<string, string>, rest = process.env.PATH): void {
  const stubs = mkdtempSync(join(tmpdir(), 'cephkit-test-'))
  const before = process.env.PATH
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(stubs, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(stubs, name), 0o755)
  }
  process.env.PATH = `${stubs}:${rest}`
  t.teardown(() => {
    process.env.PATH = before
    rmSync(stubs, { recursive: true })
  })
}

/** What a script does to take a port of 127.0.0.1 the first time that it runs, until the stack is taken down. */
function takeOnce(t: Test, port: string): string {
  const once = mkdtempSync(join(tmpdir(), 'cephkit-test-'))
  t.teardown(() => rmSync(once, { recursive: true }))
  const listen = `require('net').createServer().listen(process.argv[1], '127.0.0.1')`
  return `[ -e ${once}/done ] || { ${process.execPath} -e "${listen}" ${port} >/dev/null 2>&1 & sleep 0.5; touch ${once}/done; }`
}

async function runWith(stack: Stack, program: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(program, args, { env: { ...process.env, ...stack.env } })
  return stdout
}

function tgt(mode: string, op: string, ...args: string[]): string[] {
  return ['-C', '1', '--lld', 'iscsi', '--mode', mode, '--op', op, ...args]
}

function cephkit(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, [CLI, ...args])
}

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [CLI, ...args])
}

function recordedPids(dir: string): Record<string, number> {
  const file = join(dir, 'cephkit-stack.json')
  if (!existsSync(file)) return {}
  const { daemons } = JSON.parse(readFileSync(file, 'utf8')) as { daemons: { name: string; pid: number }[] }
  return Object.fromEntries(daemons.map(({ name, pid }) => [name, pid]))
}

function anyAlive({ pids }: Stack): boolean {
  return Object.values(pids).some(isRunning)
}

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** Processes whose environment tells that they belong to the stack, daemons or not. */
function markedWith(fsid: string): string[] {
  const isMarked = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`CEPHKIT_STACK=${fsid}`)
    } catch {
      return false
    }
  }
  return readdirSync('/proc').filter(entry => /^\d+$/.test(entry) && isMarked(entry))
}

async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error('it did not come to pass in 30 s')
    await sleep(10)
  }
}
