/** Everything that an audit finds, made by hand; and that nothing else is found. */
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { Cluster, type Image, MiB, type Pool } from '../lib/index.js'
import { audit, type Finding } from '../src/audit/audit.js'
import { readTargetConfig } from '../src/config.js'
import { holderOf, instanceObject, journalNamespace, locksObject } from '../src/journal/layout.js'
import type { JobRecord } from '../src/journal/record.js'
import type { Records } from '../src/journal/records.js'
import { imageName } from '../src/names.js'
import { defaultIqnPrefix } from '../src/settings.js'
import { writeMark } from '../src/volumes/mark.js'
import { writeStamp } from '../src/volumes/stamp.js'
import { startAgentProcess } from './support/agent-process.js'
import { TestSite, until } from './support/broker.js'
import { run } from './support/cluster.js'
import { cutRemovalShort } from './support/cut-short.js'
import { newJob, newRecord, openRecords, outcomeOf } from './support/journal.js'
import { Attached, Tgt } from './support/tgt.js'

async function setUp(t: Test) {
  const site = await TestSite.open(t)
  const records = await openRecords(site)
  t.teardown(() => records.close())
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  const pool = await site.volumePool()
  t.teardown(() => pool.close())
  const look = () => audit({ cluster: site.cluster, poolName, records })
  /** Audits, fixes, and audits again. */
  const fixAll = async () => {
    for (const { fix } of await look()) await fix?.()
    return await look()
  }
  return { site, records, poolName, pool, look, fixAll, agent: site.agentId }
}

/** Without what can be called. */
function told(findings: readonly Finding[]) {
  return findings.map(({ fix, ...finding }) => ({ ...finding, fixable: fix !== undefined }))
}

/** As an agent has it that has published a result. */
async function settled(records: Records, record: JobRecord): Promise<JobRecord> {
  const { agentId: agent, taskId: task } = record.job
  await records.enterInstance({ ...about(agent), id: 'none' })
  await records.removeInstance(agent, 'none')
  await records.create(record)
  await records.settle(agent, { task, finishedAt: record.outcome?.finishedAt ?? '' }, '')
  return record
}

function about(agent: string) {
  return {
    id: randomUUID(),
    agent,
    host: 'elsewhere',
    bootId: 'none',
    pidNamespace: 'none',
    pid: 1,
    startTime: '0',
    thread: 0,
    addresses: [],
    startedAt: new Date(0).toISOString(),
  }
}

/** As a removal leaves it that is cut short. */
async function halfRemove(pool: Pool, name: string): Promise<{ id: string }> {
  await using image = await pool.openImage(name)
  const { id, objectSize } = await image.stat()
  await image.resize(256 * objectSize)
  await Promise.all(Array.from({ length: 256 }, (_, i) => image.write(i * objectSize, Buffer.alloc(512, 1))))
  await image.close()
  const stop = new AbortController()
  // One object at a time, so that there is a middle of it, however busy the machine is.
  await using cluster = await Cluster.connect({ options: { rbd_concurrent_management_ops: '1' } })
  await using slow = await cluster.openPool(pool.name)
  await slow.removeImage(name, { signal: stop.signal, onProgress: () => stop.abort() }).catch(() => {})
  // Rejects, unless it was cut short.
  await pool.trash.get(id)
  return { id }
}

t.test('the journal', async t => {
  const { records, agent, look, fixAll, poolName } = await setUp(t)
  t.same(await look(), [], 'an empty one is fine')

  await t.test('an entry of a job that was never begun', async t => {
    await settled(records, newRecord(newJob(agent), { outcome: outcomeOf(newJob(agent)) }))
    await records.enter(agent, 'never', 'gone')
    t.match(told(await look()), [{ kind: 'entry', name: 'never', agent, fixable: true }])
    t.same(await fixAll(), [])
  })

  await t.test('an entry of a finished job without a record', async t => {
    await records.settle(agent, { task: 'forgotten', finishedAt: new Date().toISOString() }, '')
    t.match(told(await look()), [{ kind: 'entry', name: 'forgotten', agent, fixable: true }])
    t.same(await fixAll(), [])
  })

  await t.test('a lock of a job that is over', async t => {
    await records.pool
      .object(locksObject(`${poolName}/web`))
      .setOmap({ [`${poolName}/web`]: holderOf('gone', agent, 'over') })
    t.match(told(await look()), [{ kind: 'lock', name: `${poolName}/web`, agent, fixable: true }])
    t.same(await fixAll(), [])
  })

  await t.test('a record that no index has', async t => {
    const job = newJob(agent)
    await records.create(newRecord(job, { outcome: outcomeOf(job) }))
    t.match(told(await look()), [{ kind: 'record', name: job.taskId, agent, fixable: true }])
    t.match(told(await fixAll()), [{ kind: 'job', says: /next process of this agent/ }], 'an agent will look after it')
    await records.settle(agent, { task: job.taskId, finishedAt: new Date().toISOString() }, '')
  })

  await t.test('what is no part of a journal is for somebody to decide', async t => {
    await records.pool.object('strange').writeFull('')
    await records.pool.object(instanceObject('nobody')).writeFull('')
    t.match(
      told(await look()).sort((a, b) => a.name.localeCompare(b.name)),
      [
        { kind: 'process', name: 'instance/nobody', fixable: false },
        { kind: 'object', name: `${poolName}/${journalNamespace}/strange`, fixable: false },
      ].sort((a, b) => a.name.localeCompare(b.name)),
    )
    t.equal((await fixAll()).length, 2)
  })
})

t.test('the volumes', async t => {
  const { site, records, agent, pool, poolName, look, fixAll } = await setUp(t)
  const stamped = async (name: string, record: JobRecord): Promise<Image> => {
    await pool.createImage(name, { size: MiB })
    const image = await pool.openImage(name)
    const { id } = await image.stat()
    const { taskId: task } = record.job
    await writeStamp(image, { image: id, agent, task, tenant: 'acme', createdAt: record.createdAt })
    return image
  }
  const job = newJob(agent)
  const failed = await settled(records, newRecord(job, { outcome: outcomeOf(job, undefined, false) }))
  const done = newJob(agent)
  const succeeded = await settled(records, newRecord(done, { outcome: outcomeOf(done) }))
  t.same(await look(), [])

  await t.test('an image that a failed job has made', async t => {
    await (await stamped('leak', failed)).close()
    t.match(told(await look()), [{ kind: 'image', name: `${poolName}/leak`, agent, fixable: true }])
    t.same(await fixAll(), [])
    t.same(await site.imageNames(), [])
  })

  await t.test('an image that a failed job has left without a stamp; one with data in it is left alone', async t => {
    const creation = newJob(agent)
    const outcome = outcomeOf(creation, undefined, false)
    const plan = { poolName, name: 'torso', depth: {} }
    await settled(records, newRecord(creation, { image: `${poolName}/torso`, plan, outcome }))
    await pool.createImage('torso', { size: MiB })
    t.match(told(await look()), [{ kind: 'image', name: `${poolName}/torso`, agent, fixable: true }])
    t.same(await fixAll(), [])
    await pool.createImage('torso', { size: MiB })
    const image = await pool.openImage('torso')
    await image.write(0, Buffer.from('data'))
    await image.close()
    const [finding] = await look()
    await t.rejects(finding?.fix?.() ?? Promise.resolve(), /is left alone/)
    await pool.removeImage('torso')
  })

  await t.test('an image that was deleted, as the journal says', async t => {
    await (await stamped('undead', succeeded)).close()
    t.same(await look(), [])
    const deletion = { ...newJob(agent), action: 'storage.delete' }
    const createdAt = new Date(Date.now() + 1000).toISOString()
    await settled(
      records,
      newRecord(deletion, { createdAt, image: `${poolName}/undead`, outcome: outcomeOf(deletion) }),
    )
    t.match(told(await look()), [{ kind: 'image', name: `${poolName}/undead`, agent, fixable: false }])
    t.equal((await fixAll()).length, 1, 'somebody may have taken it out of the trash: it is theirs to keep')
    await pool.removeImage('undead')
  })

  await t.test('snapshots of failed jobs, and for clones that are gone; marks of snapshots that are', async t => {
    const image = await stamped('disk', succeeded)
    for (const [name, mark] of [
      ['failed', { agent, task: failed.job.taskId }],
      ['for-a-clone', { agent, task: succeeded.job.taskId, forClone: true }],
      ['fine', { agent, task: succeeded.job.taskId }],
      ['foreign', undefined],
    ] as const) {
      await image.createSnapshot(name)
      const made = (await image.listSnapshots()).find(snapshot => snapshot.name === name)
      if (mark && made) await writeMark(image, made.id, mark)
    }
    await writeMark(image, 4711, { agent, task: 'gone' })
    await image.close()
    t.match(told(await look()), [
      { kind: 'snapshot', name: `${poolName}/disk@failed`, fixable: true },
      { kind: 'snapshot', name: `${poolName}/disk@for-a-clone`, fixable: true },
      { kind: 'mark', name: `${poolName}/disk`, says: /4711/, fixable: true },
    ])
    t.same(await fixAll(), [])
    const again = await pool.openImage('disk', { readOnly: true })
    t.same((await again.listSnapshots()).map(({ name }) => name).sort(), ['fine', 'foreign'])
    await again.close()
  })

  await t.test('a snapshot whose removal was killed', async t => {
    const image = await stamped('cut', succeeded)
    await image.createSnapshot('kept')
    await pool.cloneImage(image.snapshot('kept'), 'clone', { cloneFormat: 2 })
    await image.snapshot('kept').remove()
    await image.close()
    await cutRemovalShort(pool, 'cut', async () => {
      await using again = await pool.openImage('cut')
      await again.createSnapshot('last')
    })
    const found = { kind: 'snapshot', name: `${poolName}/cut@last`, agent, says: 'is half removed', fixable: true }
    t.same(told(await look()), [found], 'but not one that is kept for its clones')
    t.same(await fixAll(), [])
    const again = await pool.openImage('cut', { readOnly: true })
    t.match(await again.listSnapshots(), [{ originalName: 'kept' }])
    await again.close()
    for (const name of ['clone', 'cut']) await pool.removeImage(name)
  })

  await t.test('a volume in the trash that nobody purges', async t => {
    await (await stamped('old', succeeded)).close()
    await pool.trash.move('old')
    const found = { kind: 'trash', name: `${poolName}/old`, agent }
    t.match(told(await look()), [{ ...found, fixable: false }], 'somebody has put it there, perhaps to have it back')
    const deletion = { ...newJob(agent), action: 'storage.delete' }
    await settled(records, newRecord(deletion, { image: `${poolName}/old`, outcome: outcomeOf(deletion) }))
    t.match(told(await look()), [{ ...found, fixable: true }], 'or an agent has')
    t.same(await fixAll(), [], 'from now on the agent is going to')
    await site.startAgent()
    await until('the purge', async () => (await pool.trash.list()).length === 0)
  })

  const others = async () => (await site.imageNames()).filter(name => name !== 'disk')

  await t.test("what a failed clone has left; not what was to be cloned, which may be anybody's", async t => {
    await pool.createImage('source', { size: MiB })
    await site.startAgent()
    const clone = site.job('storage.clone', { refId: 'source', name: 'copy' })
    t.match(await site.perform(clone), { ok: false, code: 'IMAGE_NOT_OURS' })
    t.same(await look(), [], 'neither is there')
    const name = imageName({ taskId: clone.taskId, tenantId: 'acme', name: 'copy' }, defaultIqnPrefix)
    await pool.createImage(name, { size: MiB })
    t.match(told(await look()), [{ kind: 'image', name: `${poolName}/${name}`, agent, fixable: true }])
    t.same(await fixAll(), [])
    t.same(await others(), ['source'])
    await pool.removeImage('source')
  })

  await t.test('what is half removed, beside a volume that has its name by now', async t => {
    await (await stamped('again', succeeded)).close()
    const { id } = await halfRemove(pool, 'again')
    await (await stamped('again', succeeded)).close()
    t.match(told(await look()), [{ kind: 'trash', name: `${poolName}/again`, agent, fixable: true }])
    t.same(await fixAll(), [])
    t.same(await others(), ['again'], 'the volume is still there')
    await t.rejects(pool.trash.get(id), { name: 'ImageNotFoundError' })
    await pool.removeImage('again')
    await (await stamped('again', succeeded)).close()
    await halfRemove(pool, 'again')
    t.same(await fixAll(), [], 'and what has its name to itself')
    t.same(await others(), [])
  })

  await t.test('what a failed job has left is not touched when it is done again meanwhile', async t => {
    await (await stamped('wanted', failed)).close()
    const [finding] = await look()
    await records.retry(agent, failed.job.taskId)
    await t.rejects(finding?.fix?.() ?? Promise.resolve(), /is left alone/)
    t.same(await others(), ['wanted'])
    await pool.removeImage('wanted')
    await until('the agent to have done it again', async () => (await records.listOpen(agent).next()).done === true)
  })

  await t.test('what somebody else has made is none of our business', async t => {
    await pool.createImage('theirs', { size: MiB })
    await pool.createImage('theirs-too', { size: MiB })
    await pool.trash.move('theirs-too')
    t.same(await look(), [])
  })
})

t.test('an agent that was killed with a job in hand', async t => {
  const { site, look, agent } = await setUp(t)
  const death = { operation: 'write', count: 0, after: true } as const
  const killed = await startAgentProcess(t, site.environment, { death })
  await site.publish(site.job('storage.create', { name: 'web', sizeMB: 1 }))
  await killed.ended
  t.match(told(await look()), [
    { kind: 'process', agent, fixable: false },
    { kind: 'job', agent, fixable: false },
  ])
  await site.startAgent()
  await until('the job to be done', async () => (await look()).length === 0)
  t.equal((await site.imageNames()).length, 1)
})

t.test('what is exposed', async t => {
  const { site, look: lookAtCluster, agent, poolName, records } = await setUp(t)
  const tgt = await Tgt.start(t)
  const environment = { ...site.environment, ...tgt.environment }
  const targets = readTargetConfig(environment)
  const look = () => audit({ cluster: site.cluster, poolName, records, targets })
  const fixAll = async () => {
    for (const { fix } of await look()) await fix?.()
    return await look()
  }
  const agentAtWork = await site.startAgent(tgt.environment)
  const create = async (name: string) => (await site.succeed(site.job('storage.create', { name, sizeMB: 8 }))).disk
  const [served, renamed, trashed, unlisted, closed] = [
    await create('served'),
    await create('renamed'),
    await create('trashed'),
    await create('unlisted'),
    await create('closed'),
  ]
  const hidden = await create('hidden')
  await site.succeed(site.job('storage.unexpose', { refId: hidden.refId }))
  await agentAtWork.stop()
  t.same(await look(), [], 'is as it should be')
  const lists = await site.cluster.openPool(poolName, { namespace: 'cephkit.iscsi' })
  t.teardown(() => lists.close())
  const entries = lists.object(`exposed/${agent}`)
  const keyOf = ({ name }: { name: string }) => `${poolName}/${name}`
  const exposureOf = async (disk: { name: string }) =>
    JSON.parse(`${(await entries.getOmap([keyOf(disk)])).entries.get(keyOf(disk))}`)
  const kept = new Map([...(await entries.getOmap([served, renamed, trashed, unlisted, closed].map(keyOf))).entries])

  const removeTarget = async (iqn: string) => {
    const [, tid = ''] = new RegExp(`^Target (\\d+): ${iqn}$`, 'm').exec(await tgt.adm('target', 'show')) ?? []
    await tgt.adm('target', 'delete', '--force', '--tid', tid)
  }

  await t.test('an entry without an image', async t => {
    const gone = { ...(await exposureOf(served)), name: 'gone', id: 'gone', iqn: `${defaultIqnPrefix}gone` }
    const other = { ...gone, name: served.name, poolName, id: 'another' }
    await entries.setOmap({ [`${poolName}/gone`]: JSON.stringify(gone), [keyOf(served)]: JSON.stringify(other) })
    t.match(told(await look()).sort(byName), [
      { kind: 'exposure', name: keyOf(served), agent, says: /another image has its name/, fixable: true },
      { kind: 'exposure', name: `${poolName}/gone`, agent, says: /no such image/, fixable: true },
    ])
    const [finding] = (await look()).filter(({ name }) => name === keyOf(served))
    await entries.setOmap({ [keyOf(served)]: kept.get(keyOf(served)) ?? '' })
    await finding?.fix?.()
    t.match(await exposureOf(served), { id: served.id }, 'it was exposed anew meanwhile')
    t.same(await fixAll(), [])
  })

  await t.test('an entry of an image that has another name, or is in the trash', async t => {
    for (const { refId } of [renamed, trashed]) await removeTarget(refId)
    await run('rbd', 'rename', keyOf(renamed), `${poolName}/new-name`)
    await run('rbd', 'trash', 'mv', keyOf(trashed))
    const ofTheseTwo = async () => (await look()).filter(({ kind }) => kind === 'exposure')
    t.match(told(await ofTheseTwo()).sort(byName), [
      { name: keyOf(renamed), agent, says: /called new-name now/, fixable: true },
      { name: keyOf(trashed), agent, says: /is in the trash/, fixable: false },
    ])
    await run('rbd', 'rename', `${poolName}/new-name`, keyOf(renamed))
    await run('rbd', 'trash', 'restore', '--pool', poolName, trashed.id)
    t.same(await look(), [])
  })

  await t.test('a volume that was exposed, and is in no list; its target, which nobody looks after', async t => {
    const agentAgain = await site.startAgent(tgt.environment)
    await until('the targets', async () => (await tgt.names()).length === 5)
    await agentAgain.stop()
    const attached = await Attached.open(t, tgt.url(unlisted.refId))
    await entries.removeOmap([keyOf(unlisted)])
    t.match(told(await look()), [
      { kind: 'exposure', name: keyOf(unlisted), agent, says: /in no list/, fixable: false },
      { kind: 'target', name: unlisted.refId, says: /no agent has it.* iqn\S+ uses it/, fixable: true },
    ])
    const [, stray] = await look()
    await t.rejects(stray?.fix?.() ?? Promise.resolve(), { code: 'TARGET_BUSY' })
    await attached.close()
    await until('the end of the session', async () => !(await tgt.adm('target', 'show')).includes('Connection:'))
    await stray?.fix?.()
    t.match(told(await look()), [{ kind: 'exposure', name: keyOf(unlisted) }])
    t.notOk((await tgt.names()).includes(unlisted.refId))
    t.same((await lookAtCluster()).length, 1, 'also where there are no targets')
    await entries.setOmap({ [keyOf(unlisted)]: kept.get(keyOf(unlisted)) ?? '' })
  })

  await t.test('what is closed for a job that is over, and what cannot be read', async t => {
    await entries.setOmap({
      [keyOf(closed)]: JSON.stringify({ ...(await exposureOf(closed)), isClosed: true }),
      [keyOf(unlisted)]: '{',
    })
    t.match(told(await look()).sort(byName), [
      { kind: 'exposure', name: keyOf(closed), agent, says: /storage.expose opens it/, fixable: false },
      { kind: 'exposure', name: keyOf(unlisted), agent, says: /cannot be read/, fixable: false },
    ])
  })

  await t.test('the targets of other people are none of our business', async t => {
    const before = await look()
    await tgt.adm('target', 'new', '--tid', '5', '--targetname', 'iqn.2020-01.org.example:theirs')
    t.same(told(await look()), told(before))
  })
})

const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1)
