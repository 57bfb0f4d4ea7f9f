/**
 * An agent that is killed, time and again: at a moment that its journal knows, or at any other. KILLS says how often, SEED
 * which moments and which jobs.
 */
import t from 'tap'
import { audit } from '../../src/audit/audit.js'
import { TestSite } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { openRecords } from '../support/journal.js'
import { checkVolumes, killAgain, seed } from '../support/killing.js'
import { randomNumbers } from '../support/random.js'
import { Workload } from '../support/workload.js'

const kills = Number(process.env.KILLS ?? 12)

t.test(
  `an agent is killed ${kills} times, seed ${seed}: each job has one result, and nothing is left over`,
  async t => {
    const site = await TestSite.open(t)
    const random = randomNumbers(seed)
    const work = new Workload(site, await golden(t, site), random)
    const { environment } = site
    const operations = ['enter', 'create', 'write', 'settle'] as const
    await killAgain(t, site, { kills, random, work, jobsAtOnce: 6, environment, operations })
    await checkVolumes(t, site, work)
    await using records = await openRecords(site)
    const poolName = environment.CEPH_DEFAULT_POOL ?? ''
    t.same(await audit({ cluster: site.cluster, poolName, records }), [], 'the audit finds nothing')
  },
)
