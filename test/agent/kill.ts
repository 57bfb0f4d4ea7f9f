/**
 * An agent that is killed, time and again: at a moment that its journal knows, or at any other. KILLS says how often, SEED
 * which moments and which jobs.
 */
import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { JobResult } from '../../src/agent/index.js'
import { audit } from '../../src/audit/audit.js'
import { type Death, startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { golden } from '../support/golden.js'
import { openRecords } from '../support/journal.js'
import { randomNumbers } from '../support/random.js'
import { type Random, Workload } from '../support/workload.js'

const kills = Number(process.env.KILLS ?? 12)
const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
const jobsAtOnce = 6
/** The longest life of an agent, in milliseconds from when it takes jobs. */
const longestLifeMs = 1_500

const operations = ['enter', 'create', 'write', 'settle'] as const

function deathOf(random: Random): Death | undefined {
  if (random(3) === 0) return undefined // at a moment that the journal knows nothing of
  return { operation: operations[random(operations.length)] ?? 'write', count: random(8), after: random(2) === 0 }
}

t.test(
  `an agent is killed ${kills} times, seed ${seed}: each job has one result, and nothing is left over`,
  async t => {
    const site = await TestSite.open(t)
    const random = randomNumbers(seed)
    const work = new Workload(site, (await golden(t, site)).name, random)
    const jobs: Job[] = []
    let isOver = false
    const client = async () => {
      while (!isOver) {
        const { job, end } = work.next()
        jobs.push(job)
        await site.publish(job)
        const result = await resultOf(job)
        try {
          end(result)
        } catch (error) {
          t.comment(await describe(result))
          throw error
        }
      }
    }
    // Declares what there has to be on the broker.
    await (await site.startAgent()).stop()
    const clients = Promise.all(Array.from({ length: jobsAtOnce }, client))
    clients.catch(() => {})

    for (let killed = 0; killed < kills; killed++) {
      const death = deathOf(random)
      const agent = await startAgentProcess(t, site.environment, { ...(death && { death }) })
      await Promise.race([agent.ended, clients, delay(random(longestLifeMs) + 100)])
      agent.child.kill('SIGKILL')
      const about = `kill ${killed + 1}: ${JSON.stringify(death ?? 'at some moment')}`
      const ended = await agent.ended
      if (!t.match(ended, { signal: 'SIGKILL' }, about)) t.comment(agent.output())
    }
    isOver = true
    const last = await startAgentProcess(t, site.environment)
    await clients
    await using records = await openRecords(site)
    await until('all to be published', async () => (await records.listOpen(site.agentId).next()).done === true)
    last.child.kill('SIGTERM')
    t.same(await last.ended, { code: 0, signal: null })

    t.same(new Set(site.results.map(({ body }) => body.taskId)), new Set(jobs.map(({ taskId }) => taskId)))
    for (const job of jobs) {
      const [first, ...others] = site.resultsOf(job)
      for (const other of others) t.same(other, first, 'each result of a job is the same')
    }
    t.comment(`${jobs.length} jobs, ${site.results.length} results`)
    t.same(site.deadLetters, [])
    await checkVolumes()
    const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
    t.same(await audit({ cluster: site.cluster, poolName, records }), [], 'the audit finds nothing')

    /** All that is known of a job that did not end as it should. */
    async function describe(result: JobResult): Promise<string> {
      await using records = await openRecords(site)
      const record = await records.read(site.agentId, result.taskId)
      const { refId } = (record?.job.data ?? {}) as { refId?: string }
      const sameVolume = jobs.filter(({ data }) => (data as { refId?: string }).refId === refId)
      const histories = await Promise.all(sameVolume.map(({ taskId }) => records.read(site.agentId, taskId)))
      const image = record?.image ?? ''
      const said = await Promise.allSettled([
        run('rbd', 'info', image),
        run('rbd', 'image-meta', 'list', image),
        run('rbd', 'trash', 'ls', '--all', site.environment.CEPH_DEFAULT_POOL ?? ''),
      ])
      return JSON.stringify({ result, record, histories, said }, null, 2)
    }

    /** However long the agent needs, with all its deaths. */
    async function resultOf(job: Job): Promise<JobResult> {
      for (;;) {
        const [result] = site.resultsOf(job)
        if (result) return result
        await delay(20)
      }
    }

    async function checkVolumes() {
      const pool = await site.volumePool()
      t.same((await site.imageNames()).sort(), [...work.volumes.keys()].sort())
      for (const { name, sizeMB, snapshots } of work.volumes.values()) {
        await using image = await pool.openImage(name, { readOnly: true })
        t.equal(await image.size(), sizeMB * 2 ** 20)
        const own = (await image.listSnapshots()).filter(({ namespace }) => namespace === 'user').map(each => each.name)
        t.same(own.filter(each => !each.startsWith('cephkit-')).sort(), [...snapshots].sort())
      }
      await pool.close()
    }
  },
)
