import { type AddressInfo, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { GetMessage } from 'amqplib'
import t, { type Test } from 'tap'
import { messageOf } from '../../src/errors.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { BrokerProxy } from '../support/proxy.js'

/** Longer than the agent needs to come back, so that a second result would have come. */
const settleMs = 500

/** A site whose agent has its own way to the broker. */
async function cutSite(t: Test) {
  const site = await TestSite.open(t)
  const proxy = await BrokerProxy.open(t, site.environment.BROKER_URL ?? '')
  return { site, proxy, settings: { BROKER_URL: proxy.url } }
}

async function takeFrom(site: TestSite, queue: string): Promise<GetMessage> {
  const message = await site.onBroker(channel => channel.get(queue, { noAck: true }))
  if (message === false) throw new Error(`${queue} has no message`)
  return message
}

/** Does something as soon as the log says so of the job, before the agent goes on. */
function whenLogged(site: TestSite, job: Job, msg: string, act: () => void): void {
  site.onLog = line => {
    if (line.job !== job.taskId || line.msg !== msg) return
    site.onLog = () => {}
    act()
  }
}

t.test('a connection that is cut', async t => {
  const { site, proxy, settings } = await cutSite(t)
  const { name: imageId } = await golden(t, site)
  await site.startAgent(settings)

  for (const moment of ['job begins', 'step done', 'job done']) {
    await t.test(`at "${moment}": the job has one volume and one result`, async t => {
      const images = await site.imageNames()
      const job = site.job('storage.create', { name: 'cut', imageId, sizeMB: 16 })
      whenLogged(site, job, moment, () => proxy.cut())
      const { ok, result } = await site.perform(job)
      t.ok(ok)
      t.ok(result)
      await delay(settleMs)
      t.equal(site.resultsOf(job).length, 1)
      t.equal((await site.imageNames()).length, images.length + 1)
    })
  }

  await t.test('while a volume is deleted: the result says that it was', async t => {
    const { disk } = await site.succeed(site.job('storage.create', { name: 'cut', imageId, sizeMB: 16 }))
    const job = site.job('storage.delete', { refId: disk.name })
    whenLogged(site, job, 'job done', () => proxy.cut())
    const { deletedDisks } = await site.succeed(job)
    t.equal(deletedDisks.length, 1)
    await delay(settleMs)
    t.equal(site.resultsOf(job).length, 1)
  })

  await t.test('again and again: all jobs are done, each once', async t => {
    const images = await site.imageNames()
    const jobs = Array.from({ length: 20 }, (_, i) =>
      site.job('storage.create', { name: `cut-${i}`, imageId, sizeMB: 16 }),
    )
    let done = 0
    site.onLog = ({ msg }) => {
      if (msg === 'job done' && ++done % 4 === 0) proxy.cut()
    }
    const results = await Promise.all(jobs.map(job => site.perform(job)))
    t.ok(results.every(({ ok }) => ok))
    t.ok(site.logs.filter(({ msg }) => msg === 'lost the broker').length >= 5, 'the broker was lost a few times')
    await delay(settleMs)
    t.equal((await site.imageNames()).length, images.length + jobs.length)
    for (const job of jobs) {
      const disks = site.resultsOf(job).map(({ result }) => (result as { disk: object }).disk)
      t.ok(disks.length >= 1)
      for (const disk of disks) t.same(disk, disks[0], 'a second result is the same again')
    }
    t.same(site.deadLetters, [])
  })
})

t.test('a connection that is cut while it is set up', async t => {
  const { site, proxy, settings } = await cutSite(t)
  const logged = (pattern: RegExp) => site.logs.filter(({ msg }) => pattern.test(msg)).length
  await site.startAgent({ ...settings, HEARTBEAT_INTERVAL_MS: '3600000' })
  const setUpBytes = proxy.receivedBytes
  for (let bytes = 0; bytes < setUpBytes; bytes += 40) {
    const lost = logged(/^(lost|no connection to) the broker$/)
    proxy.cutAfter(bytes)
    await until(
      `the agent to fail after ${bytes} bytes`,
      () => logged(/^(lost|no connection to) the broker$/) >= lost + 2,
    )
    const connected = logged(/^connected/)
    proxy.allow()
    await until('the agent to connect', () => logged(/^connected/) > connected)
  }
  t.ok(await site.succeed(site.job('inventory.refresh', {})), 'is tried again, wherever that was')
})

t.test('a broker that is away', async t => {
  const { site, proxy, settings } = await cutSite(t)
  proxy.refuse()
  const agent = site.newAgent(settings)
  const started = agent.start()
  await until('some attempts', () => site.logs.filter(({ msg }) => msg === 'no connection to the broker').length >= 3)

  await t.test('is waited for at the start', async t => {
    proxy.allow()
    await started
    t.ok(await site.succeed(site.job('inventory.refresh', {})))
  })

  await t.test('gets the result of a job that ended meanwhile', async t => {
    const job = site.job('storage.create', { name: 'patient', sizeMB: 8 })
    whenLogged(site, job, 'job begins', () => proxy.refuse())
    await site.publish(job)
    await until('the job to end', () => site.logs.some(line => line.job === job.taskId && line.msg === 'job done'))
    t.same(site.resultsOf(job), [])
    proxy.allow()
    await until('the result', () => site.resultsOf(job)[0])
    t.match(site.resultsOf(job), [{ ok: true, result: { imageExisted: false } }], 'the one of the job itself')
  })

  await t.test('is not waited for when the agent is to stop', async t => {
    proxy.refuse()
    await until('its loss', () => site.logs.at(-1)?.msg === 'no connection to the broker')
    await agent.stop()
    t.pass()
  })

  await t.test('is named with the reason for each of its addresses', async t => {
    const reason = new AggregateError([new Error('connect ECONNREFUSED ::1:5672'), new Error('connect ETIMEDOUT')])
    t.equal(messageOf(reason), 'connect ECONNREFUSED ::1:5672; connect ETIMEDOUT')
  })

  await t.test('is not waited for when the agent is to stop before it has started', async t => {
    const late = site.newAgent(settings)
    const starting = late.start()
    await until('an attempt', () => site.logs.at(-1)?.msg === 'no connection to the broker')
    await late.stop()
    await t.rejects(starting, { name: 'AbortError' })
  })
})

t.test('a result that nobody wants', async t => {
  const site = await TestSite.open(t)
  const results = `${site.id}.results`
  const exchange = site.environment.RESULTS_EXCHANGE ?? ''
  const deadLetters = site.environment.DEAD_LETTER_EXCHANGE ?? ''

  await t.test('comes as soon as somebody does', async t => {
    const agent = await site.startAgent({ BROKER_RECONNECT_DELAY_MS: '1000' })
    await site.onBroker(channel => channel.unbindQueue(results, exchange, '#'))
    const job = site.job('inventory.refresh', {})
    await site.publish(job)
    await until('the broker to return it', () => site.logs.some(({ msg }) => msg === 'not published, trying again'))
    await site.onBroker(channel => channel.bindQueue(results, exchange, '#'))
    await until('it after all', () => site.resultsOf(job)[0])
    t.equal(site.resultsOf(job).length, 1)
    await agent.stop()
  })

  await t.test('waits in the journal, and keeps no other job from being done', async t => {
    const agent = await site.startAgent({ PREFETCH_COUNT: '1', BROKER_RECONNECT_DELAY_MS: '10000' })
    await site.onBroker(channel => channel.unbindQueue(results, exchange, '#'))
    const jobs = Array.from({ length: 5 }, () => site.job('storage.create', { name: 'web', sizeMB: 8 }))
    for (const job of jobs) await site.publish(job)
    const waiting = 'nobody takes the result: it waits in the journal'
    const isWaiting = ({ taskId }: Job) => site.logs.some(({ job, msg }) => job === taskId && msg === waiting)
    await until('all to be done', () => jobs.every(isWaiting))
    await site.onBroker(channel => channel.bindQueue(results, exchange, '#'))
    await until('the results', () => jobs.every(job => site.resultsOf(job)[0]))
    for (const job of jobs) t.match(site.resultsOf(job), [{ ok: true }], 'each once')
    await agent.stop()
  })

  await t.test('goes to the dead-letter queue after some tries, and keeps no other job from being done', async t => {
    const agent = await site.startAgent({ PREFETCH_COUNT: '2' })
    await site.onBroker(channel => channel.unbindQueue(results, exchange, '#'))
    const jobs = Array.from({ length: 5 }, () => site.job('inventory.refresh', {}))
    for (const job of jobs) await site.publish(job)
    const count = async () => (await site.onBroker(channel => channel.checkQueue(deadLetters))).messageCount
    await until('the dead letters', async () => (await count()) === jobs.length)
    const letters: GetMessage[] = []
    while (letters.length < jobs.length) letters.push(await takeFrom(site, deadLetters))
    for (const { properties } of letters) {
      t.match(properties.headers, {
        'x-cephkit-reason': `no queue is bound to exchange ${exchange} for task.inventory.refresh`,
        'x-cephkit-agent': site.agentId,
        'x-cephkit-exchange': exchange,
        'x-cephkit-routing-key': 'task.inventory.refresh',
      })
    }
    const bodies = letters.map(({ content }) => JSON.parse(content.toString()))
    t.same(bodies.map(({ taskId }) => taskId).sort(), jobs.map(({ taskId }) => taskId).sort())
    t.ok(bodies.every(({ ok, result }) => ok && result.inventory))
    const told = site.logs.filter(({ msg }) => msg === 'nobody takes it: dead-lettered').map(({ job }) => job)
    t.same(told.sort(), jobs.map(({ taskId }) => taskId).sort(), 'the log says whose')
    await agent.stop()
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
    t.equal(messageCount, 0, 'none of the jobs comes again')
    await site.onBroker(channel => channel.bindQueue(results, exchange, '#'))
  })
})

t.test('dead letters that their exchange has no queue for', async t => {
  const site = await TestSite.open(t, { PREFETCH_COUNT: '1' })
  const exchange = site.environment.DEAD_LETTER_EXCHANGE ?? ''
  await site.onBroker(channel => channel.deleteExchange(exchange))
  await site.onBroker(channel => channel.assertExchange(exchange, 'direct', { durable: true }))
  await site.startAgent()
  const isThere = async () => (await site.onBroker(channel => channel.checkQueue(exchange))).messageCount > 0
  await site.publish(Buffer.from('?'))
  await until('one in the queue', isThere)
  const letter = await takeFrom(site, exchange)
  t.equal(letter.content.toString(), '?', 'are in the queue all the same')
  t.match(letter.properties.headers, { 'x-cephkit-reason': /^no JSON/, 'x-cephkit-routing-key': site.agentId })

  await site.onBroker(channel => channel.deleteQueue(exchange))
  await site.publish(Buffer.from('??'))
  const isBack = () => isThere().catch(() => false)
  await until('another', isBack)
  t.ok(await site.succeed(site.job('inventory.refresh', {})), 'which is made anew when it is gone')
})

t.test('a consumer that the broker cancels', async t => {
  const site = await TestSite.open(t)
  await site.startAgent()
  await site.onBroker(channel => channel.deleteQueue(site.taskQueue))
  // What is published before the queue is there, and bound, has nowhere to go.
  await until('the queue', () => site.logs.some(({ msg }) => msg === 'consuming again'))
  t.ok(await site.succeed(site.job('inventory.refresh', {})), 'is there again')
  t.notOk(
    site.logs.some(({ msg }) => msg === 'lost the broker'),
    'and the connection was kept',
  )
})

t.test('a channel that the broker closes', async t => {
  const site = await TestSite.open(t)
  // Time to bind a queue to the exchange that it makes anew.
  await site.startAgent({ BROKER_RECONNECT_DELAY_MS: '1000' })
  // Publishing to an exchange that is not there is an error that closes the channel.
  const exchange = site.environment.RESULTS_EXCHANGE ?? ''
  await site.onBroker(channel => channel.deleteExchange(exchange))
  const job = site.job('inventory.refresh', {})
  await site.publish(job)
  await until('the loss', () =>
    site.logs.some(({ msg, reason }) => msg === 'lost the broker' && /404/.test(String(reason))),
  )
  await until('the exchange', () =>
    site.onBroker(channel => channel.checkExchange(exchange)).catch(() => false as const),
  )
  await site.onBroker(channel => channel.bindQueue(`${site.id}.results`, exchange, '#'))
  t.match(
    await until('the result', () => site.resultsOf(job)[0]),
    { ok: true },
    'is opened again, and the result comes',
  )
})

t.test('telemetry that cannot be sent', async t => {
  const { site, proxy, settings } = await cutSite(t)
  await site.startAgent({ ...settings, HEARTBEAT_INTERVAL_MS: '50' })
  proxy.refuse()
  await until('a failure', () => site.logs.some(({ msg, level }) => msg === 'telemetry not sent' && level === 40))
  const sent = site.telemetry.length
  proxy.allow()
  await until('the next', () => site.telemetry.length > sent)
  t.ok(await site.succeed(site.job('inventory.refresh', {})), 'keeps no job from being done')
})

t.test('a broker that takes the connection and says nothing', async t => {
  const site = await TestSite.open(t)
  const sockets: Socket[] = []
  const server = createServer(socket => void sockets.push(socket.on('error', () => {}).resume()))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  for (const protocol of ['amqp', 'amqps']) {
    const agent = site.newAgent({ BROKER_URL: `${protocol}://127.0.0.1:${port}` })
    const starting = agent.start()
    const before = sockets.length
    const socket = await until('the attempt', () => sockets[before])
    const stopping = performance.now()
    await agent.stop()
    await t.rejects(starting, { name: 'AbortError' })
    t.ok(performance.now() - stopping < 3_000, `${protocol}: is not waited for when the agent is to stop`)
    await until('the end of the attempt', () => socket.destroyed)
  }
})
