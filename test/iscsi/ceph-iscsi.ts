/** What the driver `ceph-iscsi` does when things go wrong, on a real cluster and a fake of the Dashboard. */
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Cluster, MiB } from '../../lib/index.js'
import { readTargetConfig } from '../../src/config.js'
import { openDriver, type Target, type TargetDriver } from '../../src/iscsi/driver.js'
import { iqnOf } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { until } from '../support/broker.js'
import { testCluster } from '../support/cluster.js'
import { FakeDashboard, refusal } from '../support/fake-dashboard.js'

const host = 'iqn.1993-08.org.debian:01:one'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }
const mutual = { user: 'target-1', password: 'sixteen-digits16' }

let sites = 0

interface Site {
  fake: FakeDashboard
  driver: TargetDriver
  target: Target
  /** Another agent, or the same one once more. */
  another: (agentId: string, signal?: AbortSignal, url?: string) => TargetDriver
  agentId: string
}

/** An agent, a fake Dashboard, and an image with the target that it may have. */
async function newSite(t: Test, cluster: Cluster): Promise<Site> {
  const fake = await FakeDashboard.start(t)
  const name = `gateway-${process.pid}-${++sites}`
  const agentId = `agent-${name}`
  const another = (agentId: string, signal = new AbortController().signal, url = fake.url) => {
    const config = readTargetConfig({
      STORAGE_CONTROLLER_AGENT_ID: agentId,
      ISCSI_DRIVER: 'ceph-iscsi',
      CEPH_API_URL: url,
      CEPH_API_USER: 'agent',
      CEPH_API_PASSWORD: 'password',
      CEPH_GW_ISCSI_HOST: 'gw-1.lab,gw-2.lab',
      CEPH_GW_ISCSI_IP: '10.0.0.1,10.0.0.2',
    })
    const driver = openDriver({ config, cluster, prefixes: new Set([defaultIqnPrefix]), signal })
    if (driver === undefined) throw new Error('ISCSI_DRIVER is none')
    return driver
  }
  const pool = await cluster.openPool('rbd')
  t.teardown(() => pool.close())
  await pool.createImage(name, { size: 16 * MiB })
  const target = {
    iqn: iqnOf(defaultIqnPrefix, name),
    poolName: pool.name,
    name,
    identity: { serial: name, naa: '6b1946ac92492d2347c6235b4d261118' },
    access: { initiators: [], addresses: [] },
    chap: null,
    disk: { blockSize: 512, writeCache: true, discard: false },
    portals: [
      { host: 'gw-1.lab', ip: '10.0.0.1' },
      { host: 'gw-2.lab', ip: '10.0.0.2' },
    ],
  }
  return { fake, driver: another(agentId), target, another, agentId }
}

/** What has been asked to change since. */
function changes({ requests }: FakeDashboard): string[] {
  const asked = requests.filter(({ method, path }) => method !== 'GET' && path !== '/api/auth')
  return asked.map(({ method }) => method)
}

t.test('ceph-iscsi', async t => {
  const cluster = await testCluster(t)

  await t.test('makes a target, and after that changes only what differs', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    t.equal(await driver.ensure(target), false)
    t.match(fake.targets.get(target.iqn), {
      acl_enabled: false,
      auth: { user: '', password: '' },
      portals: target.portals,
      disks: [{ pool: 'rbd', image: target.name, wwn: '6b1946ac-9249-2d23-47c6-235b4d261118', lun: 0 }],
      clients: [],
    })
    t.same(await driver.differing([target]), [])
    t.equal(await driver.ensure(target), true)
    t.same(changes(fake), ['POST'])
    t.same(await driver.list(), [{ iqn: target.iqn, sessions: [] }])

    await t.test('who may log in', async t => {
      const shown = fake.targets.get(target.iqn)
      for (const disk of shown?.disks ?? []) disk.wwn = 'as-it-was-given-at-first'
      const narrow = {
        ...target,
        chap: { ...chap, mutual },
        access: { initiators: [host.toUpperCase()], addresses: [] },
      }
      t.same(await driver.differing([narrow]), [narrow])
      t.equal(await driver.ensure(narrow), true)
      const auth = {
        user: 'initiator-1',
        password: 'twelve-to-16',
        mutual_user: 'target-1',
        mutual_password: 'sixteen-digits16',
      }
      t.match(fake.targets.get(target.iqn), {
        acl_enabled: true,
        auth: { user: '' },
        clients: [{ client_iqn: host, luns: [{ pool: 'rbd', image: target.name }], auth }],
        disks: [{ wwn: 'as-it-was-given-at-first', lun: 0 }],
      })
      t.same(await driver.differing([narrow]), [])
      await driver.ensure(narrow)
      t.same(changes(fake), ['POST', 'PUT'])
      t.equal(await driver.ensure({ ...target, chap }), true)
      t.match(fake.targets.get(target.iqn), { acl_enabled: false, auth: { user: 'initiator-1' }, clients: [] })
    })
  })

  await t.test('leaves alone what it has not made', async t => {
    const { fake, driver, target, another, agentId } = await newSite(t, cluster)
    await another(`${agentId}-other`).ensure(target)
    t.same(await driver.list(), [])
    await t.rejects(driver.ensure(target), { code: 'TARGET_NOT_OURS', retryable: false })
    t.equal(await driver.remove(target.iqn, true), false)
    t.ok(fake.targets.has(target.iqn))
    t.same(changes(fake), ['POST'])
    t.equal(await another(`${agentId}-other`).remove(target.iqn, false), true, 'whoever has made it removes it')
    t.equal(await driver.ensure(target), false)
    t.equal(await another(agentId).ensure(target), true, 'the same agent, begun anew, knows it')
  })

  await t.test('somebody else is quicker', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    fake.failOnce('POST', /target$/, refusal('target_already_exists', 'Target already exists'))
    await t.rejects(driver.ensure(target), { code: 'TARGET_NOT_OURS' })
    fake.targets.set(target.iqn, { target_iqn: target.iqn, portals: [], disks: [], clients: [] })
    t.equal(await driver.remove(target.iqn, true), false, 'and then it is theirs')
  })

  await t.test('removes a target, and one that is not there is none', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    t.equal(await driver.remove(target.iqn, false), false)
    await driver.ensure(target)
    fake.failOnce('DELETE', /target/, refusal('target_does_not_exist', 'Target does not exist'), true)
    t.equal(await driver.remove(target.iqn, false), true)
    t.same([...fake.targets.keys()], [])
    t.same(await driver.sessions(target.iqn), [])
  })

  await t.test('waits for initiators that have left without a word', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    await driver.ensure(target)
    fake.sessions.set(target.iqn, 2)
    t.match(await driver.list(), [{ sessions: { length: 2 } }])
    const removing = driver.remove(target.iqn, false)
    await delay(1_500)
    fake.sessions.delete(target.iqn)
    t.equal(await removing, true)
  })

  await t.test('is busy while initiators stay; by force they lose the disk', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    const access = { initiators: [host], addresses: [] }
    await driver.ensure({ ...target, access })
    fake.sessions.set(target.iqn, 1)
    const [client] = fake.targets.get(target.iqn)?.clients ?? []
    if (client) client.info = { alias: '', state: { LOGGED_IN: ['gw-1.lab'] }, ip_address: ['10.1.1.1'] }
    t.same(await driver.sessions(target.iqn), [{ initiator: host, addresses: ['10.1.1.1'] }])
    await t.rejects(driver.remove(target.iqn, false), {
      code: 'TARGET_BUSY',
      retryable: true,
      blockers: [{ kind: 'initiator', name: host }],
    })
    t.match(fake.targets.get(target.iqn)?.disks, { length: 1 })
    t.equal(await driver.remove(target.iqn, true), true)
    t.match(fake.targets.get(target.iqn), { disks: [], clients: [{ client_iqn: host, luns: [] }] })
    t.match(await driver.list(), [{ iqn: target.iqn }], 'what is left is still known')
    fake.sessions.delete(target.iqn)
    t.equal(await driver.remove(target.iqn, false), true)
    t.same([...fake.targets.keys()], [])
  })

  await t.test('what a create has left of a target goes', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    const detail = `Disk rbd/${target.name} cannot be used because it is already mapped on target iqn.2001-07.test:x`
    fake.failOnce('POST', /target$/, refusal(undefined, detail), true)
    await t.rejects(driver.ensure(target), { code: 'ISCSI_REFUSED', message: new RegExp(`${detail} .HTTP 400`) })
    t.same([...fake.targets.keys()], [])
    t.same(changes(fake), ['POST', 'DELETE'])

    await t.test('or is known, and goes later', async t => {
      fake.failOnce('POST', /target$/, { status: 500 }, true)
      fake.failOnce('DELETE', /target/, { status: 500 })
      await t.rejects(driver.ensure(target), {
        retryable: true,
        message: /is not removed yet: .*it does not say why .HTTP 500/,
      })
      t.match(await driver.list(), [{ iqn: target.iqn }])
      t.equal(await driver.remove(target.iqn, false), true)
      t.same([...fake.targets.keys()], [])
    })
  })

  await t.test('a connection that breaks off leaves open what was done', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    for (const fault of ['cut', 'half'] as const) {
      fake.failOnce('POST', /target$/, fault, true)
      await t.rejects(
        driver.ensure(target),
        { code: 'ISCSI_NO_ANSWER', retryable: true, message: /is not known/ },
        fault,
      )
      t.equal(await driver.ensure(target), true, 'it was, and that is found')
      fake.failOnce('DELETE', /target/, fault, true)
      await t.rejects(driver.remove(target.iqn, false), { code: 'ISCSI_NO_ANSWER' }, fault)
      t.equal(await driver.remove(target.iqn, false), false, 'it is gone')
      t.same([...fake.targets.keys()], [])
    }
    fake.failOnce('GET', /target/, 'half')
    await t.rejects(driver.sessions(target.iqn), { code: 'ISCSI_NO_ANSWER' }, 'which is not: nobody')
  })

  await t.test('a create without an answer, that has been given up, is ours when it takes effect', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    fake.failOnce('POST', /target$/, 'cut')
    await t.rejects(driver.ensure(target), { code: 'ISCSI_NO_ANSWER' })
    t.equal(await driver.remove(target.iqn, true), false, 'there is none yet')
    for (const time of ['once', 'and once more']) {
      fake.doLate()
      t.match(await driver.list(), [{ iqn: target.iqn }], time)
      t.equal(await driver.remove(target.iqn, false), true, time)
    }

    await t.test('also where another one was made meanwhile', async t => {
      t.equal(await driver.ensure(target), false)
      t.equal(await driver.remove(target.iqn, false), true)
      fake.doLate()
      t.equal(await driver.ensure(target), true)
      t.equal(await driver.remove(target.iqn, false), true)
    })
    await t.test('and where a gateway has not answered the Dashboard', async t => {
      const { fake, driver, target } = await newSite(t, cluster)
      fake.failOnce('POST', /target$/, refusal(undefined, 'iscsi REST API timed out after 45 seconds'))
      await t.rejects(driver.ensure(target), { code: 'ISCSI_REFUSED', retryable: true })
      fake.doLate()
      t.match(await driver.list(), [{ iqn: target.iqn }])
    })
    await t.test('but not where the Dashboard has refused it', async t => {
      const { fake, driver, target } = await newSite(t, cluster)
      fake.failOnce('POST', /target$/, refusal('portals_required', 'At least 2 portals are required'))
      await t.rejects(driver.ensure(target), { code: 'ISCSI_REFUSED' })
      fake.doLate()
      t.same(await driver.list(), [], "it is somebody else's")
    })
    await t.test('nor for ever', async t => {
      await driver.differing([])
      fake.doLate()
      t.match(await driver.list(), [{ iqn: target.iqn }])
      fake.targets.delete(target.iqn)
      const now = Date.now
      t.teardown(() => {
        Date.now = now
      })
      Date.now = () => now() + 1_300_000
      await driver.differing([])
      fake.doLate()
      t.same(await driver.list(), [], "it is somebody else's")
    })
  })

  await t.test(
    'a create without an answer that takes effect while it is made again is not taken for theirs',
    async t => {
      const { fake, driver, target } = await newSite(t, cluster)
      fake.failOnce('POST', /target$/, 'cut')
      await t.rejects(driver.ensure(target), { code: 'ISCSI_NO_ANSWER' })
      fake.failOnce('POST', /target$/, refusal('target_already_exists', 'Target already exists'), true)
      await t.rejects(driver.ensure(target), { code: 'ISCSI_REFUSED', dashboardCode: 'target_already_exists' })
      t.match(await driver.list(), [{ iqn: target.iqn }])
      t.equal(await driver.ensure(target), true)
      t.equal(await driver.remove(target.iqn, false), true)
    },
  )

  await t.test('what the Dashboard does not find by its name, and lists, is there', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    await driver.ensure(target)
    fake.failOnce('GET', /target\//, { status: 404 })
    t.equal(await driver.ensure(target), true)
    t.same(changes(fake), ['POST'], 'and is not made again')
    fake.failOnce('GET', /target\//, { status: 404 })
    t.equal(await driver.remove(target.iqn, false), true)
  })

  await t.test('who is logged in to what was never made, nobody has to be asked', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    fake.targets.set(target.iqn, { target_iqn: target.iqn, portals: [], disks: [], clients: [] })
    t.same(await driver.sessions(target.iqn), [])
    t.equal(await driver.remove(target.iqn, false), false)
    t.same(fake.requests, [])
  })

  await t.test('knows what an earlier version has stamped', async t => {
    const { fake, driver, target, agentId } = await newSite(t, cluster)
    await driver.ensure(target)
    await using pool = await cluster.openPool('rbd', { namespace: 'cephkit.iscsi' })
    await pool.object(`targets/${agentId}`).setOmap({ [target.iqn]: new Date().toISOString() })
    t.match(await driver.list(), [{ iqn: target.iqn }])
    t.equal(await driver.remove(target.iqn, false), true)
    fake.doLate()
    t.same(await driver.list(), [], 'and takes that away')
  })

  await t.test('what answers something else is no Dashboard', async t => {
    const { fake, driver } = await newSite(t, cluster)
    fake.failOnce('GET', /target$/, { status: 200, body: { targets: [] } })
    await t.rejects(driver.list(), { code: 'ISCSI_REFUSED', message: /answered what it should not/ })
  })

  await t.test('follows what goes on after the answer', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    fake.isSlow = true
    t.equal(await driver.ensure(target), false)
    t.equal(await driver.remove(target.iqn, false), true)

    await t.test('to a bad end', async t => {
      await driver.ensure(target)
      fake.sessions.set(target.iqn, 1)
      await t.rejects(driver.remove(target.iqn, false), { code: 'TARGET_BUSY', message: /whose name is not known/ })
      fake.sessions.delete(target.iqn)
    })

    await t.test('and changes nothing meanwhile', async t => {
      fake.tasksEnd = false
      const before = changes(fake).length
      const removing = driver.remove(target.iqn, false)
      await delay(1_000)
      t.equal(changes(fake).length, before)
      fake.tasksEnd = true
      t.equal(await removing, true)
    })

    await t.test('but not for ever', async t => {
      const { fake, driver, target } = await newSite(t, cluster)
      fake.isSlow = true
      fake.tasksEnd = false
      const creating = driver.ensure(target)
      const looks = () => fake.requests.filter(({ path }) => path === '/api/task').length
      await until('it has been waited for', () => fake.targets.has(target.iqn) && looks() > 2)
      const now = Date.now
      t.teardown(() => {
        Date.now = now
      })
      Date.now = () => now() + 200_000
      await t.rejects(creating, { code: 'ISCSI_NO_ANSWER', retryable: true, message: /not done after 180 s/ })
    })
  })

  await t.test('nobody waits for an agent that stops', async t => {
    const { fake, target, another, agentId } = await newSite(t, cluster)
    const stopping = new AbortController()
    const driver = another(agentId, stopping.signal)
    fake.failOnce('GET', /task$/, 'silence')
    const ensuring = driver.ensure(target)
    await until('the request', () => fake.requests.some(({ path }) => path === '/api/task'))
    stopping.abort()
    await t.rejects(ensuring, { code: 'ISCSI_NO_ANSWER', message: /not waited for any more/ })
  })

  await t.test('who is logged in is not told while a gateway is away', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    await driver.ensure(target)
    const shown = { ...fake.targets.get(target.iqn), info: undefined }
    fake.failOnce('GET', /target\//, { status: 200, body: shown })
    t.equal(await driver.sessions(target.iqn), undefined)
    fake.failOnce('GET', /target$/, { status: 200, body: [shown] })
    t.same(await driver.list(), [{ iqn: target.iqn, sessions: undefined }])
  })

  await t.test('a new size is shown by a new target, where nobody is logged in', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    await driver.refreshSize(target, 32 * MiB)
    t.same(changes(fake), [], 'and where there is none, there is nothing to show')
    await driver.ensure(target)
    await driver.refreshSize(target, 32 * MiB)
    t.same(changes(fake), ['POST', 'DELETE', 'POST'])
    t.ok(fake.targets.has(target.iqn))
  })

  await t.test('refuses what gateways cannot do, before it asks them', async t => {
    const { fake, driver, target } = await newSite(t, cluster)
    const cannot = async (given: Partial<Target>, message: RegExp) => {
      await t.rejects(async () => driver.ensure({ ...target, ...given }), {
        code: 'ISCSI_REFUSED',
        retryable: false,
        message,
      })
    }
    await cannot({ access: { initiators: [], addresses: ['10.0.0.0/24'] } }, /by their names, not by their addresses/)
    await cannot({ access: { initiators: ['eui.0123456789abcdef'], addresses: [] } }, /begin with iqn, not eui/)
    await cannot({ iqn: iqnOf(defaultIqnPrefix, 'Upper') }, /has capitals/)
    await cannot({ disk: { ...target.disk, blockSize: 4096 } }, /512 bytes, not 4096/)
    await cannot({ portals: [{ ip: '10.0.0.1' }] }, /needs the name of its gateway/)
    await using pool = await cluster.openPool('rbd')
    const plain = `${target.name}-plain`
    await pool.createImage(plain, { size: MiB, features: ['layering'] })
    await cannot(
      { name: plain, iqn: iqnOf(defaultIqnPrefix, plain) },
      /rbd feature enable rbd\/\S+-plain exclusive-lock/,
    )
    t.same(changes(fake), [])
  })

  await t.test(
    'a token that has expired is replaced; one that never counts is not asked for again and again',
    async t => {
      const { fake, driver } = await newSite(t, cluster)
      await driver.list()
      fake.failOnce('GET', /target$/, { status: 401 })
      await driver.list()
      t.equal(fake.logins, 2)
      fake.failOnce('GET', /target$/, { status: 401 })
      fake.failOnce('GET', /target$/, { status: 401 })
      await t.rejects(driver.list(), { code: 'ISCSI_DENIED', message: /refuses the token that it has just given/ })
      t.equal(fake.logins, 3)
    },
  )

  await t.test('a ceph-mgr whose host does not answer is passed over', async t => {
    const silent = createServer(() => {})
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    t.teardown(() => silent.close())
    const { fake, another, agentId } = await newSite(t, cluster)
    const { port } = silent.address() as AddressInfo
    const driver = another(agentId, undefined, `https://127.0.0.1:${port},${fake.url}`)
    t.same(await driver.list(), [])
    const from = Date.now()
    t.same(await driver.list(), [])
    t.ok(Date.now() - from < 4_000, 'and not asked again while the other one answers')
  })
})
