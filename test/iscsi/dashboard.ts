/** The Ceph Dashboard as it is, of a cluster without gateways. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { Cluster } from '../../lib/index.js'
import { type DashboardSettings, readTargetConfig } from '../../src/config.js'
import { freePort } from '../../src/dev/ports.js'
import { type StartedStack, startStack, stopStack } from '../../src/dev/stack.js'
import { Dashboard } from '../../src/iscsi/dashboard.js'
import { openDriver, type Target } from '../../src/iscsi/driver.js'
import { Gateways } from '../../src/iscsi/gateways.js'
import { TargetStamps } from '../../src/iscsi/target-stamps.js'
import { iqnOf } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { cephkit } from '../support/command.js'
import { FakeDashboard } from '../support/fake-dashboard.js'
import { FakeGateway, gatewayPassword } from '../support/fake-gateway.js'
import { HttpRecorder } from '../support/http-recorder.js'
import { type OpenApi, problemsWith } from '../support/openapi.js'
import { until } from '../support/process.js'

t.setTimeout(240_000)

const accept = 'application/vnd.ceph.api.v1.0+json'
const listing = { what: 'list the targets', method: 'GET', resource: '/api/iscsi/target' } as const
const tasks = { what: 'list the tasks', method: 'GET', resource: '/api/task' } as const

t.test('the Dashboard', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-dashboard-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir, services: ['dashboard'] })
  const { url, user, password } = stack.dashboard ?? none()
  const cluster = await Cluster.connect({ configFile: stack.cephConf, keyring: stack.keyring, user: stack.user })
  t.teardown(() => cluster.close())
  const ceph = (prefix: string, options: Record<string, unknown> = {}, input?: string) =>
    cluster.mgrCommand({ prefix, ...options }, input === undefined ? {} : { input: Buffer.from(input) })
  const rbd = (...args: string[]) => promisify(execFile)('rbd', args, { env: { PATH: process.env.PATH, ...stack.env } })
  const settings: DashboardSettings = { urls: [url], user, password, accept, checksCertificate: true }

  /** What is asked goes through a recorder. */
  const open = async (t: Test, given: Partial<DashboardSettings> = {}) => {
    const recorder = await HttpRecorder.open(t, url)
    const dashboard = new Dashboard({ ...settings, urls: [recorder.url], ...given }, new AbortController().signal)
    return { recorder, dashboard }
  }

  await t.test('logs in once, for all who ask', async t => {
    const { recorder, dashboard } = await open(t)
    t.match(await Promise.all([dashboard.ask(tasks), dashboard.ask(tasks), dashboard.ask(tasks)]), {
      length: 3,
      0: { executing_tasks: [], finished_tasks: Array },
    })
    t.same(recorder.to('/api/auth'), ['POST 201'])
    t.same(recorder.to('/api/task'), ['GET 200', 'GET 200', 'GET 200'])
  })

  await t.test('a token that has expired is replaced, once for all who ask', async t => {
    const who = { who: 'mgr', name: 'mgr/dashboard/jwt_token_ttl' }
    await cluster.monCommand({ prefix: 'config set', ...who, value: '6' })
    t.teardown(() => cluster.monCommand({ prefix: 'config rm', ...who }))
    const { recorder, dashboard } = await open(t)
    await dashboard.ask(tasks)
    await delay(7_500)
    await Promise.all([dashboard.ask(tasks), dashboard.ask(tasks)])
    t.same(recorder.to('/api/auth'), ['POST 201', 'POST 201'])
    t.same(recorder.to('/api/task').sort(), ['GET 200', 'GET 200', 'GET 200', 'GET 401', 'GET 401'])
  })

  await t.test('a wrong password is not tried again at once: that would lock the account', async t => {
    const { recorder, dashboard } = await open(t, { password: 'not-the-password' })
    for (let count = 0; count < 20; count++) {
      await t.rejects(dashboard.ask(listing), {
        code: 'ISCSI_DENIED',
        retryable: false,
        message: /did not log admin in: Invalid credentials; see CEPH_API_USER and CEPH_API_PASSWORD/,
      })
    }
    t.same(recorder.to('/api/auth'), ['POST 400'])
    await t.resolves((await open(t)).dashboard.ask(tasks), 'the account is as it was')
  })

  await t.test('another version than the one asked for is taken up, and kept to', async t => {
    const { recorder, dashboard } = await open(t, { accept: 'application/vnd.ceph.api.v9.9+json' })
    await dashboard.ask(tasks)
    await dashboard.ask(tasks)
    t.same(recorder.to('/api/auth'), ['POST 415', 'POST 201'])
    t.same(recorder.to('/api/task'), ['GET 415', 'GET 200', 'GET 200'])
    t.equal(recorder.exchanges.at(-1)?.accept, accept)
  })

  await t.test('a user without a role is told to get one', async t => {
    const somebody = { username: 'reader', rolename: 'read-only', force_password: true }
    await ceph('dashboard ac-user-create', somebody, 'reader-password')
    const { dashboard } = await open(t, { user: 'reader', password: 'reader-password' })
    await t.rejects(dashboard.ask({ ...listing, what: 'make a target', method: 'POST', body: {} }), {
      code: 'ISCSI_DENIED',
      message: /may not make a target.*ac-user-set-roles USER block-manager/,
    })
  })

  await t.test('a user who goes is not let in with the token that is left', async t => {
    await ceph('dashboard ac-user-create', { username: 'guest-user', force_password: true }, 'guest-password')
    const { recorder, dashboard } = await open(t, { user: 'guest-user', password: 'guest-password' })
    await dashboard.ask(tasks)
    await ceph('dashboard ac-user-delete', { username: 'guest-user' })
    await t.rejects(dashboard.ask(tasks), { code: 'ISCSI_DENIED', message: /log guest-user in/ })
    t.same(recorder.to('/api/auth'), ['POST 201', 'POST 400'])
  })

  await t.test('no address has an active one', async t => {
    const closed = `http://127.0.0.1:${await freePort()}`
    const { dashboard } = await open(t, { urls: [closed] })
    await t.rejects(dashboard.ask(listing), { code: 'ISCSI_NO_ANSWER', retryable: true, message: /ECONNREFUSED/ })
    const { dashboard: second } = await open(t, { urls: [closed, url] })
    await t.resolves(second.ask(tasks), 'the next one has')
  })

  await t.test('the one on standby sends nobody anywhere, and takes over', async t => {
    const standby = await startStandby(t, stack, cluster)
    const { dashboard: lost } = await open(t, { urls: [standby] })
    await t.rejects(lost.ask(tasks), {
      code: 'ISCSI_NO_ANSWER',
      message: new RegExp(`on standby for ${url}/?: CEPH_API_URL`),
    })
    const { dashboard } = await open(t, { urls: [standby, url] })
    await dashboard.ask(tasks)
    await cluster.monCommand({ prefix: 'mgr fail', who: 'x' })
    await eventually('the other one', async () => {
      const { active_name } = await cluster.monCommand<{ active_name: string }>({ prefix: 'mgr dump' })
      return active_name === 'y'
    })
    await eventually('its Dashboard', async () => {
      const error = await dashboard.ask(tasks).then(
        () => undefined,
        (error: { code: string }) => error,
      )
      t.match(error ?? { code: 'ISCSI_NO_ANSWER' }, { code: /ISCSI_NO_ANSWER|ISCSI_REFUSED/ })
      return error === undefined
    })
    await eventually('the first to stand by', async () => {
      const { standbys } = await cluster.monCommand<{ standbys: { name: string }[] }>({ prefix: 'mgr dump' })
      return standbys.some(({ name }) => name === 'x')
    })
    await cluster.monCommand({ prefix: 'mgr fail', who: 'y' })
    const { dashboard: first } = await open(t, { urls: [url] })
    await eventually('the first again', () =>
      first.ask(tasks).then(
        () => true,
        () => false,
      ),
    )
  })

  await t.test('where it speaks no TLS, that is said', async t => {
    const { dashboard } = await open(t, { urls: [url.replace('http:', 'https:')] })
    await t.rejects(dashboard.ask(listing), { code: 'ISCSI_NO_ANSWER', retryable: true })
  })

  const config = readTargetConfig({
    ...stack.env,
    ISCSI_DRIVER: 'ceph-iscsi',
    CEPH_GW_ISCSI_HOST: 'gw-1.lab',
    CEPH_GW_ISCSI_IP: '10.0.0.1',
  })
  const driverAt = (t: Test, url: string, user = cluster) => {
    const stopping = new AbortController()
    t.teardown(() => stopping.abort())
    const iscsi = { ...config.iscsi, dashboard: { ...config.iscsi.dashboard, urls: [url] } }
    const driver = openDriver({
      config: { ...config, iscsi },
      cluster: user,
      prefixes: new Set([defaultIqnPrefix]),
      signal: stopping.signal,
    })
    return driver ?? none()
  }

  await t.test('no gateway is defined, or none answers', async t => {
    const driver = driverAt(t, url)
    await t.rejects(driver.list(), {
      code: 'ISCSI_REFUSED',
      dashboardCode: 'no_gateways_defined',
      retryable: false,
      message: /There are no gateways defined \(no_gateways_defined\); .*iscsi-gateway-add/,
    })
    const secret = 'gateway-password'
    const closed = `http://gateway:${secret}@127.0.0.1:${await freePort()}`
    await ceph('dashboard iscsi-gateway-add', { name: 'gw-1.lab' }, closed)
    t.teardown(() => ceph('dashboard iscsi-gateway-rm', { name: 'gw-1.lab' }))
    const error = await driver.list().catch((error: Error) => error)
    t.match(error, { dashboardCode: 'no_gateways_available', retryable: true, message: /trusted_ip_list/ })
    t.notMatch(String(error), secret)
    const { iqn } = targetOf('disk')
    const stamps = new TargetStamps({ cluster, volumePool: config.ceph.volumePool, agent: config.agentId })
    await stamps.write(iqn, {})
    await t.rejects(
      driver.sessions(iqn),
      { code: 'ISCSI_REFUSED', message: /no_gateways_available/ },
      'which is not: nobody',
    )
    await stamps.remove(iqn)
    await t.rejects(driver.ensure(targetOf('disk')), { code: 'ISCSI_REFUSED', message: /no_gateways_available/ })
  })

  await t.test('cephkit doctor says what is missing', async t => {
    const env = { ...process.env, ...stack.env, ISCSI_DRIVER: 'ceph-iscsi' }
    const examine = async (settings: Record<string, string>) => {
      const { stdout } = await cephkit(['doctor', '--json'], { ...env, ...settings })
      const { findings } = JSON.parse(stdout) as { findings: { check: string; state: string; says: string }[] }
      return (check: string) => findings.find(found => found.check === check)
    }
    const gateways = { CEPH_GW_ISCSI_HOST: 'gw-1.lab', CEPH_GW_ISCSI_IP: '10.0.0.1' }
    const noGateway = await examine(gateways)
    t.match(noGateway('dashboard'), { state: 'wrong', says: /no_gateways_defined/ })
    t.match(noGateway('portals'), { state: 'unknown' })
    const wrong = await examine({ ...gateways, CEPH_API_PASSWORD: 'not-the-password' })
    t.match(wrong('dashboard'), { state: 'wrong', says: /Invalid credentials/ })
    t.match((await examine({}))('CEPH_GW_ISCSI_HOST'), { state: 'wrong', says: /ISCSI_DRIVER=ceph-iscsi needs it/ })
  })

  await t.test('a gateway gets the password that the Dashboard has for it, and sends it', async t => {
    const gateways = new Gateways({ cluster, checksCertificate: true, signal: new AbortController().signal })
    const remember = ({ serviceUrl }: FakeGateway) =>
      ceph('dashboard iscsi-gateway-add', { name: 'gw-1.lab' }, serviceUrl)
    t.teardown(() => ceph('dashboard iscsi-gateway-rm', { name: 'gw-1.lab' }))
    for (const password of ['p@ss:word', '50%off', '%41%zz', "it's+&=~"]) {
      const gateway = await FakeGateway.start(t, password)
      await remember(gateway)
      await driverAt(t, url)
        .list()
        .catch(() => {})
      t.ok(gateway.told.length > 0 && gateway.refused === 0, `${password}, from the Dashboard`)
      const before = gateway.told.length
      await gateways.removeTarget('iqn.2001-07.test:x', undefined)
      t.equal(gateway.told.length, before + 1)
      t.equal(gateway.refused, 0, `${password}, from the agent`)
    }
    // The Dashboard sends no such one by HTTP, which gateways read as UTF-8.
    const gateway = await FakeGateway.start(t, 'pässwort€')
    await remember(gateway)
    await gateways.removeTarget('iqn.2001-07.test:x', undefined)
    t.equal(gateway.refused, 0)
  })

  await t.test('what only a gateway can do, a gateway is asked for', async t => {
    const gateways = [await FakeGateway.start(t), await FakeGateway.start(t)] as const
    const names = ['gw-1.lab', 'gw-2.lab'] as const
    for (const [index, name] of names.entries()) {
      await ceph('dashboard iscsi-gateway-add', { name }, gateways[index]?.serviceUrl)
      t.teardown(() => ceph('dashboard iscsi-gateway-rm', { name }))
    }
    const fake = await FakeDashboard.start(t)
    const target = { ...targetOf('served'), portals: names.map((host, index) => ({ host, ip: `10.0.0.${index + 1}` })) }
    await rbd('create', 'rbd/served', '--size', '16M')
    const driver = driverAt(t, fake.url)
    const [first, second] = gateways

    await t.test('to show a new size to those who are logged in', async t => {
      await driver.ensure(target)
      fake.sessions.set(target.iqn, 1)
      await driver.refreshSize(target, 2 ** 25)
      const resize = 'PUT /api/_disk/rbd/served mode=resize&pool=rbd&image=served&size=33554432&owner=gw-1.lab'
      t.same(first.told, [resize])
      t.same(second.told, [resize])
      second.does = () => [403, 'API access not available to 10.9.9.9']
      const error = await driver.refreshSize(target, 2 ** 25).catch((error: Error) => error)
      t.match(error, { code: 'ISCSI_DENIED', message: /gw-2\.lab did not .*10\.9\.9\.9; .*trusted_ip_list/ })
      t.notMatch(String(error), gatewayPassword)
      fake.sessions.delete(target.iqn)
    })

    const losePortals = () => {
      const found = fake.targets.get(target.iqn) ?? none()
      found.portals = []
    }
    first.does = request => {
      if (request.startsWith('DELETE')) fake.targets.delete(target.iqn)
      return [200, 'Target deleted.']
    }

    await t.test('to remove a target that has lost its portals, or never had any', async t => {
      losePortals()
      t.equal(await driver.ensure(target), true)
      t.match(fake.targets.get(target.iqn), { portals: { length: 2 } })
      t.equal(first.told.at(-1), `DELETE /api/target/${encodeURIComponent(target.iqn)}`)
      losePortals()
      t.equal(await driver.remove(target.iqn, false), true)
      t.same([...fake.targets.keys()], [])
    })

    await t.test('by a user of the cluster who may ask where they are', async t => {
      const caps = (mgr: string) => ['mon', 'profile rbd', 'osd', 'profile rbd pool=rbd', 'mgr', mgr]
      const entity = 'client.gateway-agent'
      await cluster.monCommand({ prefix: 'auth get-or-create', entity, caps: caps('profile rbd') })
      const { key } = await cluster.monCommand<{ key: string }>({ prefix: 'auth get-key', entity })
      const user = await Cluster.connect({
        configFile: stack.cephConf,
        user: 'gateway-agent',
        options: { key, keyring: '' },
      })
      t.teardown(() => user.close())
      const agent = driverAt(t, fake.url, user)
      await agent.ensure(target)
      losePortals()
      const error = await agent.remove(target.iqn, false).catch((error: Error) => error)
      t.match(error, { code: 'ISCSI_DENIED' })
      const [, mgr = ''] = /mgr '([^']*)'/.exec(String(error)) ?? []
      await cluster.monCommand({ prefix: 'auth caps', entity, caps: caps(mgr) })
      const again = await Cluster.connect({
        configFile: stack.cephConf,
        user: 'gateway-agent',
        options: { key, keyring: '' },
      })
      t.teardown(() => again.close())
      t.equal(await driverAt(t, fake.url, again).remove(target.iqn, false), true, 'what it says is enough')
    })
  })

  await t.test('every request is as its own OpenAPI text has it, and gets as far as the gateways', async t => {
    const fake = await FakeDashboard.start(t)
    const driver = driverAt(t, fake.url)
    await rbd('create', 'rbd/disk', '--size', '16M')
    const target = targetOf('disk')
    const chap = {
      user: 'initiator-1',
      password: 'twelve-to-16',
      mutual: { user: 'target-1', password: 'sixteen-digits16' },
    }
    await driver.ensure(target)
    await driver.ensure({ ...target, chap })
    await driver.ensure({
      ...target,
      chap,
      access: { initiators: ['iqn.2001-07.org.openhvx:host:one'], addresses: [] },
    })
    await driver.list()
    await driver.refreshSize(target, 2 ** 25)
    fake.isSlow = true
    fake.sessions.set(target.iqn, 1)
    await driver.remove(target.iqn, true)
    t.ok(['GET', 'POST', 'PUT', 'DELETE'].every(method => fake.requests.some(sent => sent.method === method)))

    const api = (await (await fetch(`${url}/docs/openapi.json`)).json()) as OpenApi
    for (const request of fake.requests) t.same(problemsWith(api, request), [], `${request.method} ${request.path}`)
    const creating = fake.requests.find(({ method, path }) => method === 'POST' && path === listing.resource)
    const odd = { ...(creating ?? none()), body: { target: target.iqn }, query: { force: 'true' } }
    t.match(problemsWith(api, odd), { length: 2 }, 'and what is not is found')

    const { dashboard } = await open(t)
    for (const { method, path, body } of fake.requests) {
      if (!path.startsWith(listing.resource)) continue
      const item = decodeURIComponent(path.slice(listing.resource.length + 1))
      const call = { what: 'try', method: method as 'GET', resource: listing.resource, ...(item && { item }), body }
      await t.rejects(
        dashboard.ask(call),
        { code: 'ISCSI_REFUSED', message: /no_gateways_defined/ },
        `${method} ${path}`,
      )
    }
  })

  // The last, as nothing speaks HTTP after it.
  await t.test('a certificate that nobody vouches for is not taken, unless the settings say so', async t => {
    const port = await freePort()
    const set = (name: string, value: string) =>
      cluster.monCommand({ prefix: 'config set', who: 'mgr', name: `mgr/dashboard/${name}`, value })
    await ceph('dashboard create-self-signed-cert')
    await set('ssl', 'true')
    await set('ssl_server_port', String(port))
    await cluster.monCommand({ prefix: 'mgr module disable', module: 'dashboard' })
    await cluster.monCommand({ prefix: 'mgr module enable', module: 'dashboard' })
    const urls = [`https://127.0.0.1:${port}`]
    const { dashboard: trusting } = await open(t, { urls, checksCertificate: false })
    await eventually('TLS', () =>
      trusting.ask(tasks).then(
        () => true,
        () => false,
      ),
    )
    const { dashboard } = await open(t, { urls })
    await t.rejects(dashboard.ask(tasks), {
      code: 'ISCSI_DENIED',
      message: /self.signed certificate; .*NODE_EXTRA_CA_CERTS/,
    })
    await t.rejects(fetch(`${urls}/api/task`), 'nor does anything else in this process take it')
  })
})

/** A second ceph-mgr, beside the one that is active. Gives the URL of its Dashboard when that answers. */
async function startStandby(t: Test, { cephConf }: StartedStack, cluster: Cluster): Promise<string> {
  const root = dirname(cephConf)
  const port = await freePort()
  await cluster.monCommand({
    prefix: 'config set',
    who: 'mgr',
    name: 'mgr/dashboard/y/server_port',
    value: String(port),
  })
  const caps = ['mon', 'allow profile mgr', 'osd', 'allow *', 'mds', 'allow *']
  await cluster.monCommand({ prefix: 'auth get-or-create', entity: 'mgr.y', caps })
  const { key } = await cluster.monCommand<{ key: string }>({ prefix: 'auth get-key', entity: 'mgr.y' })
  await mkdir(join(root, 'mgr.y'))
  await writeFile(join(root, 'mgr.y', 'keyring'), `[mgr.y]\nkey = ${key}\n`, { mode: 0o600 })
  // Not with the keyring of another stack, which the environment of tests may name.
  const env = { PATH: process.env.PATH }
  const child = spawn('ceph-mgr', ['--conf', cephConf, '--id', 'y', '-d'], { env, stdio: 'ignore' })
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  })
  const url = `http://127.0.0.1:${port}`
  await eventually(
    'the standby',
    async () => (await fetch(url, { redirect: 'manual' }).catch(() => undefined))?.status === 303,
  )
  return url
}

/** A ceph-mgr takes some seconds to begin, and many more where others are busy. */
async function eventually(what: string, look: () => Promise<boolean>): Promise<void> {
  if (!(await until(look, 100_000))) throw new Error(`waited in vain for ${what}`)
}

function none(): never {
  throw new Error('there is none')
}

function targetOf(name: string): Target {
  return {
    iqn: iqnOf(defaultIqnPrefix, name),
    poolName: 'rbd',
    name,
    identity: { serial: 'serial', naa: `6${'0'.repeat(31)}` },
    access: { initiators: [], addresses: [] },
    chap: null,
    disk: { blockSize: 512, writeCache: true, discard: false },
    portals: [{ host: 'gw-1.lab', ip: '10.0.0.1' }],
  }
}
