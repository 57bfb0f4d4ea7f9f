import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { Agent as HttpAgent, get as httpGet } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { TestSite, until } from '../support/broker.js'
import { hang } from '../support/hang.js'
import { get, metricsOf, readiness } from '../support/metrics.js'
import { BrokerProxy } from '../support/proxy.js'

t.test('an agent that can work says so', async t => {
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  const alive = await get(agent, '/healthz')
  t.equal(alive.status, 200)
  t.match(JSON.parse(alive.body), { ok: true, agentId: site.agentId, version: /^\d/ })
  const ready = await until('all three', async () => {
    const found = await readiness(agent)
    return found.ready && found
  })
  t.equal(ready.status, 200)
  for (const part of ['broker', 'cluster', 'journal'] as const) {
    t.equal(ready[part].ok, true)
    t.equal(new Date(ready[part].since).toISOString(), ready[part].since)
  }
  t.equal((await get(agent, '/else')).status, 404)
})

t.test('an agent whose broker is away lives, and is not ready', async t => {
  const site = await TestSite.open(t)
  const proxy = await BrokerProxy.open(t, site.environment.BROKER_URL ?? '')
  proxy.refuse()
  const agent = site.newAgent({ BROKER_URL: proxy.url })
  const starting = agent.start()
  await until('the port', () => agent.httpUrl)
  t.equal((await get(agent, '/healthz')).status, 200)
  const notYet = await until('the cluster', async () => {
    const found = await readiness(agent)
    return found.cluster.ok && found.journal.ok && found
  })
  t.match(notYet, { status: 503, ready: false, broker: { ok: false, reason: /./ } })
  proxy.allow()
  await starting
  const there = await readiness(agent)
  t.match(there, { status: 200, ready: true })
  t.notMatch(there.broker, { reason: /./ })

  await t.test('and says when it was lost, and found again', async t => {
    proxy.refuse()
    const lost = await until('the loss', async () => {
      const found = await readiness(agent)
      return !found.ready && found
    })
    t.match(lost, { status: 503, broker: { ok: false, reason: /./ }, cluster: { ok: true }, journal: { ok: true } })
    t.ok(lost.broker.since > there.broker.since)
    t.equal(lost.cluster.since, there.cluster.since)
    t.equal((await metricsOf(agent)).get('cephkit_ready{part="broker"}'), 0)
    t.notOk((await metricsOf(agent)).has('cephkit_queue_messages'), 'what is not known is not told as 0')
    proxy.allow()
    await until('the broker', async () => (await readiness(agent)).ready)
    const metrics = await metricsOf(agent)
    t.equal(metrics.get('cephkit_broker_reconnects_total'), 1)
    t.equal(metrics.get('cephkit_queue_messages'), 0)
  })
})

t.test('a cluster that hangs is told of while it hangs', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-health-'))
  t.teardown(() => stopStack(dir))
  const { pids, env } = await startStack({ dir })
  const { BROKER_URL, ...ofCluster } = env
  const before = { ...process.env }
  Object.assign(process.env, ofCluster)
  t.teardown(() => Object.assign(process.env, before))
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  await until('all three', async () => (await readiness(agent)).ready)

  for (const [daemon, part, other] of [
    ['osd.0', 'journal', 'cluster'],
    ['mon.a', 'cluster', 'broker'],
  ] as const) {
    await t.test(`${daemon} stops: the ${part} is not ready`, async t => {
      const pid = Number(pids[daemon])
      hang(pid)
      t.teardown(() => process.kill(pid, 'SIGCONT'))
      let slowest = 0
      const found = await until('the change', async () => {
        const asked = performance.now()
        const now = await readiness(agent)
        slowest = Math.max(slowest, performance.now() - asked)
        return !now[part].ok && now
      })
      t.match(found, { status: 503, ready: false, [part]: { reason: /no answer for \d+ s/ }, [other]: { ok: true } })
      t.ok(slowest < 1_000, `answered in ${slowest.toFixed(0)} ms at the latest`)
      t.equal((await get(agent, '/healthz')).status, 200)
      const asked = performance.now()
      const metrics = await metricsOf(agent)
      t.ok(performance.now() - asked < 5_000, 'nor do metrics wait for the cluster')
      t.equal(metrics.get(`cephkit_ready{part="${part}"}`), 0)
      if (part === 'journal') t.notOk(metrics.has('cephkit_journal_open_jobs'), 'not known, so not told')
      process.kill(pid, 'SIGCONT')
      await until('all three again', async () => (await readiness(agent)).ready)
    })
  }
})

t.test('a port that is taken fails the start, in one line', async t => {
  const site = await TestSite.open(t)
  const other = createServer()
  t.teardown(() => other.close())
  await once(other.listen(0, '127.0.0.1'), 'listening')
  const { port } = other.address() as { port: number }
  const agent = site.newAgent({ HTTP_PORT: String(port) })
  const error = await agent.start().then(
    () => undefined,
    error => error,
  )
  t.match(error.message, /^HTTP_PORT \d+ on 127\.0\.0\.1 is in use by another program: .+$/)
  t.notMatch(error.message, '\n')
  const elsewhere = site.newAgent({ HTTP_HOST: '192.0.2.1' })
  await t.rejects(elsewhere.start(), { message: 'HTTP_HOST 192.0.2.1 is no address of this host' })
})

t.test('a stop frees the port, whoever has a connection', async t => {
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  const url = `${agent.httpUrl}`
  const keepAlive = new HttpAgent({ keepAlive: true })
  const [response] = await once(httpGet(`${url}/healthz`, { agent: keepAlive }), 'response')
  response.resume()
  await once(response, 'end')
  await agent.stop()
  t.equal(agent.httpUrl, undefined)
  await t.rejects(fetch(url))
  keepAlive.destroy()
})
