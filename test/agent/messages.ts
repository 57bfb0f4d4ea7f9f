import t from 'tap'
import { TestSite, until } from '../support/broker.js'

t.test('a message that is no job', async t => {
  const site = await TestSite.open(t)
  await site.startAgent()

  const messages: Record<string, { content: Buffer | object; reason: RegExp }> = {
    'no JSON': { content: Buffer.from('{"taskId":'), reason: /^no JSON: / },
    'nothing at all': { content: Buffer.alloc(0), reason: /^no JSON: / },
    'no UTF-8': { content: Buffer.from([0x22, 0xff, 0xfe, 0x22]), reason: /^no JSON: .*utf-8/ },
    'nested without end': { content: Buffer.from('['.repeat(1_000_000)), reason: /^no JSON: / },
    'JSON, but no object': {
      content: Buffer.from('[1, 2]'),
      reason: /^no job: message: .*expected object, received array$/,
    },
    'no task': { content: { agentId: site.agentId, action: 'storage.create' }, reason: /^no job: taskId: missing$/ },
    'no action, and a number for a task': {
      content: { agentId: site.agentId, taskId: 7 },
      reason: /^no job: taskId: .*expected string, received number; action: missing$/,
    },
    'data that is a list': {
      content: { agentId: site.agentId, taskId: 't', action: 'storage.create', data: [] },
      reason: /^no job: data: .*expected record, received array$/,
    },
    'a task id that is too long to answer to': {
      content: { agentId: site.agentId, taskId: 'ä'.repeat(128), action: 'storage.create' },
      reason: /^no job: taskId: must be at most 255 bytes$/,
    },
    'a task id that is no text': {
      content: Buffer.from(`{"agentId":"${site.agentId}","taskId":"\\ud800","action":"storage.create"}`),
      reason: /^no job: taskId: must be well-formed Unicode$/,
    },
    'a job for an agent with a name that fits into no header': {
      content: { agentId: 'x'.repeat(100_000), taskId: 't', action: 'storage.create' },
      reason: /^for agent "xxx/,
    },
    'a job for another agent': {
      content: { agentId: 'somebody', taskId: 't', action: 'storage.create' },
      reason: /^for agent "somebody", this is agent-/,
    },
  }
  for (const [what, { content, reason }] of Object.entries(messages)) {
    await t.test(`${what}: is dead-lettered, with the reason`, async t => {
      const before = site.deadLetters.length
      await site.publish(content)
      const letter = await until('the dead letter', () => site.deadLetters[before])
      t.match(letter.properties.headers?.['x-cephkit-reason'], reason)
      t.equal(letter.properties.headers?.['x-cephkit-agent'], site.agentId)
      t.equal(letter.routingKey, site.agentId)
      t.equal(letter.properties.deliveryMode, 2)
      const sent = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content))
      t.ok(letter.content.equals(sent), 'as it was')
    })
  }

  await t.test('keeps its properties and headers, but for what would send it on or remove it', async t => {
    const before = site.deadLetters.length
    const exchange = site.environment.JOBS_EXCHANGE ?? ''
    const kept = { messageId: 'm', type: 't', replyTo: 'r', appId: 'a', timestamp: 1, priority: 3, contentType: 'x' }
    const headers = { traceparent: '00-1', CC: ['somebody'] }
    const options = { ...kept, headers, userId: 'guest', expiration: '60000' }
    await site.onBroker(async channel => channel.publish(exchange, site.agentId, Buffer.from('?'), options))
    const { properties } = await until('the dead letter', () => site.deadLetters[before])
    t.match(properties, kept)
    t.equal(properties.headers?.traceparent, '00-1')
    t.notOk(properties.headers?.CC ?? properties.userId ?? properties.expiration)
  })

  await t.test('is dead-lettered without its headers if they are too long for more', async t => {
    const before = site.deadLetters.length
    const exchange = site.environment.JOBS_EXCHANGE ?? ''
    const headers = { long: 'x'.repeat(60_000) }
    await site.onBroker(async channel => channel.publish(exchange, site.agentId, Buffer.from('?'), { headers }))
    const letter = await until('the dead letter', () => site.deadLetters[before])
    t.match(letter.properties.headers?.['x-cephkit-reason'], /^no JSON/)
    t.notOk(letter.properties.headers?.long)
  })

  await t.test('keeps nothing else from being done', async t => {
    t.ok(await site.succeed(site.job('inventory.refresh', {})))
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
    t.equal(messageCount, 0)
    t.equal(site.results.length, 1, 'none of them has got a result')
  })

  await t.test('is kept in a queue that was there for it', async t => {
    const queue = site.environment.DEAD_LETTER_EXCHANGE ?? ''
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(queue))
    t.equal(messageCount, site.deadLetters.length)
    t.ok(messageCount > 0)
  })
})

t.test('a job that cannot be', async t => {
  const site = await TestSite.open(t)
  await site.startAgent()

  await t.test('has a failed result when its action is unknown', async t => {
    const job = site.job('storage.levitate', { height: 3 })
    const result = await site.perform(job)
    t.match(result, { taskId: job.taskId, agentId: site.agentId, ok: false, code: 'INVALID_JOB', retryable: false })
    t.match(result.error, /"storage\.levitate" is none of storage\.create, disk\.create/)
    t.equal(site.results[0]?.routingKey, 'task.storage.levitate')
  })

  await t.test('has a failed result that names every problem of its data', async t => {
    const result = await site.perform(site.job('inventory.refresh', { full: 'yes', and: 1, more: 2 }))
    t.match(result, { ok: false, code: 'INVALID_JOB' })
    t.equal(result.error, 'full: must be true or false; and: unknown key; more: unknown key')
  })

  await t.test('has an answer of a bearable length, whatever its own', async t => {
    const unknown = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`${i}${'x'.repeat(1_000)}`, i]))
    const { code, error = '' } = await site.perform(site.job('inventory.refresh', unknown))
    t.equal(code, 'INVALID_JOB')
    t.match(error, /; and 950 more$/)
    t.ok(error.length < 20_000)
    const portals = Array.from({ length: 300_000 }, () => ({}))
    const result = await site.perform(site.job('storage.create', { name: 'x', sizeMB: 1, portals }))
    t.equal(result.error, 'portals: must be at most 16')
  })

  await t.test('may have a target in its data, which the control plane puts there for itself', async t => {
    t.match(await site.perform(site.job('inventory.refresh', { target: 'node-7' })), { ok: true })
    const { result } = await site.perform(site.job('storage.delete', { refId: 'never-was', target: 'node-7' }))
    t.same(result, { refId: 'never-was', targetDeleted: false, deletedDisks: [] })
    const { error } = await site.perform(site.job('inventory.refresh', { target: 7, targets: [] }))
    t.equal(error, 'target: must be a string; targets: unknown key')
    const tooLong = await site.perform(site.job('inventory.refresh', { target: 'ä'.repeat(128) }))
    t.equal(tooLong.error, 'target: must be at most 255 bytes')
  })

  await t.test('may have keys in its envelope that nobody knows', async t => {
    const job = { ...site.job('inventory.refresh', null), correlationId: 'c', replyTo: 'x', priority: 1 }
    t.match(await site.perform(job), { ok: true })
  })
})

t.test('the task queue', async t => {
  await t.test('is a quorum queue with a limit of deliveries and a way for what exceeds it', async t => {
    const site = await TestSite.open(t)
    await site.startAgent()
    const assert = (args: object) =>
      site.onBroker(channel => channel.assertQueue(site.taskQueue, { durable: true, arguments: args }))
    const args = {
      'x-queue-type': 'quorum',
      'x-delivery-limit': 100,
      'x-dead-letter-exchange': site.environment.DEAD_LETTER_EXCHANGE,
    }
    await t.resolves(assert(args))
    for (const [name, other] of [
      ['x-queue-type', 'classic'],
      ['x-delivery-limit', 99],
      ['x-dead-letter-exchange', 'elsewhere'],
    ] as const) {
      await t.rejects(
        assert({ ...args, [name]: other }),
        { code: 406, message: new RegExp(name) },
        `it has its ${name}`,
      )
    }
  })

  await t.test('is used as it is when it was there before', async t => {
    const site = await TestSite.open(t)
    await site.onBroker(channel => channel.assertQueue(site.taskQueue, { durable: true }))
    await site.startAgent()
    t.ok(await site.succeed(site.job('inventory.refresh', {})))
    t.ok(site.logs.find(({ level, msg }) => level === 40 && msg === `queue ${site.taskQueue} is used as it is`))
  })

  await t.test('is the plain one that the control plane declares too when TASK_QUEUE is blank', async t => {
    const site = await TestSite.open(t)
    await site.startAgent({ TASK_QUEUE: '' })
    const queue = `agent.${site.agentId}.tasks`
    t.ok(await site.succeed(site.job('inventory.refresh', {})))
    await t.resolves(site.onBroker(channel => channel.assertQueue(queue, { durable: true })))
    await site.onBroker(channel => channel.deleteQueue(queue))
  })

  await t.test('gets exchanges of another kind as they are', async t => {
    const site = await TestSite.open(t)
    const jobs = site.environment.JOBS_EXCHANGE ?? ''
    await site.onBroker(channel => channel.assertExchange(jobs, 'topic', { durable: false }))
    await site.startAgent()
    t.ok(await site.succeed(site.job('inventory.refresh', {})))
    t.ok(site.logs.find(({ level, msg }) => level === 40 && msg === `exchange ${jobs} is used as it is`))
  })
})
