/** Targets that are not as they should be, and what becomes of them by reconciliation alone. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { Attached, identity, Tgt } from '../support/tgt.js'

const volumes = 50
const limitMs = 10_000

t.test('what tgtd has forgotten, or should forget', async t => {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  const agent = await site.startAgent(tgt.environment)
  const jobs = Array.from({ length: volumes }, (_, i) => site.job('storage.create', { name: `v${i}`, sizeMB: 8 }))
  const disks: { refId: string; name: string }[] = await Promise.all(
    jobs.map(async job => (await site.succeed(job)).disk),
  )
  const exposed = disks.map(({ refId }) => refId).sort()
  const serials = async () => {
    const all = new Map<string, string>()
    for (const iqn of exposed) all.set(iqn, (await identity(tgt.url(iqn))).serial)
    return all
  }
  const names = async () => (await tgt.names()).sort()
  const before = await serials()
  t.same(await names(), exposed)

  await t.test(`${volumes} targets are there again, the same, when tgtd is`, async t => {
    await tgt.kill()
    await tgt.start()
    const begunAt = performance.now()
    // Not asked all the time: tgtd would have to answer.
    while (!isReady(await tgt.adm('target', 'show')) && performance.now() - begunAt < 4 * limitMs) await delay(250)
    const tookMs = performance.now() - begunAt
    t.comment(`${volumes} targets in ${Math.round(tookMs)} ms`)
    t.ok(tookMs < limitMs, 'in time')
    t.same(await serials(), before)
    t.same(await names(), exposed)
  })

  /** Each has its disk, and lets initiators in. */
  function isReady(shown: string): boolean {
    return exposed.every(iqn => {
      const from = shown.indexOf(`: ${iqn}\n`)
      const to = shown.indexOf('\nTarget ', from)
      const own = from === -1 ? '' : shown.slice(from, to === -1 ? undefined : to)
      return own.includes('Type: disk') && /ACL information:\n +ALL/.test(own)
    })
  }

  await t.test('an agent that starts has targets back that went meanwhile, and removes what is too much', async t => {
    await agent.stop()
    await tgt.kill()
    await tgt.start()
    const extra = 'iqn.2001-07.org.openhvx:acme-left-12345678'
    const foreign = 'iqn.2020-01.org.example:theirs'
    await tgt.adm('target', 'new', '--tid', '1', '--targetname', extra)
    await tgt.adm('target', 'new', '--tid', '2', '--targetname', foreign)
    await site.startAgent(tgt.environment)
    await until('all targets', async () => isReady(await tgt.adm('target', 'show')))
    t.same(await names(), [...exposed, foreign].sort(), 'what has not our prefix is there still')
  })

  await t.test('a target that should not be there goes when no initiator uses it', async t => {
    const [disk = { refId: '', name: '' }] = disks
    const attached = await Attached.open(t, tgt.url(disk.refId))
    // As if a job had died on its way.
    const pool = await site.cluster.openPool(site.environment.CEPH_DEFAULT_POOL ?? '', { namespace: 'cephkit.iscsi' })
    await pool.object(`exposed/${site.agentId}`).removeOmap([`${site.environment.CEPH_DEFAULT_POOL}/${disk.name}`])
    await pool.close()
    const isTold = () => site.logs.some(({ msg, iqn }) => /not as it should be$/.test(msg) && iqn === disk.refId)
    await until('a word about it', isTold, 60_000)
    t.match(await attached.do('write -P 1 0 4k'), /wrote 4096/)
    await attached.close()
    await until('its end', async () => !(await tgt.names()).includes(disk.refId))
  })

  await t.test('a volume that somebody has removed is told of once', async t => {
    const [, disk = { refId: '', name: '' }] = disks
    await tgt.kill()
    const removing = () => run('rbd', 'rm', '--no-progress', `${site.environment.CEPH_DEFAULT_POOL}/${disk.name}`)
    // Until Ceph has forgotten that tgtd had it open.
    while (
      !(await removing().then(
        () => true,
        () => false,
      ))
    )
      await delay(1_000)
    await tgt.start()
    const words = () => site.logs.filter(({ msg, iqn }) => /is not as it should be$/.test(msg) && iqn === disk.refId)
    await until('a word about it', () => words().length > 0)
    await until('the others', async () => (await tgt.names()).length === volumes - 2)
    await delay(3_000)
    t.equal(words().length, 1)
    t.match(words()[0], { reason: /is to be exposed, and not there/ })
  })
})
