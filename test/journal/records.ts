import t from 'tap'
import type { Cluster } from '../../lib/index.js'
import { operationsOf } from '../../scripts/bench/osd.js'
import { Records } from '../../src/journal/records.js'
import { testCluster } from '../support/cluster.js'
import { all, newAgentId, newJob, newRecord, openJournal, outcomeOf } from '../support/journal.js'
import { ownPool } from '../support/own-cluster.js'

t.test('a record', async t => {
  const records = await Records.open(await testCluster(t), 'rbd')
  const agentId = newAgentId()

  await t.test('is made once', async t => {
    const job = newJob(agentId)
    t.equal(await records.create(newRecord(job, { owner: 'first' })), true)
    t.equal(await records.create(newRecord(job, { owner: 'second' })), false)
    t.equal((await records.read(agentId, job.taskId))?.owner, 'first')
  })

  await t.test('of a name with anything in it is found under that name alone', async t => {
    const tasks = ['a/b', 'a%2Fb', 'ä\n', '../x', 'a b', 'open/x', '.', 'n'.repeat(255)]
    for (const task of tasks) {
      const job = newJob(agentId, task)
      t.ok(await records.create(newRecord(job)), JSON.stringify(task))
      await records.enter(agentId, task, 'me')
      t.equal((await records.read(agentId, task))?.job.taskId, task)
    }
    t.same((await all(records.listOpen(agentId))).map(({ task }) => task).sort(), tasks.sort())
    for (const task of tasks) await records.settle(agentId, { task, finishedAt: '2026-01-01T00:00:00.000Z' }, 'me')
    t.same(await all(records.listOpen(agentId)), [])
    t.same((await all(records.listDone(agentId))).map(({ task }) => task).sort(), tasks.sort())
  })

  await t.test('is not written by who has not seen the last change', async t => {
    const job = newJob(agentId)
    await records.create(newRecord(job))
    const [first, second] = [await records.read(agentId, job.taskId), await records.read(agentId, job.taskId)]
    if (!first || !second) return t.fail('there is no record')
    const { rev } = await records.write({ ...first, owner: 'first' })
    await t.rejects(records.write({ ...second, owner: 'second' }), { name: 'RecordChangedError' })
    t.match(await records.read(agentId, job.taskId), { owner: 'first', rev })
  })

  await t.test('is changed by one of many that try at once', async t => {
    const job = newJob(agentId)
    const record = newRecord(job)
    await records.create(record)
    const tries = Array.from({ length: 20 }, (_, i) => records.write({ ...record, owner: `${i}` }))
    const winners = (await Promise.allSettled(tries)).flatMap(({ status }, i) =>
      status === 'fulfilled' ? [`${i}`] : [],
    )
    t.equal(winners.length, 1)
    t.equal((await records.read(agentId, job.taskId))?.owner, winners[0])
  })

  await t.test('of another version is left alone', async t => {
    const job = newJob(agentId)
    await records.create({ ...newRecord(job), version: 2 as 1 })
    await t.rejects(records.read(agentId, job.taskId), { message: /is a record of version 2/ })
  })

  await t.test('that is not there is none', async t => {
    t.equal(await records.read(agentId, 'nothing'), undefined)
    t.equal(await records.cancel(agentId, 'nothing'), undefined)
    t.equal(await records.retry(agentId, 'nothing'), undefined)
    t.same(await all(records.listOpen('nobody')), [])
    t.same(await records.listInstances('nobody'), [])
  })

  await t.test('can be marked to be cancelled until it is finished', async t => {
    const [running, finished] = [newJob(agentId), newJob(agentId)]
    await records.create(newRecord(running))
    await records.create(newRecord(finished, { outcome: outcomeOf(finished) }))
    t.match(await records.cancel(agentId, running.taskId), { cancelledAt: /Z$/ })
    t.notOk((await records.cancel(agentId, finished.taskId))?.cancelledAt)
  })

  await t.test('of a failed job alone can be done again', async t => {
    const [failed, done] = [newJob(agentId), newJob(agentId)]
    const failure = { step: 'b', error: 'e', code: 'C', retryable: false }
    const steps = [{ name: 'a', made: 1 }, { name: 'b' }]
    await records.create(newRecord(failed, { outcome: outcomeOf(failed, '2026-01-02', false), failure, steps }))
    await records.settle(agentId, { task: failed.taskId, finishedAt: '2026-01-02' }, '')
    await records.create(newRecord(done, { outcome: outcomeOf(done) }))
    const again = await records.retry(agentId, failed.taskId)
    t.same([again?.outcome, again?.failure, again?.owner], [undefined, undefined, ''])
    t.same(again?.steps, [{ name: 'a' }, { name: 'b' }], 'each may be there')
    t.ok(await records.isOpen(agentId, failed.taskId))
    t.notOk((await all(records.listDone(agentId))).some(({ task }) => task === failed.taskId))
    t.ok((await records.retry(agentId, done.taskId))?.outcome, 'what was done is as it was')
    t.notOk(await records.isOpen(agentId, done.taskId))
  })
})

t.test('a failed job that is to be done again', async t => {
  const { journal, agentId } = await openJournal(t)
  const { records } = journal
  const failedJob = async () => {
    const job = newJob(agentId)
    const entry = await journal.obtain(job, { plan: {}, image: undefined, progress: { steps: [] } })
    await entry.finish(outcomeOf(job, undefined, false))
    return { job, entry }
  }

  await t.test('is, also if the broker has its first result just then', async t => {
    const { job, entry } = await failedJob()
    await records.retry(agentId, job.taskId)
    await entry.settle()
    t.ok(await records.isOpen(agentId, job.taskId), 'it is in the index of those that are not done')
    t.same(await all(records.listDone(agentId)), [])
  })

  await t.test('is begun once, however many ask', async t => {
    const { job, entry } = await failedJob()
    await entry.settle()
    const found = await records.read(agentId, job.taskId)
    await records.retry(agentId, job.taskId)
    const again = await journal.takeOver((await records.read(agentId, job.taskId)) ?? newRecord(job))
    t.equal(again?.record.owner, journal.instance.id)
    // As another one does that had read the record before.
    const { read } = records
    records.read = async () => {
      records.read = read
      return found
    }
    await records.retry(agentId, job.taskId)
    t.equal((await records.read(agentId, job.taskId))?.owner, journal.instance.id, 'who has it in hand keeps it')
  })
})

t.test('old records are collected', async t => {
  const { journal, agentId } = await openJournal(t)
  const { records } = journal
  const times = ['2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z', '2026-01-03T00:00:00.000Z']
  const jobs = times.map(() => newJob(agentId))
  for (const [i, job] of jobs.entries()) {
    await records.create(newRecord(job))
    await records.write(newRecord(job, { outcome: outcomeOf(job, times[i]) }))
    await records.settle(agentId, { task: job.taskId, finishedAt: times[i] ?? '' }, '')
  }
  const left = async () => {
    const found = await Promise.all(jobs.map(job => records.read(agentId, job.taskId)))
    return found.map(record => record !== undefined)
  }

  await t.test('up to a time', async t => {
    t.equal(await journal.collect(agentId, new Date(times[1] ?? '')), 1)
    t.same(await left(), [false, true, true])
    t.equal((await all(records.listDone(agentId))).length, 2)
  })

  await t.test('but not what has been begun anew meanwhile', async t => {
    const [, again] = jobs
    if (!again) return t.fail('there is no job')
    const record = await records.read(agentId, again.taskId)
    if (!record) return t.fail('there is no record')
    const { outcome, ...rest } = record
    await records.write(rest)
    t.equal(await journal.collect(agentId, new Date()), 2)
    t.same(await left(), [false, true, false])
    t.same(await all(records.listDone(agentId)), [])
  })
})

t.test('to list open jobs reads no finished one', async t => {
  const { cluster } = await ownPool(t)
  const records = await Records.open(cluster, 'rbd')
  const finishedAt = new Date().toISOString()
  const measured = async (c: Cluster) => {
    const before = await operationsOf(c)
    const tasks = (await all(records.listOpen('agent'))).map(({ task }) => task)
    return { tasks: tasks.sort(), operations: (await operationsOf(c)) - before }
  }
  // The manager reads something of its own now and then: the fewest are the listing's.
  const listing = async (c: Cluster) => {
    const tries = [await measured(c), await measured(c), await measured(c)]
    return tries.reduce((a, b) => (b.operations < a.operations ? b : a))
  }
  for (const task of ['x', 'y', 'z']) await records.enter('agent', task, 'me')
  const few = await listing(cluster)
  for (let i = 0; i < 2_000; i += 100) {
    const tasks = Array.from({ length: 100 }, (_, k) => `${i + k}`)
    await Promise.all(tasks.map(task => records.settle('agent', { task, finishedAt }, '')))
  }
  t.same(few.tasks, ['x', 'y', 'z'])
  t.same(await listing(cluster), few, 'it costs the same with 2,000 of those')
})
