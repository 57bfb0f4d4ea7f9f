/** What jobs do to volumes that two real gateways show. */
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite } from '../support/broker.js'
import { gateways } from '../support/gateway-lab/lab.js'
import { Attached, capacity, initiate, initiator } from '../support/tgt.js'

const other = 'iqn.2001-07.org.openhvx:host:two'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }
const [first, second] = gateways

t.test('jobs with real gateways', async t => {
  const site = await TestSite.open(t, {
    ISCSI_DRIVER: 'ceph-iscsi',
    CEPH_GW_ISCSI_HOST: gateways.map(({ host }) => host).join(','),
    CEPH_GW_ISCSI_IP: gateways.map(({ ip }) => ip).join(','),
    CREATE_READINESS_TIMEOUT_MS: '600000',
  })
  // Emulated gateways take their time.
  site.patienceMs = 600_000
  await site.startAgent()
  const succeed = (action: string, data: object) => site.succeed(site.job(action, data))
  const { disk } = await succeed('storage.create', { name: 'web', sizeMB: 16 })
  const { refId } = disk
  const url = ({ ip }: { ip: string }, login = '') => `iscsi://${login}${ip}:3260/${refId}/0`
  const own = `${chap.user}%${chap.password}@`

  await t.test('a create shows the volume at each', async t => {
    for (const gateway of gateways) t.equal(await capacity(url(gateway)), 16 * MiB)
  })

  await t.test('an expose says to whom', async t => {
    t.match(await succeed('storage.expose', { refId, initiators: [initiator], chap }), {
      iqn: refId,
      lun: 0,
      portals: gateways.map(({ host, ip }) => ({ host, ip, port: 3260 })),
    })
    for (const gateway of gateways) {
      t.equal(await capacity(url(gateway, own)), 16 * MiB)
      await t.rejects(capacity(url(gateway)), /Authentication failure/)
      await t.rejects(initiate('iscsi-inq', '-i', other, url(gateway, own)), /Authorization failure/)
    }
  })

  await t.test('a resize shows the new size', async t => {
    t.match(await succeed('storage.resize', { refId, sizeMB: 32 }), { sizeBytes: 32 * MiB, previousBytes: 16 * MiB })
    for (const gateway of gateways) t.equal(await capacity(url(gateway, own)), 32 * MiB)
  })

  await t.test('a delete waits until nobody is logged in, and leaves nothing', async t => {
    await succeed('storage.expose', { refId, initiators: [initiator], chap: false })
    const user = await Attached.openAs(t, initiator, { portal: `${second.ip}:3260`, lun: 0 }, refId)
    t.match(await user.do('write -P 7 0 4k'), /wrote 4096/)
    const refused = await site.perform(site.job('storage.delete', { refId }))
    t.match(refused, { ok: false, code: 'TARGET_BUSY', retryable: true })
    t.match(await user.do('read -P 7 0 4k'), /read 4096/, 'and changes nothing for whoever is')
    await user.close()
    t.match(await succeed('storage.delete', { refId }), { targetDeleted: true, deletedDisks: [{ image: disk.name }] })
    for (const gateway of gateways) t.notOk((await gateway.kernelTargets()).includes(refId))
    t.same((await first.api('GET', 'config')).targets[refId], undefined)
    t.notOk((await site.imageNames()).includes(disk.name))
  })
})
