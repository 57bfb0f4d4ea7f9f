/** Set-ups that are broken in one way each, on a stack of their own. */
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { connect } from 'amqplib'
import t from 'tap'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { until } from '../support/broker.js'
import { cephkit } from '../support/command.js'
import { hang } from '../support/hang.js'
import { rabbitmqctl } from '../support/rabbitmqctl.js'

interface Finding {
  check: string
  state: 'ok' | 'wrong' | 'unknown'
  says: string
  todo?: string
}

t.setTimeout(250_000)

t.test('cephkit doctor', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-doctor-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir, services: ['rabbitmq'] })
  const folder = t.testdir()
  const env = { PATH: process.env.PATH, HOME: folder, ...stack.env }
  const broker = rabbitmqctl(stack)

  const ceph = async (...args: string[]) =>
    (await promisify(execFile)('ceph', ['--conf', stack.cephConf, ...args], { env })).stdout
  /** A shell does what the doctor says. */
  const obey = (todo: string | undefined) => promisify(execFile)('sh', ['-c', todo ?? 'false'], { env: adminEnv })
  const adminEnv = { ...env, CEPH_ARGS: `--conf ${stack.cephConf}` }

  const examine = async (settings: Record<string, string | undefined> = {}) => {
    const { code, stdout, stderr } = await cephkit(['doctor', '--json'], { ...env, ...settings })
    t.equal(stderr, '')
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] }
    t.equal(code, ok ? 0 : 1)
    return {
      ok,
      wrong: findings.filter(({ state }) => state === 'wrong'),
      finding: (check: string) => findings.find(found => found.check === check),
    }
  }

  await ceph('osd', 'pool', 'create', 'catalog')
  await promisify(execFile)('rbd', ['--conf', stack.cephConf, 'pool', 'init', 'catalog'], { env })

  await t.test('finds nothing where nothing is wrong, and leaves nothing behind', async t => {
    const before = await promisify(execFile)('rados', ['-p', 'rbd', 'ls', '--all'], { env: adminEnv })
    const { ok, wrong } = await examine()
    t.same(wrong, [])
    t.ok(ok)
    const after = await promisify(execFile)('rados', ['-p', 'rbd', 'ls', '--all'], { env: adminEnv })
    t.equal(after.stdout, before.stdout, 'no object')
    t.equal((await ceph('osd', 'blocklist', 'ls')).trim(), '', 'nobody is shut out')
    t.equal(await broker('-q', 'list_queues', 'name'), '', 'no queue')
    t.notMatch(await broker('-q', 'list_exchanges', 'name'), 'results', 'no exchange')
  })

  await t.test('prints a line for each check, and what to do', async t => {
    const { code, stdout } = await cephkit(['doctor'], { ...env, CEPH_CATALOG_POOL: 'golden' })
    t.equal(code, 1)
    t.match(stdout, /^✓ settings +all valid$/m)
    t.match(stdout, /^✓ broker +amqp:\/\/127\.0\.0\.1:\d+\/?, RabbitMQ [\d.]+$/m)
    t.match(stdout, /^✗ pool golden +there is no such pool\n +→ ceph osd pool create golden && rbd pool init golden$/m)
    t.notMatch(stdout, 'guest:guest')
  })

  await t.test('a pool that is missing: what it says mends it', async t => {
    const { wrong, finding } = await examine({ CEPH_CATALOG_POOL: 'golden' })
    t.same(
      wrong.map(({ check }) => check),
      ['pool golden'],
    )
    await obey(finding('pool golden')?.todo)
    t.ok((await examine({ CEPH_CATALOG_POOL: 'golden' })).ok)
  })

  await t.test('a pool that is not for RBD', async t => {
    await ceph('osd', 'pool', 'create', 'plain')
    const { wrong } = await examine({ CEPH_CATALOG_POOL: 'plain' })
    t.match(wrong, [{ check: 'pool plain', says: 'it is not made for RBD', todo: 'rbd pool init plain' }])
  })

  await t.test('a pool at its quota, in which an agent works', async t => {
    await ceph('osd', 'pool', 'create', 'small')
    await promisify(execFile)('rbd', ['--conf', stack.cephConf, 'pool', 'init', 'small'], { env })
    await promisify(execFile)('rados', ['-p', 'small', 'create', 'there'], { env: adminEnv })
    const setQuota = (objects: number) => ceph('osd', 'pool', 'set-quota', 'small', 'max_objects', String(objects))
    const isFull = async () => /full_quota/.test(await ceph('osd', 'pool', 'ls', 'detail'))
    await setQuota(1)
    await until('small to be full', isFull)
    const { wrong, finding } = await examine({ CEPH_CATALOG_POOL: 'small' })
    t.match(wrong, [{ check: 'pool small', says: /^it has reached its quota/, todo: /ceph osd pool get-quota small$/ }])
    t.match(finding('journal'), { state: 'ok' })
    await setQuota(0)
    await until('small to have room', async () => !(await isFull()))
    t.same((await examine({ CEPH_CATALOG_POOL: 'small' })).wrong, [])
    const { stdout } = await promisify(execFile)('rados', ['-p', 'small', 'ls', '--all'], { env: adminEnv })
    t.notMatch(stdout, 'cephkit', 'nothing is left')
  })

  await t.test('a mount that is none', async t => {
    t.equal((await examine()).finding('mount'), undefined, 'nothing where none is to be there')
    const { wrong } = await examine({ MOUNT_PATH: folder })
    t.match(wrong, [{ check: 'mount', says: /nothing is mounted/, todo: /cephkit mount-unit/ }])
  })

  await t.test('an addon that cannot be loaded', async t => {
    const { wrong } = await examine({ PREBUILDS_ONLY: '1' })
    t.match(wrong, [{ check: 'libraries', says: /the addon is not built\. Install librbd-dev/ }])
  })

  await t.test('no configuration file', async t => {
    const { wrong } = await examine({ CEPH_CONF: join(folder, 'none.conf') })
    t.match(wrong[0], { check: 'ceph.conf', says: /none\.conf does not exist$/, todo: /CEPH_CONF/ })
    const { finding } = await examine({ CEPH_CONF: join(folder, 'none.conf') })
    t.match(finding('journal'), { state: 'unknown', says: 'no connection' })
    t.match(finding('broker'), { state: 'ok' }, 'the broker is looked at all the same')
  })

  await t.test('a keyring of somebody else, a malformed one, and one with another key', async t => {
    const keyring = join(folder, 'keyring')
    const findings = async () => (await examine({ CEPH_KEYRING: keyring })).wrong
    await writeFile(keyring, '[client.other]\n\tkey = AQCvCbtToC6MDhAATtuT70Sl+DymPCfDSsyV4w==\n')
    t.match(await findings(), [
      { check: 'keyring', says: /has nothing for client\.admin/, todo: /ceph auth get client\.admin -o / },
      { check: 'connection' },
    ])
    await writeFile(keyring, '[client.admin]\n\tkey = none\n')
    t.match(await findings(), [{ check: 'keyring', says: /no well-formed key/ }, { check: 'connection' }])
    await writeFile(keyring, '[client.admin]\n\tkey = AQCvCbtToC6MDhAATtuT70Sl+DymPCfDSsyV4w==\n')
    const wrong = await findings()
    t.match(wrong, [{ check: 'connection', todo: /ceph auth get client\.admin/ }])
    t.notMatch(JSON.stringify(wrong), 'AQCvCbt', 'no key is shown')
  })

  await t.test('a user with too few caps: what it says mends it', async t => {
    const keyring = join(folder, 'few')
    const own = { CEPH_USER: 'few', CEPH_KEYRING: keyring }
    await ceph('auth', 'get-or-create', 'client.few', 'mon', 'allow r', 'osd', 'allow r pool=rbd', '-o', keyring)
    const { wrong } = await examine(own)
    t.match(wrong, [
      { check: 'pool rbd', says: 'client.few may not write, lock in rbd' },
      { check: 'pool catalog', says: 'client.few may not read, write, lock in catalog' },
      { check: 'journal', says: 'client.few may not write, lock in rbd/cephkit.journal' },
      { check: 'blocklist' },
    ])
    const todo = wrong.map(finding => finding.todo)
    t.same(new Set(todo).size, 1, 'one line for all of them')
    await obey(todo[0])
    t.same((await examine(own)).wrong, [])
  })

  await t.test('settings that are wrong: each is named, and the rest is looked at', async t => {
    const { wrong, finding } = await examine({
      HTTP_PORT: 'x',
      PREFETCH_COUNT: '0',
      BROKER_URL: 'http://guest:secret@b',
    })
    t.same(wrong.map(({ check }) => check).sort(), ['BROKER_URL', 'HTTP_PORT', 'PREFETCH_COUNT'])
    t.notMatch(JSON.stringify(wrong), 'secret')
    t.match(finding('broker'), { state: 'unknown' })
    t.match(finding('journal'), { state: 'ok' })
  })

  await t.test('a broker that is not there, and a wrong password', async t => {
    const gone = await examine({ BROKER_URL: 'amqp://guest:guest@127.0.0.1:1' })
    t.match(gone.wrong, [{ check: 'broker', says: /ECONNREFUSED/, todo: /is the broker up/ }])
    const url = new URL(stack.env.BROKER_URL ?? '')
    url.password = 'correct-horse'
    const refused = await examine({ BROKER_URL: url.href })
    t.match(refused.wrong, [{ check: 'broker', says: /ACCESS_REFUSED/, todo: /check user and password/ }])
    t.notMatch(JSON.stringify(refused.wrong), 'correct-horse')
    url.password = 'guest'
    url.pathname = '/nowhere'
    const nowhere = await examine({ BROKER_URL: url.href })
    t.match(nowhere.wrong, [
      {
        check: 'broker',
        says: 'there is no virtual host nowhere, or not for guest',
        todo: /rabbitmqctl add_vhost nowhere/,
      },
    ])
  })

  await t.test('a user of the broker with too few permissions: what it says mends it', async t => {
    const url = new URL(stack.env.BROKER_URL ?? '')
    Object.assign(url, { username: 'agent', password: 'agent' })
    await broker('add_user', 'agent', 'agent')
    await broker('set_permissions', '-p', '/', 'agent', '^(jobs|results)$', '^results$', '^jobs$')
    const { wrong } = await examine({ BROKER_URL: url.href })
    t.match(wrong, [{ check: 'permissions', says: /agent\.telemetry/ }])
    t.match(wrong[0]?.says, /openhvx\.storage\.tasks/)
    t.notMatch(wrong[0]?.says, /exchange 'results'/)
    const [, ...args] = (wrong[0]?.todo ?? '').split(/ (?=(?:[^']*'[^']*')*[^']*$)/)
    await broker(...args.map(argument => argument.replace(/^'(.*)'$/, '$1')))
    t.same((await examine({ BROKER_URL: url.href })).wrong, [])
    t.equal(await broker('-q', 'list_queues', 'name'), '', 'nothing has been declared')
  })

  await t.test('disturbs no agent that is at work', async t => {
    const connection = await connect(stack.env.BROKER_URL ?? '')
    const channel = await connection.createChannel()
    await channel.assertExchange('jobs', 'direct')
    await channel.assertExchange('results', 'topic')
    await channel.assertQueue('openhvx.storage.tasks', { arguments: { 'x-queue-type': 'quorum' } })
    await channel.assertQueue('all', { exclusive: true })
    await channel.bindQueue('all', 'results', '#')
    await channel.bindQueue('openhvx.storage.tasks', 'jobs', 'storage-controller-1')
    channel.sendToQueue('openhvx.storage.tasks', Buffer.from('{}'))
    t.same((await examine()).wrong, [])
    t.equal((await channel.checkQueue('all')).messageCount, 0, 'nothing was published')
    const message = await channel.get('openhvx.storage.tasks', { noAck: true })
    t.match(message, { fields: { redelivered: false } }, 'nothing was consumed')
    channel.publish('jobs', 'storage-controller-1', Buffer.from('{}'))
    await channel.checkExchange('jobs')
    const isThere = async () => (await channel.checkQueue('openhvx.storage.tasks')).messageCount === 1
    await until('the message, by the binding that is there', isThere)
    await connection.close()
  })

  await t.test('time-outs that wait for ever, or longer than a job may take', async t => {
    const conf = join(folder, 'patient.conf')
    await writeFile(conf, `${await readFile(stack.cephConf, 'utf8')}\n[client]\nrados osd op timeout = 1000\n`)
    t.match((await examine({ CEPH_CONF: conf })).wrong, [
      { check: 'time-outs', says: /rados_osd_op_timeout is 1000 s/ },
    ])
    await chmod(conf, 0o000)
  })

  await t.test('a cluster that hangs: it ends all the same', async t => {
    for (const daemon of ['osd.0', 'mon.a']) {
      const pid = Number(stack.pids[daemon])
      hang(pid)
      const begun = performance.now()
      const { ok, wrong } = await examine()
      process.kill(pid, 'SIGCONT')
      t.notOk(ok)
      t.ok(wrong.length > 0)
      t.ok(performance.now() - begun < 60_000, `${daemon}: ${((performance.now() - begun) / 1000).toFixed(1)} s`)
      if (daemon === 'mon.a')
        t.match(wrong, [{ check: 'connection', says: /no monitor has answered/, todo: /mon_host/ }])
      else t.match(wrong[0], { check: 'pool rbd' })
    }
    await until('the cluster to be back', async () => (await examine()).ok)
  })

  await t.test('a broker that hangs: it ends all the same', async t => {
    const pid = Number(stack.pids.rabbitmq)
    hang(pid)
    const { wrong } = await examine()
    process.kill(pid, 'SIGCONT')
    t.match(wrong, [{ check: 'broker', says: /ETIMEDOUT|timeout/i }])
  })
})
