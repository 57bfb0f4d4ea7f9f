/** What the journal of a test's agent has in it. */
import { randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import { pino } from 'pino'
import type { Test } from 'tap'
import type { Pool } from '../../lib/index.js'
import type { JobMessage, JobResult } from '../../src/jobs/message.js'
import { Instance } from '../../src/journal/instance.js'
import { Journal, type JournalOptions } from '../../src/journal/journal.js'
import type { JobRecord } from '../../src/journal/record.js'
import { Records } from '../../src/journal/records.js'
import type { TestSite } from './broker.js'
import { testCluster } from './cluster.js'

export function openRecords({ cluster, environment }: TestSite): Promise<Records> {
  return Records.open(cluster, environment.CEPH_DEFAULT_POOL ?? '')
}

/** Who holds which image. */
export async function heldImages({ pool }: Records): Promise<Map<string, string>> {
  const held = new Map<string, string>()
  for (const name of await objectNames(pool)) {
    if (!name.startsWith('locks/')) continue
    for await (const [image, holder] of pool.object(name).listOmap()) held.set(image, holder.toString())
  }
  return held
}

export async function objectNames(pool: Pool): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of pool.listObjects()) names.push(name)
  return names.sort()
}

export async function all<T>(listing: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const each of listing) found.push(each)
  return found
}

/** That nothing is left in it beside finished jobs, and the processes that are alive. */
export async function checkTidy(t: Test, records: Records, agent: string, alive: number): Promise<void> {
  t.same(await all(records.listOpen(agent)), [], 'no job is open')
  t.same(await heldImages(records), new Map(), 'no image is held')
  t.equal((await records.listInstances(agent)).length, alive, 'of processes, the index has those that are alive')
  const names = await objectNames(records.pool)
  t.equal(names.filter(name => name.startsWith('instance/')).length, alive, 'and so has the namespace')
  const done = await all(records.listDone(agent))
  t.equal(names.filter(name => name.startsWith('job/')).length, new Set(done.map(({ task }) => task)).size)
}

let agents = 0

/** An id that no other test has: all share one journal. */
export function newAgentId(): string {
  return `${basename(process.argv[1] ?? 'test', '.js')}-${process.pid}-${++agents}`
}

/** The journal as an agent of this process has it, with a connection of its own. */
export async function openJournal(t: Test, agentId = newAgentId(), options: Partial<JournalOptions> = {}) {
  const cluster = await testCluster(t)
  const log = pino({ enabled: false })
  const journal = await Journal.open({ cluster, poolName: 'rbd', agentId, log, ...options })
  let isDead = false
  t.teardown(() => isDead || journal.close())
  /** As if its process had died. */
  const die = async () => {
    isDead = true
    await journal.instance.stop()
    await cluster.close()
    Instance.forget(journal.instance.id)
  }
  return { journal, cluster, agentId, die }
}

export function newJob(agentId: string, taskId: string = randomUUID()): JobMessage {
  return { taskId, tenantId: 'acme', agentId, action: 'storage.create', data: {} }
}

export function newRecord(job: JobMessage, fields: Partial<JobRecord> = {}): JobRecord {
  const now = new Date().toISOString()
  return { version: 1, rev: 1, job, plan: {}, owner: '', createdAt: now, updatedAt: now, steps: [], ...fields }
}

export function outcomeOf(job: JobMessage, finishedAt = new Date().toISOString(), ok = true): JobResult {
  return { taskId: job.taskId, agentId: job.agentId, ok, finishedAt }
}
