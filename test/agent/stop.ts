import t from 'tap'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'

t.test('a stop', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)

  await t.test('waits for the jobs that run, and leaves the others in the queue', async t => {
    const agent = await site.startAgent({ PREFETCH_COUNT: '3' })
    const job = site.job('storage.create', { name: 'first', imageId, sizeMB: 16 })
    const later = Array.from({ length: 8 }, (_, i) =>
      site.job('storage.create', { name: `later-${i}`, imageId, sizeMB: 16 }),
    )
    let stopping: Promise<void> | undefined
    site.onLog = line => {
      if (line.msg === 'job begins') stopping ??= agent.stop()
    }
    for (const each of [job, ...later]) await site.publish(each)
    await until('a job', () => stopping !== undefined)
    await stopping
    const begun = site.logs.filter(({ msg }) => msg === 'job begins').length
    t.equal(site.results.length, begun, 'what had begun has its result')
    t.ok(site.results.every(({ body }) => body.ok))
    t.ok(begun < 1 + later.length)

    const next = await site.startAgent()
    await until('the rest', () => new Set(site.results.map(({ body }) => body.taskId)).size === 1 + later.length)
    t.equal(site.results.length, 1 + later.length, 'what had not is done by the next agent, each once')
    await next.stop()
  })

  await t.test('does not begin what waits for another job on the same image', async t => {
    const create = site.job('storage.create', { name: 'busy', imageId, sizeMB: 16 })
    const name = imageName({ taskId: create.taskId, tenantId: 'acme', name: 'busy' }, defaultIqnPrefix)
    const remove = site.job('storage.delete', { refId: name })
    const agent = await site.startAgent()
    let stopping: Promise<void> | undefined
    site.onLog = line => {
      if (line.msg === 'step done') stopping ??= agent.stop()
    }
    await Promise.all([site.publish(create), site.publish(remove)])
    await until('the stop', () => stopping !== undefined)
    await stopping
    t.equal(site.resultsOf(create).length, 1)
    t.equal(site.resultsOf(remove).length, 0)
    t.ok((await site.imageNames()).includes(name))

    const next = await site.startAgent()
    await until('the other', () => site.resultsOf(remove)[0])
    t.notOk((await site.imageNames()).includes(name))
    await next.stop()
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
