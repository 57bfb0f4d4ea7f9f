/**
 * An agent that exposes volumes and is killed, time and again: at a moment that its journal, its list of exposures or its
 * requests to tgtd know, or at any other. tgtd is killed, too. KILLS says how often, SEED which moments and which jobs.
 */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { audit } from '../../src/audit/audit.js'
import { readTargetConfig } from '../../src/config.js'
import { listAllExposures } from '../../src/iscsi/exposure.js'
import { iqnOf } from '../../src/names.js'
import { lookAt } from '../../src/volumes/find.js'
import { TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { openRecords } from '../support/journal.js'
import { checkVolumes, killAgain, seed } from '../support/killing.js'
import { randomNumbers } from '../support/random.js'
import { capacity, Tgt } from '../support/tgt.js'
import { Workload } from '../support/workload.js'

const kills = Number(process.env.KILLS ?? 8)
const operations = ['create', 'write', 'settle', 'list', 'unlist', 'ask'] as const

/** tgtd is killed in one of so many lives of the agent, at some moment of its first milliseconds. */
const livesOfTgtd = 4
const tgtdLifeMs = 1_000

/**
 * What was killed counts as somebody who has its images open for half a minute, and whoever makes a snapshot meanwhile waits for
 * it: longer than agents live here. So its watches end at once, or no such job would come to its end.
 */
async function evictWatchers(site: TestSite): Promise<void> {
  await using records = await openRecords(site)
  await using pool = await site.volumePool()
  const gone = new Set<string>()
  for (const name of await site.imageNames()) {
    for (const { address } of (await lookAt(pool, name, image => image.watchers())) ?? []) gone.add(address)
  }
  const agents = (await records.listInstances(site.agentId)).flatMap(({ addresses }) => addresses)
  for (const address of gone) if (!agents.some(each => each.includes(address))) await site.cluster.blocklist(address)
}

t.test(`an agent is killed ${kills} times, seed ${seed}: no target is left over, and none is missing`, async t => {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  const environment = { ...site.environment, ...tgt.environment }
  const config = readTargetConfig(environment)
  const random = randomNumbers(seed)
  const work = new Workload(site, await golden(t, site), random, { exposes: true })
  let restarts = 0
  const beside = async () => {
    if (random(livesOfTgtd) > 0) return
    await delay(random(tgtdLifeMs))
    await tgt.kill()
    await evictWatchers(site)
    await tgt.start()
    restarts++
  }
  const exposed = () => {
    const volumes = [...work.volumes.values()].filter(({ isExposed }) => isExposed)
    return volumes.map(({ name, sizeMB }) => ({ iqn: iqnOf(config.iscsi.iqnPrefix, name), name, sizeMB }))
  }
  const iqns = () =>
    exposed()
      .map(({ iqn }) => iqn)
      .sort()
  const atEnd = () =>
    until('the targets', async () => JSON.stringify((await tgt.names()).sort()) === JSON.stringify(iqns()))
  await killAgain(t, site, { kills, random, work, jobsAtOnce: 4, environment, operations, beside, atEnd })
  t.comment(`${work.volumes.size} volumes, ${iqns().length} exposed; tgtd was killed ${restarts} times`)
  await checkVolumes(t, site, work)

  t.same((await tgt.names()).sort(), iqns(), 'the targets are those of the volumes that are exposed')
  for (const { iqn, sizeMB } of exposed()) t.equal(await capacity(tgt.url(iqn)), sizeMB * 2 ** 20, 'of the right size')
  const poolName = config.ceph.volumePool
  const lists = await listAllExposures(site.cluster, poolName)
  t.same([...lists.keys()], [site.agentId])
  const { exposures = [], unreadable } = lists.get(site.agentId) ?? {}
  t.same(exposures.map(({ iqn }) => iqn).sort(), iqns(), 'and so are the entries')
  t.same(
    exposures.filter(({ isClosed }) => isClosed),
    [],
  )
  t.same(unreadable, [])
  await using records = await openRecords(site)
  t.same(await audit({ cluster: site.cluster, poolName, records, targets: config }), [], 'the audit finds nothing')
})
