/** Jobs that take longer than the broker lets a message be unacknowledged. A broker of their own, which waits for seconds. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { Broker } from '../../src/amqp/broker.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { TestSite, until } from '../support/broker.js'
import { rabbitmqctl } from '../support/rabbitmqctl.js'
import { newRunner } from '../support/runner.js'

const consumerTimeoutMs = 2_000

/** @param holdMs - For how long the agent keeps a message. */
async function setUp(t: Test, holdMs: number) {
  const site = await TestSite.open(t)
  const { config, log, metrics, runner } = await newRunner(t, site)
  const troubles: (string | undefined)[] = []
  const onState = (trouble: string | undefined) => troubles.push(trouble)
  const broker = new Broker({ config, runner, metrics, log, onConnected: () => {}, onState, holdMs })
  await broker.start()
  t.teardown(() => broker.close())
  const pool = await site.volumePool()
  t.teardown(() => pool.close())
  const create = site.job('storage.create', { name: 'web', sizeMB: 8 })
  const name = imageName({ taskId: create.taskId, tenantId: 'acme', name: 'web' }, defaultIqnPrefix)
  // The job waits for what seems to be left of itself to be closed.
  await pool.createImage(name, { size: MiB })
  const image = await pool.openImage(name)
  const jobs = [create, site.job('storage.resize', { refId: name, sizeMB: 16 })] as const
  for (const job of jobs) await site.publish(job)
  await until('the first', () => runner.inHand === jobs.length)
  await delay(2 * consumerTimeoutMs)
  return { site, troubles, jobs, goOn: () => image.close() }
}

t.test('a job that takes long, and one that waits for it', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-broker-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir, services: ['rabbitmq'] })
  Object.assign(process.env, stack.env)
  const set = (setting: string, ms: number) =>
    rabbitmqctl(stack)('eval', `application:set_env(rabbit, ${setting}, ${ms}).`)
  await set('consumer_timeout', consumerTimeoutMs)
  await set('channel_tick_interval', 100)

  await t.test('have their messages handed back in time, and keep the connection', async t => {
    const { site, troubles, jobs, goOn } = await setUp(t, consumerTimeoutMs / 4)
    t.same(troubles, [undefined], 'which is there, and was not lost')
    await goOn()
    for (const job of jobs) t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
    const left = () => site.onBroker(channel => channel.checkQueue(site.taskQueue))
    await until('the end of the messages', async () => (await left()).messageCount === 0)
    await delay(consumerTimeoutMs / 2)
    for (const job of jobs) t.equal(site.resultsOf(job).length, 1, 'one result')
    t.same(site.deadLetters, [])
  })

  await t.test('have one result each, or the same one again, where the broker waits for less than that', async t => {
    const { site, troubles, jobs, goOn } = await setUp(t, 600_000)
    t.match(troubles[1], /timed out/, 'and closes the channel')
    await goOn()
    for (const job of jobs) t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
    await delay(consumerTimeoutMs / 2)
    // The message may have come again when the first result was out already.
    for (const job of jobs) for (const result of site.resultsOf(job)) t.same(result, site.resultsOf(job)[0])
  })
})
