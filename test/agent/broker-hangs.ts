/** A broker that is there and takes nothing, or does not answer. One of its own, as others would feel it too. */
import { readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Broker } from '../../src/amqp/broker.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { hang } from '../support/hang.js'
import { newJob, newRecord, openRecords, outcomeOf } from '../support/journal.js'
import { newRunner } from '../support/runner.js'

async function ownStack(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-broker-'))
  t.teardown(() => stopStack(dir))
  const { env, pids } = await startStack({ dir, services: ['rabbitmq'] })
  Object.assign(process.env, env)
  return { dir, broker: Number(pids.rabbitmq), mapper: Number(pids.epmd) }
}

t.test('a broker that hangs', async t => {
  const { dir, broker, mapper } = await ownStack(t)
  const arguments_ = readFileSync(`/proc/${mapper}/cmdline`, 'utf8').split('\0')
  const ERL_EPMD_PORT = arguments_[arguments_.indexOf('-port') + 1]
  const node = { HOME: join(dir, 'rabbitmq', 'home'), RABBITMQ_NODENAME: 'cephkit@localhost', ERL_EPMD_PORT }
  const settings = Object.entries(node).map(([name, value]) => `${name}=${value}`)
  /** Of the memory there is: 0 makes the broker take nothing. */
  const limitMemory = (fraction: string) =>
    run('env', ...settings, '/usr/lib/rabbitmq/bin/rabbitmqctl', 'set_vm_memory_high_watermark', fraction)

  await t.test('for want of memory', async t => {
    const site = await TestSite.open(t)
    const agent = await site.startAgent({ HEARTBEAT_INTERVAL_MS: '100' })
    const isThere = (msg: string) => until(msg, () => site.logs.some(line => line.msg === msg))
    const heartbeats = () => site.heartbeatTimes()
    await until('a heartbeat', () => heartbeats().length > 0)

    await t.test('is sent no telemetry that would wait for it', async t => {
      const job = site.job('storage.create', { name: 'web', sizeMB: 1 })
      await limitMemory('0')
      await isThere('the broker takes nothing at the moment')
      const before = heartbeats().length
      const dropped = () =>
        site.logs.filter(({ msg, reason }) => msg === 'telemetry not sent' && /takes nothing/.test(String(reason)))
          .length
      const droppedBefore = dropped()
      await until('some heartbeats', () => dropped() >= droppedBefore + 20)
      await limitMemory('0.4')
      await isThere('the broker takes messages again')
      const again = Number(site.logs.findLast(({ msg }) => msg === 'the broker takes messages again')?.time)
      const later = () => heartbeats().slice(before)
      await until('one of afterwards', () => later().some(time => time >= again))
      const waited = later().filter(time => time < again).length
      t.ok(waited < 10, `${waited} have come of those`)
      t.ok(await site.succeed(job), 'and goes on afterwards')
    })

    await t.test('does not keep the agent from stopping', async t => {
      site.logs.length = 0
      await limitMemory('0')
      await isThere('the broker takes nothing at the moment')
      // A result that no message comes for: the agent finds it, and has the broker take it.
      const job = newJob(site.agentId)
      await using records = await openRecords(site)
      await records.create(newRecord(job, { outcome: outcomeOf(job) }))
      await records.enter(job.agentId, job.taskId, '')
      await delay(8_000) // more than two looks at the journal
      const begun = performance.now()
      await agent.stop()
      t.ok(performance.now() - begun < 10_000, `${performance.now() - begun} ms`)
      await limitMemory('0.4')
    })
  })

  await t.test('and does not answer at all leaves no connection behind', async t => {
    const site = await TestSite.open(t)
    const { config, log, metrics, runner } = await newRunner(t, site)
    const sockets = () => process.getActiveResourcesInfo().filter(resource => resource === 'TCPSocketWrap').length
    const before = sockets()
    const agent = new Broker({ config, runner, metrics, log, onConnected: () => {}, onState: () => {} })
    await agent.start()
    t.equal(sockets(), before + 1)
    hang(broker)
    t.teardown(() => process.kill(broker, 'SIGCONT'))
    await agent.close()
    await delay(10)
    t.equal(sockets(), before)
    process.kill(broker, 'SIGCONT')
  })
})
