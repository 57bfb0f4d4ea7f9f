import t from 'tap'
import { TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'

t.test('a stop', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)

  await t.test('waits for the jobs that run, and leaves the others in the queue', async t => {
    const agent = await site.startAgent({ PREFETCH_COUNT: '3' })
    // All on one image, so that those in hand wait for each other.
    const job = site.job('storage.create', { name: 'first', imageId, sizeMB: 16 })
    const deletes = Array.from({ length: 8 }, (_, i) =>
      site.job('storage.create', { name: `later-${i}`, imageId, sizeMB: 16 }),
    )
    let stopping: Promise<void> | undefined
    site.onLog = line => {
      if (line.msg === 'job begins') stopping ??= agent.stop()
    }
    for (const each of [job, ...deletes]) await site.publish(each)
    await until('a job', () => stopping !== undefined)
    await stopping
    const begun = site.logs.filter(({ msg }) => msg === 'job begins').length
    t.equal(site.results.length, begun, 'what had begun has its result')
    t.ok(site.results.every(({ body }) => body.ok))
    const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
    t.equal(messageCount, 1 + deletes.length - begun, 'what had not is in the queue')
    t.ok(messageCount > 0)

    await site.startAgent()
    await until('the rest', () => site.results.length === 1 + deletes.length)
    t.equal(new Set(site.results.map(({ body }) => body.taskId)).size, 1 + deletes.length, 'each is done once')
  })

  await t.test('can be asked for twice, and without a start', async t => {
    const agent = await site.startAgent()
    await Promise.all([agent.stop(), agent.stop()])
    await agent.stop()
    await site.newAgent().stop()
    t.pass()
  })

  await t.test('while it starts ends the start', async t => {
    const agent = site.newAgent()
    const starting = agent.start()
    const stopping = agent.stop()
    await t.rejects(starting, { name: 'AbortError' })
    await stopping
  })
})

t.test('a start', async t => {
  const site = await TestSite.open(t)

  await t.test('fails when the pool is not there, and leaves nothing open', async t => {
    await t.rejects(site.newAgent({ CEPH_DEFAULT_POOL: 'no-such-pool' }).start(), { name: 'PoolNotFoundError' })
  })

  await t.test('fails when the cluster cannot be found', async t => {
    await t.rejects(site.newAgent({ CEPH_CONF: '/no/such/file' }).start(), { name: 'NotFoundError' })
  })
})
