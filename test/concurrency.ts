import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { coalesced, forEachLimited, mapLimited } from '../src/concurrency.js'
import { KeyedQueue } from '../src/jobs/queue.js'

t.test('limited work', async t => {
  await t.test('gives results in the order of the items, so many at a time', async t => {
    let running = 0
    let most = 0
    const results = await mapLimited([5, 1, 4, 2, 3], 2, async n => {
      most = Math.max(most, ++running)
      await delay(n)
      running--
      return n * 10
    })
    t.same(results, [50, 10, 40, 20, 30])
    t.equal(most, 2)
  })

  await t.test('begins nothing after a failure, and waits for what runs', async t => {
    const begun: number[] = []
    let slowEnded = false
    const working = forEachLimited([1, 2, 3, 4, 5], 2, async n => {
      begun.push(n)
      if (n === 2) throw new Error('two')
      await delay(20)
      slowEnded = true
    })
    await t.rejects(working, { message: 'two' })
    t.same(begun, [1, 2])
    t.ok(slowEnded)
  })

  await t.test('of nothing is nothing', async t => {
    t.same(await mapLimited([], 4, async () => t.fail()), [])
  })
})

t.test('coalesced work', async t => {
  await t.test('is done once for all who ask while it is being done', async t => {
    let runs = 0
    const ask = coalesced(async () => {
      await delay(10)
      return ++runs
    })
    const first = ask()
    const later = [ask(), ask(), ask()]
    t.equal(await first, 1)
    t.same(await Promise.all(later), [2, 2, 2], 'in a run that began after they asked')
    t.equal(await ask(), 3)
  })

  await t.test('goes on after a failure', async t => {
    let runs = 0
    const ask = coalesced(async () => {
      await delay(5)
      if (++runs === 1) throw new Error('first')
      return runs
    })
    const first = ask()
    const second = ask()
    await t.rejects(first, { message: 'first' })
    t.equal(await second, 2)
  })
})

t.test('a keyed queue', async t => {
  await t.test('has work on one key in order, and on others side by side', async t => {
    const queue = new KeyedQueue()
    const events: string[] = []
    const work = (name: string, ms: number) => async () => {
      events.push(`${name} begins`)
      await delay(ms)
      events.push(`${name} ends`)
    }
    await Promise.all([queue.run('x', work('x1', 30)), queue.run('x', work('x2', 1)), queue.run('y', work('y1', 1))])
    t.same(events, ['x1 begins', 'y1 begins', 'y1 ends', 'x1 ends', 'x2 begins', 'x2 ends'])
  })

  await t.test('goes on after a failure, of which only its own caller hears', async t => {
    const queue = new KeyedQueue()
    const failing = queue.run('x', async () => {
      throw new Error('mine')
    })
    const next = queue.run('x', async () => 'fine')
    await t.rejects(failing, { message: 'mine' })
    t.equal(await next, 'fine')
  })
})
