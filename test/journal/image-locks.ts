import t from 'tap'
import { ImageLocks } from '../../src/journal/image-locks.js'
import { holderOf } from '../../src/journal/layout.js'
import { newAgentId, newJob, newRecord, openJournal, outcomeOf } from '../support/journal.js'

t.test('an image', async t => {
  const open = async () => {
    const { journal, agentId, die } = await openJournal(t)
    const { records, instance } = journal
    const locks = new ImageLocks(records, instance, async ({ job }) => job.agentId.endsWith('that-comes-back'))
    return { records, id: instance.id, locks, holder: (task: string) => holderOf(instance.id, agentId, task), die }
  }
  const [a, b] = [await open(), await open()]
  const image = `rbd/${newAgentId()}`

  await t.test('is held by one job at a time', async t => {
    const holders = Array.from({ length: 10 }, (_, i) => [a.holder(`${i}`), b.holder(`${i}`)]).flat()
    const tries = await Promise.all(holders.map((holder, i) => (i % 2 ? b : a).locks.tryAcquire(image, holder)))
    const winner = tries.indexOf(true)
    t.equal(tries.filter(Boolean).length, 1)
    t.equal(await a.locks.holder(image), holders[winner])
    t.ok(await (winner % 2 ? b : a).locks.tryAcquire(image, holders[winner] ?? ''), 'which may ask again')
    await a.locks.release(image, holders[winner] ?? '')
    t.equal(await a.locks.holder(image), undefined)
  })

  await t.test('is not given back by who does not hold it', async t => {
    t.ok(await a.locks.tryAcquire(image, a.holder('t')))
    await b.locks.release(image, b.holder('t'))
    t.equal(await b.locks.tryAcquire(image, b.holder('t')), false)
    await a.locks.release(image, a.holder('t'))
    t.ok(await b.locks.tryAcquire(image, b.holder('t')))
    await b.locks.release(image, b.holder('t'))
  })

  await t.test('does not keep another one', async t => {
    t.ok(await a.locks.tryAcquire(`${image}-1`, a.holder('t')))
    t.ok(await b.locks.tryAcquire(`${image}-2`, b.holder('t')))
  })

  await t.test('is free when its holder is gone', async t => {
    t.ok(await a.locks.tryAcquire(image, a.holder('t')))
    t.equal(await b.locks.tryAcquire(image, b.holder('t')), false)
    await a.die()
    t.equal(await b.locks.tryAcquire(image, b.holder('t')), true)
  })

  const left = async (agent: string) => {
    const gone = await open()
    const [own, job] = [`${image}-of-${agent}`, newJob(`${newAgentId()}-${agent}`)]
    await b.records.create(newRecord(job, { image: own }))
    const holderAt = (instance: string) => holderOf(instance, job.agentId, job.taskId)
    for (const each of [own, `${own}-beside`]) t.ok(await gone.locks.tryAcquire(each, holderAt(gone.id)))
    await gone.die()
    t.ok(await b.locks.tryAcquire(`${own}-beside`, b.holder('other')), 'what it changed on its way is free')
    return { own, job, holderAt, gone }
  }

  await t.test('is kept for a job that its holder has left', async t => {
    const { own, job, holderAt, gone } = await left('that-comes-back')
    const other = b.holder('other')
    t.notOk(await b.locks.tryAcquire(own, other))
    await b.locks.releaseAllOf(gone.id)
    t.notOk(await b.locks.tryAcquire(own, other))
    t.match(await b.locks.left(own), { job })
    t.ok(await b.locks.tryAcquire(own, holderAt(b.id)), 'that job has it')
    t.equal(await b.locks.left(own), undefined)
    await b.locks.release(own, holderAt(b.id))
    t.ok(await b.locks.tryAcquire(own, other))
  })

  await t.test('is not kept if nobody goes on with that job', async t => {
    const { own } = await left('that-is-gone')
    t.ok(await b.locks.tryAcquire(own, b.holder('other')))
  })

  await t.test('is not kept for a job that is over', async t => {
    const { own, job, gone } = await left('too-that-comes-back')
    await b.records.write(newRecord(job, { image: own, outcome: outcomeOf(job) }))
    t.equal(await b.locks.left(own), undefined)
    await b.locks.releaseAllOf(gone.id)
    t.equal(await b.locks.holder(own), undefined)
  })
})
