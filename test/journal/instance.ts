import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { hang } from '../support/hang.js'
import { newAgentId, openJournal } from '../support/journal.js'
import { startJournalProcess } from '../support/journal-process.js'

const leaseMs = 1_500

async function isBlocklisted(address: string): Promise<boolean> {
  return (await run('ceph', 'osd', 'blocklist', 'ls')).includes(address)
}

/** Hours that it still is. */
async function blocklistedFor(address: string): Promise<number> {
  const line = (await run('ceph', 'osd', 'blocklist', 'ls')).split('\n').find(each => each.startsWith(`${address} `))
  const until = line?.split(' ')[1]?.replace('+0000', 'Z')
  return (Date.parse(until ?? '') - Date.now()) / 3_600_000
}

t.test('a process', async t => {
  const { journal, agentId } = await openJournal(t)
  const { instance, records } = journal
  const addressOf = async (id: string) => {
    const about = (await records.listInstances(agentId)).find(other => other.id === id)
    return about?.addresses[0] ?? 'none'
  }

  await t.test('that lives is not gone, however long', async t => {
    const other = await startJournalProcess(t, { agentId, leaseMs: 3 * leaseMs, elsewhere: true })
    for (let i = 0; i < 3; i++) {
      await delay(1.3 * leaseMs)
      t.equal(await instance.ensureGone(other.instance), false)
    }
    t.notOk(await isBlocklisted(await addressOf(other.instance)))
  })

  await t.test('of this host that was killed is gone at once, and shut out', async t => {
    const other = await startJournalProcess(t, { agentId, leaseMs: 3_600_000 })
    const address = await addressOf(other.instance)
    t.equal(await instance.ensureGone(other.instance), false)
    other.child.kill('SIGKILL')
    await until('its end', () => instance.ensureGone(other.instance))
    t.ok(await isBlocklisted(address))
  })

  await t.test('of elsewhere that was killed is gone when its lease has run out, and not before', async t => {
    const other = await startJournalProcess(t, { agentId, leaseMs: 6_000, elsewhere: true })
    const address = await addressOf(other.instance)
    other.child.kill('SIGKILL')
    t.equal(await instance.ensureGone(other.instance), false)
    t.notOk(await isBlocklisted(address))
    await until('the end of its lease', () => instance.ensureGone(other.instance))
    t.ok(await isBlocklisted(address))
  })

  await t.test('that stood still for too long is shut out, and knows it when it goes on', async t => {
    const other = await startJournalProcess(t, { agentId, leaseMs, elsewhere: true })
    hang(other.pid)
    const address = await addressOf(other.instance)
    await until('the end of its lease', () => instance.ensureGone(other.instance))
    t.ok((await blocklistedFor(address)) > 24, 'for longer than it may stand still')
    process.kill(other.pid, 'SIGCONT')
    const reason = await until('its word', () => /^lost (.*)$/m.exec(other.output())?.[1])
    t.match(reason, /^this agent has been shut out of its journal: /)
  })

  await t.test('that was gone for one is gone for all', async t => {
    const third = await openJournal(t, agentId)
    const other = await startJournalProcess(t, { agentId, leaseMs })
    other.child.kill('SIGKILL')
    await until('its end', () => instance.ensureGone(other.instance))
    t.equal(await third.journal.instance.ensureGone(other.instance), true)
    await records.removeInstance(agentId, other.instance)
    t.equal(await (await openJournal(t, agentId)).journal.instance.ensureGone(other.instance), true)
  })

  await t.test('can have several agents, one after the other', async t => {
    const other = await openJournal(t, agentId)
    t.equal(await instance.ensureGone(other.journal.instance.id), false)
    await other.die()
    t.equal(await instance.ensureGone(other.journal.instance.id), true)
  })

  await t.test('that ends in order leaves nothing', async t => {
    const other = await openJournal(t, newAgentId())
    const id = other.agentId
    t.equal((await records.listInstances(id)).length, 1)
    await other.journal.close()
    t.same(await records.listInstances(id), [])
    await t.rejects(records.pool.object(`instance/${other.journal.instance.id}`).stat(), {
      name: 'ObjectNotFoundError',
    })
  })
})

t.test('a lease that has run out is taken again, if nobody else had it', async t => {
  const { journal } = await openJournal(t, newAgentId(), { leaseMs })
  const object = journal.records.pool.object(`instance/${journal.instance.id}`)
  const lockers = async () => (await object.listLockers('lease')).lockers
  const [locker] = await lockers()
  if (!locker) return t.fail('nobody holds it')
  // A renewal may come in between.
  await until('it to be free', async () => {
    await object.breakLock('lease', locker.client, locker.cookie)
    return (await lockers()).length === 0
  })
  await until('the next renewal', async () => (await lockers()).length === 1)
  t.notOk(journal.lost.aborted)
})

t.test('a lease that somebody else has taken is lost', async t => {
  const { journal } = await openJournal(t, newAgentId(), { leaseMs })
  const { journal: other } = await openJournal(t)
  const name = `instance/${journal.instance.id}`
  const [locker] = (await other.records.pool.object(name).listLockers('lease')).lockers
  if (!locker) return t.fail('nobody holds it')
  const object = other.records.pool.object(name)
  // The same here.
  await until('it to be taken', async () => {
    await object.breakLock('lease', locker.client, locker.cookie)
    const taking = object.lockExclusive('lease', { cookie: 'other' })
    return taking.then(
      () => true,
      () => false,
    )
  })
  await until('the loss', () => journal.lost.aborted)
  t.match(journal.lost.reason, { name: 'InstanceLostError', message: /somebody else has taken its lease/ })
  const job = { taskId: 't', tenantId: 'a', agentId: 'b', action: 'storage.create', data: {} }
  const beginning = { plan: {}, image: undefined, progress: { steps: [] } }
  await t.rejects(journal.obtain(job, beginning), { name: 'InterruptedError' }, 'and nothing is begun any more')
})
