/** An agent that is killed in the middle of its work, at each moment that its journal knows, and the next one. */
import t, { type Test } from 'tap'
import type { JobResult } from '../../src/jobs/message.js'
import { type Death, startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { checkTidy, openRecords } from '../support/journal.js'

const enter: Death = { operation: 'enter', count: 0, after: true }
const begin = (after: boolean): Death => ({ operation: 'create', count: 0, after })
const write = (count: number, after: boolean): Death => ({ operation: 'write', count, after })
const settle = (after: boolean): Death => ({ operation: 'settle', count: 0, after })

const betweenTwoSteps = [enter, begin(false), begin(true), write(0, false), write(0, true)]
const atTheEnd = [write(1, false), write(1, true), settle(false), settle(true)]

/** Kills an agent so with the job in hand, and has the next one come to its end. */
async function survive(t: Test, site: TestSite, job: Job, death: Death): Promise<JobResult[]> {
  const killed = await startAgentProcess(t, site.environment, { death })
  await site.publish(job)
  t.match(await killed.ended, { signal: 'SIGKILL' }, 'it was killed')
  const next = await site.startAgent()
  await using records = await openRecords(site)
  // The message comes again, and its answer with it.
  await until('the end of the job', async () => {
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
    return messageCount === 0 && site.resultsOf(job).length > 0
  })
  await next.stop()
  await checkTidy(t, records, job.agentId, 0)
  const results = site.resultsOf(job)
  for (const result of results) t.same(result, results[0], 'each result is the same one')
  return results
}

const nameOf = ({ operation, count, after }: Death) => `${after ? 'after' : 'before'} ${operation} ${count}`

t.test('an agent that is killed during a storage.create', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const made: string[] = []
  for (const death of [...betweenTwoSteps, ...atTheEnd]) {
    await t.test(`${nameOf(death)}: one volume, one result`, async t => {
      const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
      const [result] = await survive(t, site, job, death)
      t.match(result, { ok: true, result: { imageExisted: false } })
      made.push((result?.result as { disk?: { name: string } } | undefined)?.disk?.name ?? 'none')
      t.same((await site.imageNames()).sort(), [...made].sort())
    })
  }
})

t.test('an agent that is killed during a storage.create that fails', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  // write 1 is the intent to undo, write 2 the outcome.
  for (const death of [write(1, false), write(1, true), write(2, false), write(2, true)]) {
    await t.test(`${nameOf(death)}: nothing is left`, async t => {
      const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 4 })
      const [result] = await survive(t, site, job, death)
      t.match(result, { ok: false, code: 'SIZE_TOO_SMALL', rollback: { complete: true, leftovers: [] } })
      t.same(await site.imageNames(), [])
    })
  }
})

t.test('an agent that is killed during a storage.delete', async t => {
  const site = await TestSite.open(t)
  for (const death of [...betweenTwoSteps, ...atTheEnd]) {
    await t.test(`${nameOf(death)}: the volume is gone, and the result says that it was there`, async t => {
      const creator = await site.startAgent()
      const { disk } = await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 4 }))
      await creator.stop()
      const [result] = await survive(t, site, site.job('storage.delete', { refId: disk.name }), death)
      t.match(result, { ok: true, result: { deletedDisks: [{ image: disk.name }] } })
      t.notOk((await site.imageNames()).includes(disk.name))
    })
  }
})
