/** What a job changes on another image than its own: clones of it, and the volume that it is a clone of. */
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { objectMapObject } from '../../lib/rbd/object-class.js'
import { audit } from '../../src/audit/audit.js'
import type { JobResult } from '../../src/jobs/message.js'
import { listDue } from '../../src/volumes/due.js'
import { upkeepTask } from '../../src/volumes/upkeep.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { withCloneFormat } from '../support/clone-format.js'
import { heldImages, newAgentId, openJournal, openRecords } from '../support/journal.js'

/** Long enough for what nobody waits with. */
const aWhileMs = 1_500

/** Clones of format 1 need a snapshot as long as they live. */
const withOldClones = (t: Test) => withCloneFormat(t, '1')

async function openFamily(t: Test) {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  const records = await openRecords(site)
  const pool = await site.volumePool()
  t.teardown(async () => {
    await pool.close()
    await records.close()
  })
  await site.startAgent(await withOldClones(t))
  // Another agent, which has images in hand.
  const { journal } = await openJournal(t, newAgentId(), { poolName })
  /** Resolves when the other has it. What it resolves with ends that. */
  const hold = async (name: string, meanwhile = async () => {}) => {
    let end = () => {}
    const isOver = new Promise<void>(resolve => {
      end = resolve
    })
    const held = new Promise<() => Promise<void>>((resolve, reject) => {
      const holding = journal.withImage(`${poolName}/${name}`, upkeepTask, async () => {
        resolve(async () => {
          end()
          await holding
        })
        await isOver
        await meanwhile()
      })
      holding.then(() => reject(new Error(`${name} was not free`)), reject)
    })
    return held
  }
  const newVolume = async (): Promise<string> =>
    (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }))).disk.name
  const newClone = async (refId: string): Promise<string> =>
    (await site.succeed(site.job('storage.clone', { refId, name: 'copy' }))).disk.name
  const isClone = async (name: string) => {
    await using image = await pool.openImage(name, { readOnly: true })
    return (await image.parent()) !== null
  }
  const snapshotNames = async (name: string) => {
    await using image = await pool.openImage(name, { readOnly: true })
    return (await image.listSnapshots()).map(snapshot => snapshot.name)
  }
  const begun = (job: Job) =>
    until('the job', () => site.logs.some(line => line.job === job.taskId && line.msg === 'job begins'))
  const resultOf = (job: Job): Promise<JobResult> => until('its result', () => site.resultsOf(job)[0])
  const tidy = async () => {
    await until('no image to be held', async () => (await heldImages(records)).size === 0)
    t.same(await audit({ cluster: site.cluster, poolName, records }), [], 'the audit finds nothing')
  }
  return { site, poolName, records, pool, hold, newVolume, newClone, isClone, snapshotNames, begun, resultOf, tidy }
}

t.test('a delete that flattens clones', async t => {
  const { site, pool, records, hold, newVolume, newClone, isClone, begun, resultOf, tidy } = await openFamily(t)
  const remove = (refId: string) => site.job('storage.delete', { refId, children: 'flatten' })
  /** One that has begun, and had the time to come to what it has to wait for. */
  const removing = async (refId: string) => {
    const job = remove(refId)
    await site.publish(job)
    await begun(job)
    await delay(aWhileMs)
    return job
  }

  await t.test('waits for whoever has a clone in hand', async t => {
    const name = await newVolume()
    const [free, held] = [await newClone(name), await newClone(name)]
    const release = await hold(held)
    const job = await removing(name)
    t.ok(await isClone(held))
    t.same(site.resultsOf(job), [])
    await release()
    t.match(await resultOf(job), { ok: true, result: { deletedDisks: [{ image: name }] } })
    t.same([await isClone(free), await isClone(held)], [false, false])
    await tidy()
  })

  await t.test('finds a clone flattened, or gone, when its turn has come', async t => {
    for (const end of [
      async (clone: string) => {
        await using image = await pool.openImage(clone)
        await image.flatten()
      },
      (clone: string) => pool.removeImage(clone),
    ]) {
      const name = await newVolume()
      const clone = await newClone(name)
      const release = await hold(clone, () => end(clone))
      const job = await removing(name)
      await release()
      t.match(await resultOf(job), { ok: true, result: { deletedDisks: [{ image: name }] } })
    }
    await tidy()
  })

  await t.test('can be cancelled while it waits', async t => {
    const name = await newVolume()
    const clone = await newClone(name)
    const release = await hold(clone)
    const job = await removing(name)
    await records.cancel(job.agentId, job.taskId)
    t.match(await resultOf(job), { ok: false, code: 'CANCELLED', rollback: { complete: true } })
    t.ok(await isClone(clone), 'all is as it was')
    await release()
    await tidy()
  })

  await t.test('and is left to the next agent when it waits at a stop', async t => {
    const name = await newVolume()
    const clone = await newClone(name)
    const release = await hold(clone)
    const job = await removing(name)
    const begunAt = Date.now()
    await site.stopAgents()
    t.ok(Date.now() - begunAt < 25_000, 'which waits for nobody')
    t.same(site.resultsOf(job), [])
    await release()
    await site.startAgent(await withOldClones(t))
    t.match(await resultOf(job), { ok: true })
    t.notOk(await isClone(clone))
    await tidy()
  })

  await t.test('and jobs on the clones come to their ends, whichever comes first', async t => {
    await site.startAgent(await withOldClones(t)) // another process of the same agent
    for (let round = 0; round < 3; round++) {
      const name = await newVolume()
      const clones = [await newClone(name), await newClone(name), await newClone(name)]
      const ends = [
        site.job('storage.delete', { refId: clones[0] }),
        site.job('storage.flatten', { refId: clones[1] }),
        site.job('storage.snapshot.create', { refId: clones[2], snapshot: 'now' }),
      ]
      const jobs = [remove(name), ...ends].sort(() => Math.random() - 0.5)
      const results = await Promise.all(jobs.map(job => site.perform(job)))
      for (const { ok, code, error } of results)
        t.same({ ok, code, error }, { ok: true, code: undefined, error: undefined })
      t.same((await site.imageNames()).includes(name), false)
    }
    await tidy()
  })
})

t.test("a clone's end", async t => {
  const { site, poolName, records, pool, hold, newVolume, newClone, snapshotNames, tidy } = await openFamily(t)
  const due = () => listDue({ cluster: site.cluster, volumePool: poolName, agent: site.agentId })

  for (const action of ['storage.delete', 'storage.flatten'])
    await t.test(`by ${action} leaves the snapshot to later while somebody has its volume in hand`, async t => {
      const name = await newVolume()
      const clone = await newClone(name)
      const release = await hold(name)
      await site.succeed(site.job(action, { refId: clone }))
      t.equal((await snapshotNames(name)).length, 1, 'it is not touched meanwhile')
      t.match(await due(), [{ work: 'release', name, origin: { poolName } }])
      t.same(await audit({ cluster: site.cluster, poolName, records }), [], 'somebody looks after it')
      await release()
      await until('the snapshot to be gone', async () => (await snapshotNames(name)).length === 0)
      await until('nothing to be due', async () => (await due()).length === 0)
      await tidy()
    })

  await t.test('leaves the snapshot to later also while the one after it is not whole', async t => {
    const name = await newVolume()
    const clone = await newClone(name)
    await using image = await pool.openImage(name)
    const half = await image.createSnapshot('half')
    const [, { id = 0 } = {}] = await image.listSnapshots()
    await pool.object(objectMapObject((await image.stat()).id, id)).remove()
    await site.succeed(site.job('storage.delete', { refId: clone }))
    t.match(await due(), [{ work: 'release', name }])
    await half.remove()
    await until('the snapshot to be gone', async () => (await snapshotNames(name)).length === 0)
    await until('nothing to be due', async () => (await due()).length === 0)
    await tidy()
  })

  await t.test('does not matter to what is due to a volume that is gone by then', async () => {
    const name = await newVolume()
    const clone = await newClone(name)
    const release = await hold(name)
    await site.succeed(site.job('storage.delete', { refId: clone }))
    await release()
    await site.succeed(site.job('storage.delete', { refId: name }))
    await until('nothing to be due', async () => (await due()).length === 0)
    await tidy()
  })
})

t.test('what a process has left of locks when it died is given back by the next of its agent', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  await using records = await openRecords(site)
  const { journal, die } = await openJournal(t, site.agentId, { poolName })
  const hanging = journal.withImage(`${poolName}/clone`, 'some-task', () => die())
  await t.rejects(hanging)
  t.equal((await heldImages(records)).size, 1)
  await site.startAgent()
  await until('it to be free', async () => (await heldImages(records)).size === 0)
})
