/** What can be in the way of a delete, and the trash. What it does else is in test/agent/delete.ts. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { listDue } from '../../src/volumes/due.js'
import { TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { golden } from '../support/golden.js'

t.test('storage.delete', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  await site.startAgent()
  const pool = await site.volumePool()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }, { tenantId }))).disk.name
  const snapshot = (refId: string, name: string) => site.job('storage.snapshot.create', { refId, snapshot: name })
  const newClone = async (refId: string) =>
    (await site.succeed(site.job('storage.clone', { refId, name: 'copy' }))).disk.name
  const remove = (refId: string, rest: object = {}) => site.job('storage.delete', { refId, ...rest })
  const exists = async (name: string) => (await site.imageNames()).includes(name)

  await t.test('takes the snapshots along that the agent has made', async t => {
    const name = await newVolume()
    await site.succeed(snapshot(name, 'one'))
    await site.succeed(snapshot(name, 'two'))
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
    t.notOk(await exists(name))
  })

  await t.test('names all that is in the way, and takes nothing away', async t => {
    const name = await newVolume()
    await site.succeed(snapshot(name, 'ours'))
    await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/${name}@theirs`)
    const clone = await newClone(name)
    const image = await pool.openImage(name)
    const before = (await image.listSnapshots()).length
    const [watcher] = await image.watchers()
    const result = await site.perform(remove(name))
    t.match(result, { ok: false, code: 'IMAGE_HAS_CHILDREN', retryable: false })
    t.same(result.blockers, [
      { kind: 'child', name: `${poolName}/${clone}` },
      { kind: 'snapshot', name: 'theirs' },
      { kind: 'watcher', name: watcher?.address, client: Number(watcher?.client) },
    ])
    t.equal((await image.listSnapshots()).length, before)
    await image.close()
    await site.succeed(remove(clone))
    const left = await site.perform(remove(name))
    t.match(left, { ok: false, code: 'IMAGE_HAS_SNAPSHOTS', blockers: [{ kind: 'snapshot', name: 'theirs' }] })
    t.equal(left.blockers?.length, 1)
    await run('rbd', 'snap', 'rm', '--no-progress', `${poolName}/${name}@theirs`)
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
  })

  await t.test('flattens clones when it is asked to', async t => {
    const name = await newVolume()
    await using image = await pool.openImage(name)
    await image.write(0, Buffer.from('inherited'))
    await image.close()
    await site.succeed(snapshot(name, 'kept'))
    const clones = [await newClone(name), await newClone(name)]
    t.match(await site.perform(remove(name, { children: 'refuse' })), { ok: false, code: 'IMAGE_HAS_CHILDREN' })
    t.match(await site.succeed(remove(name, { children: 'flatten' })), { deletedDisks: [{ image: name }] })
    t.notOk(await exists(name))
    for (const clone of clones) {
      await using copy = await pool.openImage(clone, { readOnly: true })
      t.equal(await copy.parent(), null)
      t.equal((await copy.read(0, 9)).toString(), 'inherited')
    }
  })

  await t.test("does not flatten what is not the tenant's own", async t => {
    const name = await newVolume()
    await site.succeed(snapshot(name, 'source'))
    await run('rbd', 'snap', 'protect', `${poolName}/${name}@source`)
    await run('rbd', 'clone', `${poolName}/${name}@source`, `${poolName}/their-clone`)
    const result = await site.perform(remove(name, { children: 'flatten' }))
    t.match(result, { ok: false, code: 'IMAGE_HAS_CHILDREN' })
    t.match(result.blockers, [
      { kind: 'child', name: `${poolName}/their-clone` },
      { kind: 'snapshot', name: 'source' },
    ])
    await using clone = await pool.openImage('their-clone', { readOnly: true })
    t.ok(await clone.parent())
  })

  await t.test('deletes volumes and their clones side by side', async t => {
    const name = await newVolume()
    const clones = await Promise.all(Array.from({ length: 4 }, () => newClone(name)))
    await Promise.all(clones.map(clone => site.succeed(remove(clone))))
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
  })

  await t.test('comes after the jobs on the volume that came before it', async t => {
    const name = await newVolume()
    const resize = site.job('storage.resize', { refId: name, sizeMB: 16 })
    const jobs = [snapshot(name, 'one'), resize, remove(name), snapshot(name, 'late')]
    const results = await Promise.all(jobs.map(job => site.perform(job)))
    t.same(
      results.map(({ ok, code }) => code ?? ok),
      [true, true, true, 'IMAGE_NOT_FOUND'],
    )
  })

  await t.test('refuses another word for what is to become of clones', async t => {
    const result = await site.perform(remove('any', { children: 'remove' }))
    t.match(result, { ok: false, code: 'INVALID_JOB', error: /children: must be refuse or flatten/ })
  })
})

t.test('a storage.delete with a delay', async t => {
  const site = await TestSite.open(t, { TRASH_DELAY_MS: '3600000' })
  const { name: imageId } = await golden(t, site)
  const pool = await site.volumePool()
  const agent = await site.startAgent()
  const newVolume = async () =>
    (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 8 }))).disk
  const remove = (refId: string) => site.job('storage.delete', { refId })
  const list = { cluster: site.cluster, volumePool: pool.name, agent: site.agentId }

  await t.test('moves the volume to the trash, from where it can be had back', async t => {
    const { name, id } = await newVolume()
    await site.succeed(site.job('storage.snapshot.create', { refId: name, snapshot: 's' }))
    const job = remove(name)
    const first = await site.succeed(job)
    t.match(first, { deletedDisks: [{ image: name }] })
    t.same(await site.succeed(job), first, 'and says the same when the job comes again')
    t.match(await site.succeed(remove(name)), { deletedDisks: [] }, 'another job finds nothing')
    const { deferredUntil } = await pool.trash.get(id)
    t.ok(deferredUntil.getTime() > Date.now() + 3_000_000)
    await pool.trash.restore(id)
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
  })

  await t.test('refuses as without one', async t => {
    const { name } = await newVolume()
    const { disk } = await site.succeed(site.job('storage.clone', { refId: name, name: 'copy' }))
    t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_HAS_CHILDREN' })
    const image = await pool.openImage(disk.name)
    t.match(await site.perform(remove(disk.name)), { ok: false, code: 'IMAGE_BUSY', retryable: true })
    await image.close()
  })

  await agent.stop()

  await t.test('is purged by the next agent when its time has come, and nothing else is', async t => {
    const soon = await site.startAgent({ TRASH_DELAY_MS: '1000' })
    const source = await newVolume()
    const clone = (await site.succeed(site.job('storage.clone', { refId: source.name, name: 'copy' }))).disk
    const restored = await newVolume()
    await site.succeed(remove(clone.name))
    await site.succeed(remove(restored.name))
    await soon.stop()
    await pool.trash.restore(restored.id)
    const moved = await newVolumeBy(site, imageId)
    await pool.trash.move(moved.name)
    await pool.createImage('theirs', { size: 4096 })
    await pool.trash.move('theirs')
    const kept = (await pool.trash.list()).filter(({ id }) => id !== clone.id).map(({ id }) => id)
    await delay(2_000)
    await site.startAgent()
    await until('the trash to be purged', async () => !(await pool.trash.list()).some(({ id }) => id === clone.id))
    await until('what was due to be done', async () => (await listDue(list)).every(({ id }) => kept.includes(id)))
    t.same((await pool.trash.list()).map(({ id }) => id).sort(), kept.sort(), 'what somebody else moved there stays')
    t.ok((await site.imageNames()).includes(restored.name), 'what somebody has taken out stays')
    await using image = await pool.openImage(source.name, { readOnly: true })
    t.same(await image.listSnapshots(), [], 'the snapshot that was made for the clone is gone')
  })
})

async function newVolumeBy(site: TestSite, imageId: string): Promise<{ name: string; id: string }> {
  const agent = await site.startAgent()
  const { disk } = await site.succeed(site.job('storage.create', { name: 'moved', imageId, sizeMB: 8 }))
  await agent.stop()
  return disk
}
