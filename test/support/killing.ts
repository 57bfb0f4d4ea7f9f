/** An agent that is killed, time and again, with jobs under way. */
import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import type { JobResult } from '../../src/agent/index.js'
import { type Death, startAgentProcess } from './agent-process.js'
import { type Job, type TestSite, until } from './broker.js'
import { run } from './cluster.js'
import { openRecords } from './journal.js'
import type { Random, Workload } from './workload.js'

/** KILLS says how often, SEED which moments and which jobs. */
export const seed = Number(process.env.SEED ?? randomInt(2 ** 31))

/** The longest life of an agent, in milliseconds from when it takes jobs. */
const longestLifeMs = 1_500

interface Killing {
  kills: number
  random: Random
  work: Workload
  jobsAtOnce: number
  /** Of the agent. */
  environment: Record<string, string>
  /** Where it may kill itself. */
  operations: readonly Death['operation'][]
  /** What else happens in each of its lives. */
  beside?: () => Promise<void>
  /** When all jobs are done, beside the last agent. */
  atEnd?: () => Promise<unknown>
}

/** Kills it as often, then lets it come to the end of all jobs; each of them has one result, or the same one again. */
export async function killAgain(t: Test, site: TestSite, killing: Killing): Promise<Job[]> {
  const { kills, random, work, environment, beside = async () => {}, atEnd = async () => {} } = killing
  const jobs: Job[] = []
  let isOver = false
  const client = async () => {
    while (!isOver) {
      const { job, end } = work.next()
      jobs.push(job)
      await site.publish(job)
      const result = await resultOf(site, job)
      try {
        end(result)
      } catch (error) {
        t.comment(await describe(site, jobs, result))
        throw error
      }
    }
  }
  // Declares what there has to be on the broker.
  await (await site.startAgent(environment)).stop()
  const clients = Promise.all(Array.from({ length: killing.jobsAtOnce }, client))
  clients.catch(() => {})

  // One that goes on when the agent has ended is not joined by the next.
  let besides = Promise.resolve()
  for (let killed = 0; killed < kills; killed++) {
    const death = deathOf(killing)
    const agent = await startAgentProcess(t, environment, { ...(death && { death }) })
    besides = besides.then(beside)
    await Promise.race([agent.ended, clients, Promise.all([delay(random(longestLifeMs) + 100), besides])])
    agent.child.kill('SIGKILL')
    const about = `kill ${killed + 1}: ${JSON.stringify(death ?? 'at some moment')}`
    const ended = await agent.ended
    if (!t.match(ended, { signal: 'SIGKILL' }, about)) t.comment(agent.output())
  }
  await besides
  isOver = true
  const last = await startAgentProcess(t, environment)
  await clients
  await using records = await openRecords(site)
  await until('all to be published', async () => (await records.listOpen(site.agentId).next()).done === true)
  // One that was killed while it shut out another keeps the lease of that one until it runs out.
  await until(
    'all others to be cleared away',
    async () => (await records.listInstances(site.agentId)).length === 1,
    60_000,
  )
  await atEnd()
  last.child.kill('SIGTERM')
  t.same(await last.ended, { code: 0, signal: null })
  checkResults(t, site, jobs)
  return jobs
}

function deathOf({ random, operations }: Killing): Death | undefined {
  if (random(3) === 0) return undefined // at a moment that nothing is known of
  return { operation: operations[random(operations.length)] ?? 'write', count: random(8), after: random(2) === 0 }
}

/** However long the agent needs, with all its deaths. */
async function resultOf(site: TestSite, job: Job): Promise<JobResult> {
  for (;;) {
    const [result] = site.resultsOf(job)
    if (result) return result
    await delay(20)
  }
}

function checkResults(t: Test, site: TestSite, jobs: readonly Job[]): void {
  t.same(new Set(site.results.map(({ body }) => body.taskId)), new Set(jobs.map(({ taskId }) => taskId)))
  for (const job of jobs) {
    const [first, ...others] = site.resultsOf(job)
    for (const other of others) t.same(other, first, 'each result of a job is the same')
  }
  t.comment(`${jobs.length} jobs, ${site.results.length} results`)
  t.same(site.deadLetters, [])
}

/** All that is known of a job that did not end as it should. */
async function describe(site: TestSite, jobs: readonly Job[], result: JobResult): Promise<string> {
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

/** Images, their data and their snapshots are what the results say. */
export async function checkVolumes(t: Test, site: TestSite, { volumes }: Workload): Promise<void> {
  const pool = await site.volumePool()
  t.same((await site.imageNames()).sort(), [...volumes.keys()].sort())
  for (const { name, sizeMB, snapshots, content } of volumes.values()) {
    await using image = await pool.openImage(name, { readOnly: true })
    const size = sizeMB * 2 ** 20
    t.equal(await image.size(), size)
    const data = await image.read(0, size)
    t.ok(data.equals(Buffer.concat([content], size)), `${name} has its data`)
    const own = (await image.listSnapshots()).filter(({ namespace }) => namespace === 'user').map(each => each.name)
    t.same(own.filter(each => !each.startsWith('cephkit-')).sort(), [...snapshots].sort())
  }
  await pool.close()
}
