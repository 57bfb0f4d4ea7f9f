/** An agent that works for months keeps nothing of what it has done and told. */
import { setTimeout as delay } from 'node:timers/promises'
import { queryObjects } from 'node:v8'
import t from 'tap'
import type { Agent } from '../../src/agent/index.js'
import { TestSite } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { get } from '../support/metrics.js'
import { collectGarbage } from '../support/process.js'

t.test('an agent', async t => {
  const site = await TestSite.open(t, { LOG_LEVEL: 'warn' })
  const { name: imageId } = await golden(t, site)
  const agent = await site.startAgent()
  const ask = () => Promise.all(['/metrics', '/readyz', '/healthz'].map(path => get(agent, path)))
  const work = async (i: number) => {
    const name = `disk-${i}`
    await site.succeed(site.job('storage.create', { name, imageId, sizeMB: 16 }))
    await site.perform(site.job('storage.create', { name, imageId: 'none', sizeMB: 16 }))
    await site.perform(site.job('storage.create', { name }))
    await site.succeed(site.job('storage.delete', { refId: name }))
  }
  const loads = [
    { what: 'that is asked how it is', load: ask, times: 25, atOnce: 1 },
    { what: 'that does jobs', load: work, times: 20, atOnce: 10 },
  ]
  for (const { what, load, times, atOnce } of loads) {
    await t.test(`${what} keeps nothing of it`, async t => {
      let done = 0
      const go = async (until: number) => {
        while (done < until) await Promise.all(Array.from({ length: atOnce }, () => load(done++)))
        return left(site, agent)
      }
      let before = await go(times)
      const kept: number[] = []
      for (let round = 1; round <= 3; round++) {
        const after = await go(times + round * 2 * times)
        kept.push((after - before) / (2 * times))
        before = after
      }
      // What is kept for ever is kept in each round; what takes some seconds to be over is seen in one of them.
      t.ok(Math.min(...kept) < 2, `${kept.join(', ')} objects each time`)
    })
  }
})

/**
 * How many objects there are, without those that only the test has; the least of some counts, for now and then there is work
 * that does not last. What V8 compiles is none.
 */
async function left(site: TestSite, agent: Agent): Promise<number> {
  for (const told of [site.results, site.deadLetters, site.telemetry, site.logs, site.logText]) told.length = 0
  await get(agent, '/metrics')
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3; i++) {
    await delay(200)
    collectGarbage()
    least = Math.min(least, queryObjects(Object, { format: 'count' }))
  }
  return least
}
