/** What jobs do about targets on gateways, through an agent, on a fake of the Dashboard. */
import t, { type Test } from 'tap'
import { TestSite, until } from '../support/broker.js'
import { cephkit } from '../support/command.js'
import { FakeDashboard, refusal } from '../support/fake-dashboard.js'

const host = 'iqn.1993-08.org.debian:01:one'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }
const other = { host: 'gw-9.lab', ip: '10.0.0.9' }

async function start(t: Test) {
  const fake = await FakeDashboard.start(t)
  const environment = {
    ISCSI_DRIVER: 'ceph-iscsi',
    CEPH_API_URL: fake.url,
    CEPH_API_USER: 'agent',
    CEPH_API_PASSWORD: 'dashboard-password',
    CEPH_GW_ISCSI_HOST: 'gw-1.lab,gw-2.lab',
    CEPH_GW_ISCSI_IP: '10.0.0.1,10.0.0.2',
    CEPH_TARGET_USER: 'settings-user',
    CEPH_TARGET_PASSWORD: 'settings-pass-1',
  }
  const site = await TestSite.open(t, environment)
  const agent = await site.startAgent()
  return { fake, site, agent }
}

t.test('jobs with gateways', async t => {
  const { fake, site, agent } = await start(t)
  const create = (name: string, given: object = {}) =>
    site.succeed(site.job('storage.create', { name, sizeMB: 16, ...given }))
  const targetOf = (iqn: string) => fake.targets.get(iqn)

  await t.test('a create exposes the volume on all gateways of the settings', async t => {
    const { disk } = await create('usual')
    t.match(targetOf(disk.refId), {
      portals: [{ host: 'gw-1.lab' }, { host: 'gw-2.lab' }],
      disks: [{ pool: site.environment.CEPH_DEFAULT_POOL, image: disk.name }],
      auth: { user: 'settings-user', password: 'settings-pass-1' },
    })
  })

  await t.test('or on those of the job, which are kept', async t => {
    const { disk } = await create('elsewhere', { portals: [other] })
    t.match(targetOf(disk.refId)?.portals, [other])
    const data = { refId: disk.refId, initiators: [host], chap }
    t.same(await site.succeed(site.job('storage.expose', data)), {
      refId: disk.refId,
      iqn: disk.refId,
      portals: [{ ...other, port: 3260 }],
      lun: 0,
    })
    t.match(targetOf(disk.refId), { portals: [other], clients: [{ client_iqn: host, auth: { user: chap.user } }] })
    const nameless = site.job('storage.create', { name: 'nameless', sizeMB: 16, portals: [{ ip: '10.0.0.9' }] })
    t.match(await site.perform(nameless), { code: 'INVALID_JOB', error: /portals\.0\.host is needed/ })
  })

  await t.test('the inventory names portals, and whether an initiator is logged in', async t => {
    const { disk } = await create('listed')
    const listed = async () => {
      const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
      return inventory.volumes.find(({ iqn }: { iqn: string }) => iqn === disk.refId)
    }
    t.match(await listed(), { isAttached: false, portal: { host: 'gw-1.lab', ip: '10.0.0.1', port: 3260 } })
    fake.sessions.set(disk.refId, 1)
    t.match(await listed(), { isAttached: true })

    await t.test('as cephkit iscsi does', async t => {
      const env = { ...process.env, ...site.environment }
      const iscsi = async (...args: string[]) => (await cephkit(['iscsi', ...args], env)).stdout
      t.match(await iscsi('list'), new RegExp(`^${disk.refId}  \\S+  1 sessions  everybody$`, 'm'))
      t.equal(await iscsi('sessions', disk.name), `${disk.refId}  unknown\n`)
    })
    await t.test('and a delete is refused while one is', async t => {
      const job = site.job('storage.delete', { refId: disk.refId })
      t.match(await site.perform(job), { code: 'TARGET_BUSY', retryable: true })
      t.ok(targetOf(disk.refId))
      fake.sessions.delete(disk.refId)
      t.match(await site.succeed(site.job('storage.delete', { refId: disk.refId })), { targetDeleted: true })
      t.notOk(targetOf(disk.refId))
    })
    await t.test('or nothing of it, where that cannot be told', async t => {
      const { disk } = await create('untold')
      await until('it is left out', async () => {
        fake.failOnce('GET', /target$/, refusal('no_gateways_available', 'There are no gateways available'))
        const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
        return inventory.volumes.some((volume: object) => !('isAttached' in volume))
      })
      t.ok(targetOf(disk.refId))
    })
  })

  await t.test('a create that gateways refuse leaves nothing', async t => {
    const detail = 'Gateway creation failed, gateway(s) unavailable:gw-2.lab(UNKNOWN state)'
    fake.failOnce('POST', /target$/, refusal(undefined, detail), true)
    const before = [...fake.targets.keys()]
    const result = await site.perform(site.job('storage.create', { name: 'refused', sizeMB: 16 }))
    t.match(result, { ok: false, code: 'ISCSI_REFUSED', retryable: true, rollback: { complete: true, leftovers: [] } })
    t.same([...fake.targets.keys()], before)
    t.notOk((await site.imageNames()).some(name => name.includes('refused')))
  })

  await t.test('an agent that starts puts right what is not as it should be, and only what is its own', async t => {
    await agent.stop()
    const [iqn = ''] = fake.targets.keys()
    const lost = targetOf(iqn)
    fake.targets.delete(iqn)
    const stranger = `${iqn}-stranger`
    fake.targets.set(stranger, {
      target_iqn: stranger,
      target_controls: {},
      acl_enabled: false,
      portals: [],
      disks: [],
      clients: [],
      groups: [],
    })
    await site.startAgent()
    await until('the target', () => targetOf(iqn))
    t.match(targetOf(iqn), { portals: lost?.portals, disks: lost?.disks })
    t.ok(targetOf(stranger))
  })

  await t.test('cephkit doctor looks at the gateways', async t => {
    const env = { ...process.env, ...site.environment }
    const examine = async (settings: Record<string, string> = {}) => {
      const { stdout } = await cephkit(['doctor', '--json'], { ...env, ...settings })
      const { findings } = JSON.parse(stdout) as { findings: { check: string; state: string; says: string }[] }
      return (check: string) => findings.find(found => found.check === check)
    }
    const gateways = ['gw-1.lab', 'gw-2.lab'].map((name, index) => ({ name, ip_addresses: [`10.0.0.${index + 1}`] }))
    const states = (...states: string[]) => ({
      gateways: states.map((state, index) => ({ ...gateways[index], state })),
    })
    fake.pages.set('portals', gateways).set('overview', states('up', 'up'))
    fake.pages.set('settings', { config: { minimum_gateways: 2 } })
    const good = await examine()
    t.match(good('dashboard'), { state: 'ok', says: /agent is logged in/ })
    t.match(good('gateways'), { state: 'ok', says: 'up: gw-1.lab, gw-2.lab' })
    t.match(good('portals'), { state: 'ok', says: 'gw-1.lab (10.0.0.1), gw-2.lab (10.0.0.2)' })
    const one = await examine({ CEPH_GW_ISCSI_HOST: 'gw-1.lab', CEPH_GW_ISCSI_IP: '10.0.0.1' })
    t.match(one('portals'), { state: 'wrong', says: /a target needs 2 gateways, and the settings name 1/ })
    const odd = await examine({ CEPH_GW_ISCSI_IP: '10.0.0.1,10.0.0.7' })
    t.match(odd('portals'), { state: 'wrong', says: /gw-2\.lab has not the address 10\.0\.0\.7, but 10\.0\.0\.2/ })
    fake.pages.set('portals', gateways.slice(0, 1)).set('overview', states('up', 'down'))
    const down = await examine()
    t.match(down('gateways'), { state: 'wrong', says: /no answer of gw-2\.lab/ })
    t.match(down('portals'), { state: 'wrong', says: /no gateway gw-2\.lab that is up/ })
  })

  const logged = site.logText.join('')
  for (const secret of ['dashboard-password', 'settings-pass-1', chap.password, 'token-1']) {
    t.notOk(logged.includes(secret), `no line of log has ${secret}`)
  }
})
