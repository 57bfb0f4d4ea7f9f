/** Targets of two real gateways, which the Dashboard makes and real initiators see. */
import t, { type Test } from 'tap'
import { type Cluster, type Image, MiB, type Pool } from '../../lib/index.js'
import { readTargetConfig } from '../../src/config.js'
import { openDriver, type Target, type TargetDriver } from '../../src/iscsi/driver.js'
import { TargetStamps } from '../../src/iscsi/target-stamps.js'
import { iqnOf } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { until } from '../support/broker.js'
import { testCluster } from '../support/cluster.js'
import type { Gateway } from '../support/gateway-lab/gateway.js'
import { gateways } from '../support/gateway-lab/lab.js'
import { Attached, capacity, discover, identity, initiate, initiator } from '../support/tgt.js'

const other = 'iqn.2001-07.org.openhvx:host:two'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }
const mutual = { user: 'target-1', password: 'sixteen-digits16' }
const login = `${chap.user}%${chap.password}`

const everybody = { initiators: [], addresses: [] }
const [first, second] = gateways

const agent = `gateway-test-${process.pid}`
let images = 0

interface Site {
  cluster: Cluster
  pool: Pool
  driver: TargetDriver
}

/** Of this test's agent, unless told otherwise. */
function driverOf(cluster: Cluster, { agentId = agent, signal = new AbortController().signal } = {}): TargetDriver {
  const config = readTargetConfig({
    ...process.env,
    STORAGE_CONTROLLER_AGENT_ID: agentId,
    ISCSI_DRIVER: 'ceph-iscsi',
    CEPH_GW_ISCSI_HOST: gateways.map(({ host }) => host).join(','),
    CEPH_GW_ISCSI_IP: gateways.map(({ ip }) => ip).join(','),
  })
  const driver = openDriver({ config, cluster, prefixes: new Set([defaultIqnPrefix]), signal })
  if (driver === undefined) throw new Error('ISCSI_DRIVER is none')
  return driver
}

/** An image, and the target that it may have. */
async function newTarget(t: Test, { pool, driver }: Site, given: Partial<Target> = {}): Promise<Target> {
  const name = `gateway-${process.pid}-${++images}`
  await pool.createImage(name, { size: 16 * MiB })
  t.teardown(async () => {
    await driver.remove(iqnOf(defaultIqnPrefix, name), true)
    await pool.removeImage(name)
  })
  return {
    iqn: iqnOf(defaultIqnPrefix, name),
    poolName: pool.name,
    name,
    identity: { serial: name, naa: `6${name.replace(/\D/g, '').padStart(31, '0')}` },
    access: everybody,
    chap: null,
    disk: { blockSize: 512, writeCache: true, discard: false },
    portals: gateways.map(({ host, ip }) => ({ host, ip })),
    ...given,
  }
}

function url({ ip }: Gateway, { iqn }: Target, login = ''): string {
  return `iscsi://${login === '' ? '' : `${login}@`}${ip}:3260/${iqn}/0`
}

/** What an agent leaves that ends just after it has begun: a target without portals, which the Dashboard cannot remove. */
async function beginTarget({ cluster, pool }: Site, { iqn }: Target, at: Gateway = first): Promise<void> {
  await new TargetStamps({ cluster, volumePool: pool.name, agent }).write(iqn, { owner: at.host })
  await at.api('PUT', `target/${iqn}`)
}

/** As a gateway itself has it, whatever the Dashboard says. */
async function configOf(iqn: string, gateway = first) {
  const { targets, epoch } = await gateway.api('GET', 'config')
  return { epoch, target: targets[iqn] }
}

/** Without what page 0x83 tells of the port. */
async function diskIdentity(address: string) {
  const { serial, page83 } = await identity(address)
  const designators = page83.split(/DEVICE DESIGNATOR #\d+/).filter(text => text.includes('Association:(0)'))
  return { serial, designators }
}

async function onImage<T>(pool: Pool, name: string, work: (image: Image) => Promise<T>): Promise<T> {
  await using image = await pool.openImage(name)
  return await work(image)
}

t.test('a target of ceph-iscsi', async t => {
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.teardown(() => pool.close())
  const site = { cluster, pool, driver: driverOf(cluster) }
  const { driver } = site

  await t.test('is found at each gateway, and has a disk of the size of the image', async t => {
    const target = await newTarget(t, site)
    t.equal(await driver.ensure(target), false, 'it was not there')
    for (const gateway of gateways) {
      t.ok((await gateway.kernelTargets()).includes(target.iqn))
      t.ok((await discover({ portal: `${gateway.ip}:3260` })).includes(target.iqn))
      t.equal(await capacity(url(gateway, target)), 16 * MiB)
    }
    t.match(await driver.list(), [{ iqn: target.iqn }])

    await t.test('that is the image', async t => {
      const disk = await Attached.open(t, url(first, target))
      await disk.do('write -P 0x5a 1M 1M')
      await disk.close()
      const data = await onImage(pool, target.name, image => image.read(1 * MiB, 1 * MiB))
      t.ok(data.equals(Buffer.alloc(MiB, 0x5a)))
    })
  })

  await t.test('is made once, and known to an agent that begins anew', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const before = await configOf(target.iqn)
    t.same(await driver.differing([target]), [])
    t.equal(await driver.ensure(target), true)
    const again = driverOf(cluster)
    t.same(await again.differing([target]), [])
    t.equal(await again.ensure(target), true)
    t.same(await configOf(target.iqn), before, 'nothing has changed')
  })

  await t.test("is left alone where it is somebody else's", async t => {
    const target = await newTarget(t, site)
    const stranger = driverOf(cluster, { agentId: `stranger-${process.pid}` })
    await stranger.ensure(target)
    await t.rejects(driver.ensure(target), { code: 'TARGET_NOT_OURS' })
    t.equal(await driver.remove(target.iqn, true), false)
    t.same(await driver.list(), [])
    t.ok((await configOf(target.iqn)).target)
    t.equal(await stranger.remove(target.iqn, false), true)
    t.notOk((await configOf(target.iqn)).target)
  })

  await t.test('tells initiators which disk it is, at each gateway and for ever', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const told = await diskIdentity(url(first, target))
    t.ok(told.serial)
    t.not(told.designators.length, 0)
    t.same(await diskIdentity(url(second, target)), told)
    await driver.remove(target.iqn, false)
    await driver.ensure(target)
    t.same(await diskIdentity(url(first, target)), told)
  })

  await t.test('is for those who are named, and know the password', async t => {
    const access = { initiators: [initiator], addresses: [] }
    const target = await newTarget(t, site, { access, chap: { ...chap, mutual } })
    await driver.ensure(target)
    t.same(await driver.differing([target]), [])
    for (const gateway of gateways) {
      const open = (password: string) =>
        `${url(gateway, target, login)}?target_user=${mutual.user}&target_password=${password}`
      t.equal(await capacity(open(mutual.password)), 16 * MiB)
      await t.rejects(capacity(open('not-the-one-16')), 'the target shows a password, too')
      await t.rejects(capacity(url(gateway, target)), /Authentication failure/)
      await t.rejects(capacity(url(gateway, target, `${chap.user}%wrong-password`)), /Authentication failure/)
      const inquire = initiate('iscsi-inq', '-i', other, url(gateway, target, login))
      await t.rejects(inquire, /Authorization failure/, 'another initiator')
    }

    await t.test('and others, and another password, when it changes', async t => {
      const both = { ...target, chap, access: { initiators: [initiator, other], addresses: [] } }
      await driver.ensure(both)
      t.same(await driver.differing([both]), [])
      await initiate('iscsi-inq', '-i', other, url(first, target, login))
      const changed = { ...both, chap: { ...chap, password: 'another-pass-1' } }
      await driver.ensure(changed)
      t.equal(await capacity(url(second, target, `${chap.user}%another-pass-1`)), 16 * MiB)
      await t.rejects(capacity(url(second, target, login)), /Authentication failure/)
    })
    await t.test('or everybody', async t => {
      const open = { ...target, chap: null, access: everybody }
      await driver.ensure(open)
      t.same(await driver.differing([open]), [])
      await initiate('iscsi-inq', '-i', 'iqn.2001-07.org.openhvx:host:three', url(first, target))
    })
  })

  await t.test('with an initiator is not removed, until it has logged out', async t => {
    const access = { initiators: [initiator], addresses: [] }
    const target = await newTarget(t, site, { access })
    await driver.ensure(target)
    const disk = await Attached.openAs(t, initiator, { portal: `${second.ip}:3260`, lun: 0 }, target.iqn)
    t.match(await driver.sessions(target.iqn), [{ initiator }])
    t.match(await driver.list(), [{ iqn: target.iqn, sessions: [{ initiator }] }])
    const blockers = [{ kind: 'initiator', name: initiator }]
    await t.rejects(driver.remove(target.iqn, false), { code: 'TARGET_BUSY', retryable: true, blockers })
    t.match(await disk.do('read 0 4k'), /read 4096\/4096/, 'it has its disk')
    await disk.close()
    t.equal(await driver.remove(target.iqn, false), true)
    t.equal(await driver.remove(target.iqn, false), false, 'absent is done')
    for (const gateway of gateways) t.notOk((await gateway.kernelTargets()).includes(target.iqn))
  })

  await t.test('with an initiator that has died is removed', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const disk = await Attached.open(t, url(first, target))
    t.equal((await driver.sessions(target.iqn))?.length, 1)
    await disk.kill()
    t.equal(await driver.remove(target.iqn, false), true)
  })

  await t.test('has the size that the image has by then', async t => {
    const target = await newTarget(t, site)
    const beside = await newTarget(t, site)
    await driver.ensure(target)
    await driver.ensure(beside)
    const grow = async (size: number) => {
      await onImage(pool, target.name, image => image.resize(size))
      t.not(await capacity(url(first, target)), size, 'gateways do not see it by themselves')
      await driver.refreshSize(target, size)
      for (const gateway of gateways) t.equal(await capacity(url(gateway, target)), size)
    }
    await grow(32 * MiB)

    await t.test('also under those who are logged in', async t => {
      const disks = [await Attached.open(t, url(first, target)), await Attached.open(t, url(first, beside))]
      await grow(48 * MiB)
      for (const disk of disks) t.match(await disk.do('read 0 4k'), /read 4096\/4096/)
      for (const disk of disks) await disk.close()
    })
  })
})

t.test('half a target of ceph-iscsi', async t => {
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.teardown(() => pool.close())
  const site = { cluster, pool, driver: driverOf(cluster) }
  const { driver } = site

  await t.test('is not left when a gateway refuses', async t => {
    const target = await newTarget(t, site)
    const elsewhere = {
      ...target,
      portals: [target.portals[0] ?? { ip: '' }, { host: second.host, ip: '192.168.77.99' }],
    }
    await t.rejects(driver.ensure(elsewhere), { code: 'ISCSI_REFUSED', message: /192\.168\.77\.99|any ip/ })
    t.notOk((await configOf(target.iqn)).target)
    for (const gateway of gateways) t.notOk((await gateway.kernelTargets()).includes(target.iqn))
    t.equal(await driver.ensure(target), false, 'and it can be made as it should be')
  })

  await t.test('is not left when its image is in another', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const iqn = `${target.iqn}-again`
    await t.rejects(driver.ensure({ ...target, iqn }), { code: 'ISCSI_REFUSED', message: /already mapped/ })
    t.notOk((await configOf(iqn)).target)
    t.equal(await capacity(url(first, target)), 16 * MiB)
  })

  await t.test('is completed, however little is there of it', async t => {
    const target = await newTarget(t, site)
    await beginTarget(site, target)
    t.match(await driver.list(), [{ iqn: target.iqn }])
    t.same(await driver.differing([target]), [target])
    t.equal(await driver.ensure(target), true)
    t.same(await driver.differing([target]), [])
    t.equal(await capacity(url(second, target)), 16 * MiB)
  })

  await t.test('is removed, however little is there of it', async t => {
    for (const gateway of gateways) {
      const target = await newTarget(t, site)
      await beginTarget(site, target, gateway)
      t.ok((await gateway.kernelTargets()).includes(target.iqn))
      t.equal(await driver.remove(target.iqn, false), true, gateway.host)
      t.notOk((await configOf(target.iqn)).target)
      for (const each of gateways) t.notOk((await each.kernelTargets()).includes(target.iqn))
      t.same(await driver.list(), [])
    }
  })

  await t.test('is left by an agent that ends in the middle, and completed by the next', async t => {
    const target = await newTarget(t, site)
    const dying = new AbortController()
    const ensured = driverOf(cluster, { signal: dying.signal }).ensure(target)
    await until('the target', async () => (await configOf(target.iqn)).target)
    dying.abort()
    await t.rejects(ensured, { code: 'ISCSI_NO_ANSWER', retryable: true })
    t.equal(await driver.ensure(target), true)
    t.same(await driver.differing([target]), [])
    t.equal(await capacity(url(second, target)), 16 * MiB)
  })

  await t.test('is what a gateway leaves that ends in the middle', async t => {
    const target = await newTarget(t, site)
    const ensured = driver.ensure(target)
    const refused = t.rejects(ensured, { message: /gateway|Dashboard/, retryable: true })
    await until('the target', async () => (await configOf(target.iqn)).target)
    await second.endApi('KILL')
    await refused
    await second.startApi()
    await driver.ensure(target)
    t.same(await driver.differing([target]), [])
    for (const gateway of gateways) t.equal(await capacity(url(gateway, target)), 16 * MiB)
  })
})

t.test('while a gateway is away', async t => {
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.teardown(() => pool.close())
  const site = { cluster, pool, driver: driverOf(cluster) }
  const { driver } = site
  const target = await newTarget(t, site)
  const later = await newTarget(t, site)
  await driver.ensure(target)
  await second.endApi('TERM')

  await t.test('its targets are at the other', async t => {
    t.notOk((await second.kernelTargets()).includes(target.iqn))
    t.equal(await capacity(url(first, target)), 16 * MiB)
    t.same(await driver.list(), [{ iqn: target.iqn, sessions: undefined }])
    t.same(await driver.differing([target]), [])
  })
  await t.test('none is made, or half made', async t => {
    await t.rejects(driver.ensure(later), { message: /gateway|Dashboard/, retryable: true })
    t.notOk((await configOf(later.iqn)).target)
  })
  await t.test('none is removed', async t => {
    await t.rejects(driver.remove(target.iqn, false), { message: /gateway|Dashboard/, retryable: true })
    t.equal(await capacity(url(first, target)), 16 * MiB)
  })
  await second.startApi()

  await t.test('nothing is forgotten', async t => {
    t.equal(await capacity(url(second, target)), 16 * MiB, 'it has its targets again when it is back')
    t.equal(await driver.ensure(target), true)
    t.equal(await driver.ensure(later), false)
    t.equal(await driver.remove(target.iqn, false), true)
  })
})
