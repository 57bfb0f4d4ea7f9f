/** An agent that is killed between any two steps of a job on a volume, and the next one. */
import t, { type Test } from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import type { JobResult } from '../../src/jobs/message.js'
import { listDue } from '../../src/volumes/due.js'
import { type Death, startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { checkTidy, openRecords } from '../support/journal.js'

/** A job on a volume that has a snapshot `s`, from when it had `then` at its beginning, and a clone of that. */
interface Case {
  job: (site: TestSite, at: Volumes) => Job
  /** How often the record is written until the job is done. */
  writes: number
  check: (t: Test, pool: Pool, at: Volumes, result: JobResult) => Promise<void>
}

interface Volumes {
  name: string
  clone: string
}

const cases: Record<string, Case> = {
  'storage.clone': {
    job: (site, { name }) => site.job('storage.clone', { refId: name, name: 'second' }),
    writes: 4,
    check: async (t, pool, { name }, { result }) => {
      const { disk, imageExisted } = result as { disk: { name: string }; imageExisted: boolean }
      t.equal(imageExisted, false)
      t.equal(await read(pool, disk.name), 'now!')
      const own = (await snapshots(pool, name)).filter(snapshot => snapshot !== 's')
      t.equal(own.length, 1, 'with one snapshot for it')
    },
  },
  'storage.clone that fails': {
    // The volume would be too deep.
    job: (site, { clone }) => site.job('storage.clone', { refId: clone, name: 'third' }),
    writes: 4,
    check: async (t, pool, { clone }, result) => {
      t.match(result, { code: 'CHAIN_TOO_DEEP', rollback: { complete: true, leftovers: [] } })
      t.same(await snapshots(pool, clone), [])
    },
  },
  'storage.resize': {
    job: (site, { name }) => site.job('storage.resize', { refId: name, sizeMB: 16 }),
    writes: 2,
    check: async (t, _pool, _at, { result }) => {
      t.match(result, { sizeBytes: 16 * MiB, previousBytes: 8 * MiB })
    },
  },
  'storage.flatten': {
    job: (site, { clone }) => site.job('storage.flatten', { refId: clone }),
    writes: 3,
    check: async (t, pool, { name, clone }, { result }) => {
      t.match(result, { flattened: true })
      t.equal(await read(pool, clone), 'then')
      t.same(await snapshots(pool, name), ['s'])
    },
  },
  'storage.snapshot.create': {
    job: (site, { name }) => site.job('storage.snapshot.create', { refId: name, snapshot: 'again' }),
    writes: 1,
    check: async (t, pool, { name }) => {
      t.same(await snapshots(pool, name), ['s', 'again'])
    },
  },
  'storage.snapshot.delete': {
    job: (site, { clone }) => site.job('storage.snapshot.delete', { refId: clone, snapshot: 'spare' }),
    writes: 2,
    check: async (t, pool, { clone }, { result }) => {
      t.match(result, { deleted: true })
      t.same(await snapshots(pool, clone), [])
    },
  },
  'storage.snapshot.rollback': {
    job: (site, { name }) => site.job('storage.snapshot.rollback', { refId: name, snapshot: 's' }),
    writes: 2,
    check: async (t, pool, { name }) => {
      t.equal(await read(pool, name), 'then')
    },
  },
  'storage.qos.set': {
    job: (site, { name }) => site.job('storage.qos.set', { refId: name, iops: { limit: 100, burst: 200 } }),
    writes: 2,
    check: async (t, _pool, _at, { result }) => {
      t.match(result, { qos: { iops: { limit: 100, burst: 200 } } })
    },
  },
  'storage.delete': {
    job: (site, { name }) => site.job('storage.delete', { refId: name, children: 'flatten' }),
    writes: 4,
    check: async (t, pool, { name, clone }, { result }) => {
      t.match(result, { deletedDisks: [{ image: name }] })
      t.notOk((await pool.listImages()).some(image => image.name === name))
      t.equal(await read(pool, clone), 'then')
    },
  },
}

async function read(pool: Pool, name: string): Promise<string> {
  await using image = await pool.openImage(name, { readOnly: true })
  return (await image.read(0, 4)).toString()
}

/** Those that can be used, and those that RBD keeps for clones. */
async function snapshots(pool: Pool, name: string): Promise<string[]> {
  await using image = await pool.openImage(name, { readOnly: true })
  return (await image.listSnapshots()).map(snapshot => snapshot.originalName ?? snapshot.name)
}

async function setUp(site: TestSite, pool: Pool, action: string): Promise<Volumes> {
  const { name } = (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }))).disk
  const write = async (text: string) => {
    await using image = await pool.openImage(name)
    await image.write(0, Buffer.from(text))
  }
  await write('then')
  await site.succeed(site.job('storage.snapshot.create', { refId: name, snapshot: 's' }))
  await write('now!')
  const clone = (await site.succeed(site.job('storage.clone', { refId: name, name: 'copy', snapshot: 's' }))).disk.name
  if (action === 'storage.snapshot.delete') {
    await site.succeed(site.job(action.replace('delete', 'create'), { refId: clone, snapshot: 'spare' }))
  }
  return { name, clone }
}

/** Kills an agent so with the job in hand, and has the next one come to its end. */
async function survive(t: Test, site: TestSite, job: Job, death: Death): Promise<JobResult> {
  const killed = await startAgentProcess(t, site.environment, { death })
  await site.publish(job)
  t.match(await killed.ended, { signal: 'SIGKILL' }, 'it was killed')
  const next = await site.startAgent()
  await using records = await openRecords(site)
  await until('the last answer', async () => {
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
    const isOpen = await records.isOpen(job.agentId, job.taskId)
    return messageCount === 0 && !isOpen && site.resultsOf(job).length > 0
  })
  await next.stop()
  await checkTidy(t, records, job.agentId, 0)
  const [first, ...others] = site.resultsOf(job)
  if (first === undefined) throw new Error('there is no result')
  for (const other of others) t.same(other, first, 'each result is the same one')
  return first
}

for (const [action, { job, writes, check }] of Object.entries(cases)) {
  t.test(`an agent that is killed during a ${action}`, async t => {
    const site = await TestSite.open(t, { CLONE_DEPTH_HARD: '1' })
    const pool = await site.volumePool()
    const deaths = Array.from({ length: writes }, (_, count) => [false, true].map(after => ({ count, after }))).flat()
    const agent = await site.startAgent()
    const volumes = await Promise.all(deaths.map(async death => ({ death, at: await setUp(site, pool, action) })))
    await agent.stop()
    for (const { death, at } of volumes) {
      await t.test(`${death.after ? 'after' : 'before'} write ${death.count}`, async t => {
        const result = await survive(t, site, job(site, at), { operation: 'write', ...death })
        t.equal(result.ok, !action.endsWith('fails'))
        await check(t, pool, at, result)
        const list = { cluster: site.cluster, volumePool: pool.name, agent: site.agentId }
        t.same(await listDue(list), [], 'nothing is left to be done')
      })
    }
  })
}
