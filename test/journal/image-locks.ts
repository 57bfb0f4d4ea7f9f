import t from 'tap'
import { ImageLocks } from '../../src/journal/image-locks.js'
import { holderOf } from '../../src/journal/layout.js'
import { newAgentId, openJournal } from '../support/journal.js'

t.test('an image', async t => {
  const open = async () => {
    const { journal, agentId, die } = await openJournal(t)
    const locks = new ImageLocks(journal.records.pool, journal.instance)
    return { locks, holder: (task: string) => holderOf(journal.instance.id, agentId, task), die }
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
})
