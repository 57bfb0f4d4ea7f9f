/** An agent that exposes volumes and is killed, time and again, at a moment that its journal knows, or at any other. */
import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { iqnOf } from '../../src/names.js'
import { type Death, startAgentProcess } from '../support/agent-process.js'
import { TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { openRecords } from '../support/journal.js'
import { randomNumbers } from '../support/random.js'
import { capacity, Tgt } from '../support/tgt.js'
import { Workload } from '../support/workload.js'

const kills = Number(process.env.KILLS ?? 8)
const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
const jobsAtOnce = 4
const longestLifeMs = 1_500

const operations = ['create', 'write', 'settle'] as const

t.test(`an agent is killed ${kills} times, seed ${seed}: no target is left over, and none is missing`, async t => {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  const environment = { ...site.environment, ...tgt.environment }
  const random = randomNumbers(seed)
  const work = new Workload(site, (await golden(t, site)).name, random)
  let isOver = false
  const client = async () => {
    while (!isOver) {
      const { job, end } = work.next()
      await site.publish(job)
      // However often its agent dies meanwhile.
      while (site.resultsOf(job).length === 0) await delay(20)
      for (const result of site.resultsOf(job).slice(0, 1)) end(result)
    }
  }
  await (await site.startAgent(tgt.environment)).stop()
  const clients = Promise.all(Array.from({ length: jobsAtOnce }, client))
  clients.catch(() => {})
  for (let killed = 0; killed < kills; killed++) {
    const operation = operations[random(operations.length)] ?? 'write'
    const death: Death = { operation, count: random(8), after: random(2) === 0 }
    const agent = await startAgentProcess(t, environment, random(3) === 0 ? {} : { death })
    await Promise.race([agent.ended, clients, delay(random(longestLifeMs) + 100)])
    agent.child.kill('SIGKILL')
    await agent.ended
  }
  isOver = true
  const last = await startAgentProcess(t, environment)
  await clients
  await using records = await openRecords(site)
  await until('all to be published', async () => (await records.listOpen(site.agentId).next()).done === true)
  last.child.kill('SIGTERM')
  await last.ended

  const volumes = [...work.volumes.values()].map(({ name, sizeMB }) => ({ iqn: iqnOf(name), sizeMB }))
  t.comment(`${volumes.length} volumes after ${site.results.length} results`)
  t.same((await tgt.names()).sort(), volumes.map(({ iqn }) => iqn).sort())
  for (const { iqn, sizeMB } of volumes) t.equal(await capacity(tgt.url(iqn)), sizeMB * 2 ** 20, 'of the right size')
  const pool = await site.cluster.openPool(site.environment.CEPH_DEFAULT_POOL ?? '', { namespace: 'cephkit.iscsi' })
  t.teardown(() => pool.close())
  let entries = 0
  for await (const [key] of pool.object(`exposed/${site.agentId}`).listOmap()) {
    entries++
    t.ok(work.volumes.has(key.slice(key.indexOf('/') + 1)), key)
  }
  t.equal(entries, volumes.length, 'what should be exposed is what is')
})
