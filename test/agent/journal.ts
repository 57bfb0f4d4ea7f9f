/** What an agent keeps of its jobs, and what becomes of them when it is not alone, or not there. */
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { readConfig } from '../../src/agent/index.js'
import { audit } from '../../src/audit/audit.js'
import { actionOf } from '../../src/jobs/actions.js'
import type { JobMessage } from '../../src/jobs/message.js'
import { ImageLocks } from '../../src/journal/image-locks.js'
import { holderOf } from '../../src/journal/layout.js'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { checkTidy, heldImages, newJob, newRecord, openJournal, openRecords, outcomeOf } from '../support/journal.js'
import { BrokerProxy } from '../support/proxy.js'
import { newRunner, resultOf, take } from '../support/runner.js'

const nameFor = (job: Job) => imageName({ taskId: job.taskId, tenantId: 'acme', name: 'web' }, defaultIqnPrefix)

/** A create that waits until somebody else closes what is left under the name of its image. */
async function waitingCreate(t: Test, site: TestSite) {
  const job = site.job('storage.create', { name: 'web', sizeMB: 8 })
  const name = nameFor(job)
  const pool = await site.volumePool()
  await pool.createImage(name, { size: MiB })
  const image = await pool.openImage(name)
  t.teardown(() => pool.close())
  return { job, name, goOn: () => image.close() }
}

t.test('a job that is delivered five times at once, to two agents of the same id', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  await site.startAgent({ PREFETCH_COUNT: '5' })
  await site.startAgent({ PREFETCH_COUNT: '5' })
  await using records = await openRecords(site)
  for (let round = 0; round < 3; round++) {
    const before = (await site.imageNames()).length
    const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
    await Promise.all(Array.from({ length: 5 }, () => site.publish(job)))
    await until('all results', () => site.resultsOf(job).length === 5)
    const results = site.resultsOf(job)
    t.ok(results[0]?.ok)
    for (const result of results) t.same(result, results[0], 'has equal results')
    t.equal((await site.imageNames()).length, before + 1, 'and one volume')
  }
  await until('the index', async () => (await records.listOpen(site.agentId).next()).done)
  await checkTidy(t, records, site.agentId, 2)
})

t.test('a job that is cancelled', async t => {
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  await using records = await openRecords(site)

  await t.test('in the middle is undone, and says so', async t => {
    const { job, goOn } = await waitingCreate(t, site)
    await site.publish(job)
    await until('the job', () => site.logs.some(line => line.job === job.taskId && line.msg === 'job begins'))
    t.ok(await records.cancel(job.agentId, job.taskId))
    await goOn()
    const result = await until('its result', () => site.resultsOf(job)[0])
    t.match(result, { ok: false, code: 'CANCELLED', retryable: false, rollback: { complete: true, leftovers: [] } })
    t.same(await site.imageNames(), [])
  })

  await t.test('when it is done is done', async t => {
    const job = site.job('storage.create', { name: 'web', sizeMB: 8 })
    const result = await site.perform(job)
    t.same((await records.cancel(job.agentId, job.taskId))?.outcome, result)
    t.same(await site.perform(job), result)
  })

  await t.test('while nobody has it in hand is undone by the next', async t => {
    await agent.stop()
    const { job, goOn } = await waitingCreate(t, site)
    const killed = await startAgentProcess(t, site.environment)
    await site.publish(job)
    await until('the job', () => killed.output().includes('job begins'))
    killed.child.kill('SIGKILL')
    await killed.ended
    await records.cancel(job.agentId, job.taskId)
    await goOn()
    await site.startAgent()
    const result = await until('its result', () => site.resultsOf(job)[0])
    t.match(result, { code: 'CANCELLED', rollback: { complete: true } })
    t.notOk((await site.imageNames()).includes(nameFor(job)))
  })
})

t.test('a result that could not be published before the agent ended', async t => {
  const site = await TestSite.open(t)
  const proxy = await BrokerProxy.open(t, site.environment.BROKER_URL ?? '')
  await using records = await openRecords(site)
  const finishUnheard = async () => {
    proxy.allow()
    const agent = await site.startAgent({ BROKER_URL: proxy.url })
    const job = site.job('storage.create', { name: 'web', sizeMB: 8 })
    site.onLog = line => {
      if (line.job === job.taskId && line.msg === 'job begins') proxy.refuse()
    }
    await site.publish(job)
    const record = await until('the outcome', async () => {
      const found = await records.read(job.agentId, job.taskId)
      return found?.outcome && found
    })
    site.onLog = () => {}
    await agent.stop()
    t.same(site.resultsOf(job), [])
    return { job, outcome: record.outcome }
  }

  await t.test('is published when the job comes again', async t => {
    const { job, outcome } = await finishUnheard()
    const next = await site.startAgent()
    t.same(await until('the result', () => site.resultsOf(job)[0]), outcome)
    await next.stop()
    t.equal(site.resultsOf(job).length, 1)
  })

  await t.test('is published if the job never comes again', async t => {
    const { job, outcome } = await finishUnheard()
    await site.onBroker(channel => channel.deleteQueue(site.taskQueue))
    const next = await site.startAgent()
    t.same(await until('the result', () => site.resultsOf(job)[0]), outcome)
    await until('the index', async () => !(await records.isOpen(job.agentId, job.taskId)))
    await next.stop()
    t.equal(site.resultsOf(job).length, 1)
  })
})

t.test("another version's job keeps no other from being gone on with", async t => {
  const site = await TestSite.open(t)
  await using records = await openRecords(site)
  const [strange, unpublished] = [newJob(site.agentId, 'a'), newJob(site.agentId, 'b')]
  await records.create({ ...newRecord(strange), version: 2 as 1 })
  await records.create(newRecord(unpublished, { outcome: outcomeOf(unpublished) }))
  for (const { agentId, taskId } of [strange, unpublished]) await records.enter(agentId, taskId, '')
  await site.startAgent()
  await until('the result of the other', () => site.resultsOf(unpublished)[0])
  t.match(
    site.logs.filter(({ job }) => job === strange.taskId),
    [{ msg: 'left alone', reason: /is a record of version 2/ }],
    'which is said once',
  )
})

t.test('a job of an agent that was killed', async t => {
  const site = await TestSite.open(t)
  await using records = await openRecords(site)
  const abandoned = async () => {
    const waiting = await waitingCreate(t, site)
    const killed = await startAgentProcess(t, site.environment)
    await site.publish(waiting.job)
    await until('the job', () => killed.output().includes('job begins'))
    killed.child.kill('SIGKILL')
    await killed.ended
    await waiting.goOn()
    return waiting
  }
  const another = { STORAGE_CONTROLLER_AGENT_ID: 'another', TASK_QUEUE: `${site.id}.tasks-of-another` }
  t.teardown(() => site.onBroker(channel => channel.deleteQueue(another.TASK_QUEUE)))

  await t.test('is gone on with by the next of its id, even if it never comes again', async t => {
    const { job, name } = await abandoned()
    await site.onBroker(channel => channel.deleteQueue(site.taskQueue))
    const next = await site.startAgent()
    t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true, result: { imageExisted: false } })
    t.ok((await site.imageNames()).includes(name))
    await next.stop()
    await checkTidy(t, records, site.agentId, 0)
  })

  await t.test('is left alone by agents of other ids', async t => {
    const { job } = await abandoned()
    const other = await site.startAgent(another)
    await delay(4_000) // more than one look at the journal
    t.same(site.resultsOf(job), [])
    t.notOk((await records.read(site.agentId, job.taskId))?.outcome)
    await other.stop()
  })

  await t.test('is taken over by those that may', async t => {
    const [entry] = await records
      .listOpen(site.agentId)
      .next()
      .then(({ value }) => (value ? [value] : []))
    const task = entry?.task ?? ''
    const other = await site.startAgent({ ...another, JOURNAL_TAKEOVER: '1' })
    const isThere = () => site.results.map(({ body }) => body).find(({ taskId }) => taskId === task)
    const result = await until('the result', isThere)
    t.match(result, { ok: true, agentId: site.agentId }, 'and has the result of the agent whose job it is')
    const stamped = await until('the index', async () => !(await records.isOpen(site.agentId, task)))
    t.ok(stamped)
    await other.stop()
    await checkTidy(t, records, site.agentId, 0)
  })
})

t.test('two jobs on one image, of two agents, do not meet', async t => {
  const site = await TestSite.open(t)
  const a = await newRunner(t, site)
  const b = await newRunner(t, site)
  const { job, name, goOn } = await waitingCreate(t, site)
  const take = (runner: typeof a.runner, each: Job) => runner.take(Buffer.from(JSON.stringify(each))).answer
  await using records = await openRecords(site)
  const creating = take(a.runner, job)
  await until('its record', () => records.read(site.agentId, job.taskId))
  const remove = site.job('storage.delete', { refId: name })
  const removing = take(b.runner, remove)
  await until('its record', () => records.read(site.agentId, remove.taskId))
  await delay(200)
  t.same((await records.read(site.agentId, remove.taskId))?.steps, [{ name: 'found' }], 'the second waits')
  await goOn()
  t.match((await creating).result, { ok: true })
  t.match((await removing).result, { ok: true, result: { deletedDisks: [{ image: name }] } })
})

t.test('a job that was cut short comes to its end before another one has its image', async t => {
  const site = await TestSite.open(t)
  await using records = await openRecords(site)
  const { runner, journal, config } = await newRunner(t, site)
  for (const isCleared of [false, true]) {
    const job = site.job('storage.create', { name: 'web', sizeMB: 8 }) as JobMessage
    const { plan: planOf, change } = actionOf(job)
    const { image = '', ...plan } = planOf(job, config)
    const killed = await openJournal(t, site.agentId, { poolName: config.ceph.volumePool })
    const { instance } = killed.journal
    const locks = new ImageLocks(killed.journal.records, instance, async () => true)
    await records.create(newRecord(job, { plan: { image, ...plan }, image, owner: instance.id, ...change?.begin() }))
    await records.enter(site.agentId, job.taskId, instance.id)
    t.ok(await locks.tryAcquire(image, holderOf(instance.id, site.agentId, job.taskId)))
    await killed.die()
    if (isCleared) {
      const [about] = (await records.listInstances(site.agentId)).filter(({ id }) => id === instance.id)
      t.ok(about && (await journal.clearAfter(about)))
    }
    const name = nameFor(job as Job)
    t.match(await resultOf(take(runner, site.job('storage.delete', { refId: name }))), {
      ok: true,
      result: { deletedDisks: [{ image: name }] },
    })
    t.match((await records.read(site.agentId, job.taskId))?.outcome, { ok: true })
    t.same(await heldImages(records), new Map())
  }
})

t.test('a message whose job somebody else changes meanwhile is not kept', async t => {
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  await using records = await openRecords(site)
  const { job, name, goOn } = await waitingCreate(t, site)
  await site.publish(job)
  await until('the job', () => site.logs.some(line => line.job === job.taskId && line.msg === 'job begins'))
  const remove = site.job('storage.delete', { refId: name }) as JobMessage
  const plan = actionOf(remove).plan(remove, readConfig(site.environment))
  await records.create(newRecord(remove, { plan, image: plan.image ?? '', steps: [{ name: 'found' }] }))
  await records.enter(site.agentId, remove.taskId, '')
  await delay(4_000) // more than one look at the journal
  await site.publish(remove as Job)
  await until('the message to be in hand', async () => {
    return (await site.onBroker(channel => channel.checkQueue(site.taskQueue))).messageCount === 0
  })
  await records.cancel(site.agentId, remove.taskId)
  await goOn()
  t.match(await until('its result', () => site.resultsOf(remove as Job)[0]), { code: 'CANCELLED' })
  await agent.stop()
  t.equal((await site.onBroker(channel => channel.checkQueue(site.taskQueue))).messageCount, 0)
})

t.test('an agent whose connection is blocklisted', async t => {
  const site = await TestSite.open(t)
  await using records = await openRecords(site)
  const shutOut = async () => {
    const [about] = await records.listInstances(site.agentId)
    for (const address of about?.addresses ?? []) await site.cluster.blocklist(address, { duration: 60_000 })
    await site.publish(site.job('storage.create', { name: 'web', sizeMB: 8 }))
  }

  await t.test('stops by itself, and says why', async t => {
    const agent = await site.startAgent()
    await shutOut()
    t.match(await agent.lost, { name: 'InstanceLostError', message: /its connection is blocklisted/ })
    await agent.stop()
    t.ok(site.logs.some(({ level, msg }) => level === 60 && msg === 'this agent must not go on'))
  })

  await t.test('ends its process with a failure, and the next one does the job', async t => {
    const agent = await site.startAgent() // does what the one before could not
    await until('its result', () => site.results.length === 1)
    await agent.stop()
    const child = await startAgentProcess(t, site.environment)
    await shutOut()
    t.match(await child.ended, { code: 1, signal: null })
    await site.startAgent()
    await until('its result', () => site.results.length === 2)
    t.ok(site.results.every(({ body }) => body.ok))
  })
})

t.test('what an agent has left in the journal that never returns', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  await using records = await openRecords(site)
  const keepMs = 60_000
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString()
  /** A job of the agent, finished so long ago. */
  const finished = async (agent: string, taskId: string, ms: number) => {
    const job = newJob(agent, taskId)
    await records.create(newRecord(job))
    const record = newRecord(job, { outcome: outcomeOf(job, ago(ms)) })
    await records.write(record)
    await records.enter(agent, taskId, '')
    await records.settle(agent, { task: taskId, finishedAt: record.outcome?.finishedAt ?? '' }, '')
    return record
  }
  const living = await openJournal(t, 'a-living', { poolName, keepMs })
  const gone = await openJournal(t, 'b-gone', { poolName, keepMs })
  await gone.die()
  for (const agent of [living.agentId, gone.agentId]) {
    await finished(agent, 'old', 2 * keepMs)
    await finished(agent, 'young', keepMs / 2)
  }
  const [unfinished, unpublished] = [newJob(gone.agentId, 'unfinished'), newJob(gone.agentId, 'unpublished')]
  await records.create(newRecord(unfinished, { owner: gone.journal.instance.id }))
  await records.create(newRecord(unpublished))
  await records.write(newRecord(unpublished, { outcome: outcomeOf(unpublished, ago(2 * keepMs)) }))
  for (const { agentId, taskId } of [unfinished, unpublished]) {
    await records.enter(agentId, taskId, gone.journal.instance.id)
  }
  const tasksOf = async (agent: string) => {
    const tasks = ['old', 'young', 'unfinished', 'unpublished']
    const found = await Promise.all(tasks.map(task => records.read(agent, task)))
    return tasks.filter((_, i) => found[i] !== undefined)
  }
  const own = await finished(site.agentId, 'own', 2_000)

  await t.test('stays where no agent may take over, and is named', async t => {
    const agent = await site.startAgent({ JOURNAL_KEEP_MS: '1000' })
    await until("the agent's own to be removed", async () => !(await records.read(site.agentId, own.job.taskId)))
    t.same(await tasksOf(gone.agentId), ['old', 'young', 'unfinished', 'unpublished'])
    const metrics = await (await fetch(`${agent.httpUrl}/metrics`)).text()
    t.match(metrics, /^cephkit_journal_abandoned_jobs 2$/m)
    const findings = await audit({ cluster: site.cluster, poolName, records })
    const ofJobs = findings.filter(({ agent, kind }) => agent === gone.agentId && kind !== 'process')
    t.match(
      ofJobs.map(({ kind, name, says }) => [kind, name, says]).sort((a, b) => `${a[1]}`.localeCompare(`${b[1]}`)),
      [
        ['record', 'old', /past its time/],
        ['job', 'unfinished', /nobody has in hand/],
        ['job', 'unpublished', /nobody publishes/],
      ],
    )
    t.notOk(findings.some(({ agent }) => agent === living.agentId))
    await agent.stop()
  })

  await t.test('is removed by one that may, in its time, and nothing of an agent that lives', async t => {
    const retried = newJob(living.agentId, 'retried')
    await records.create(newRecord(retried))
    await records.enter(living.agentId, retried.taskId, '')
    const agent = await site.startAgent({ JOURNAL_KEEP_MS: '1000', JOURNAL_TAKEOVER: '1' })
    await until('the old one to be removed', async () => !(await records.read(gone.agentId, 'old')))
    await until('its result', () => site.results.some(({ body }) => body.taskId === 'unpublished'))
    await until('the other', () => site.results.some(({ body }) => body.taskId === 'unfinished'))
    await until('the one whose result was published', async () => !(await records.read(gone.agentId, 'unpublished')))
    t.equal((await records.read(living.agentId, retried.taskId))?.owner, '')
    t.match(await tasksOf(gone.agentId), ['young', 'unfinished'], "as long as that agent's own setting says")
    t.same(await tasksOf(living.agentId), ['old', 'young'])
    await agent.stop()
  })
})
