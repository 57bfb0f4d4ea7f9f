import t from 'tap'
import { MiB } from '../../lib/index.js'
import { ownName, readMarks } from '../../src/volumes/mark.js'
import { type Job, TestSite } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'
import { cutRemovalShort } from '../support/cut-short.js'

function makerOf({ agentId, taskId }: Job) {
  return { agent: agentId, task: taskId }
}

t.test('snapshots of volumes', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()
  const pool = await site.volumePool()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }, { tenantId }))).disk
  const job = (verb: string, refId: string, snapshot?: string) =>
    site.job(`storage.snapshot.${verb}`, { refId, ...(snapshot !== undefined && { snapshot }) })
  const list = async (refId: string) => (await site.succeed(job('list', refId))).snapshots
  const names = async (name: string) =>
    (await rbdJson('snap', 'ls', '--all', `${poolName}/${name}`)).map((each: { name: string }) => each.name)
  /** As it is when its creation is cut short: listed, and without its object map. */
  const halfMade = async (name: string, snapshot: string) => {
    await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/${name}@${snapshot}`)
    const { id: image } = await rbdJson('info', `${poolName}/${name}`)
    const [{ id }] = (await rbdJson('snap', 'ls', `${poolName}/${name}`)).filter(
      (each: { name: string }) => each.name === snapshot,
    )
    await run('rados', '--pool', poolName ?? '', 'rm', `rbd_object_map.${image}.${id.toString(16).padStart(16, '0')}`)
    await t.rejects(pool.openImage(name, { snapshot }), { name: 'SnapshotNotFoundError', message: /no object map/ })
  }
  const foreign = async (name: string) => {
    await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/${name}@theirs`)
  }

  await t.test('are made, listed and deleted', async t => {
    const { name, refId } = await newVolume()
    t.same(await site.succeed(job('create', refId, 'monday')), { refId, snapshot: 'monday' })
    await site.succeed(site.job('storage.resize', { refId, sizeMB: 16 }))
    await site.succeed(job('create', name, 'tuesday'))
    await foreign(name)
    t.match(await list(name), [
      { name: 'monday', sizeBytes: 8 * MiB, createdAt: /Z$/, protected: false, ours: true, removed: false },
      { name: 'tuesday', sizeBytes: 16 * MiB, ours: true },
      { name: 'theirs', sizeBytes: 16 * MiB, ours: false },
    ])
    t.same(await site.succeed(job('delete', refId, 'monday')), { refId, snapshot: 'monday', deleted: true })
    t.same(await names(name), ['tuesday', 'theirs'])
    const meta = await run('rbd', 'image-meta', 'list', '--format', 'json', `${poolName}/${name}`)
    t.equal(Object.keys(JSON.parse(meta)).filter(key => key.startsWith('cephkit.snapshot.')).length, 1, 'nor its mark')
  })

  await t.test('leave no mark, also when a removal was cut short before it took the mark away', async t => {
    const { name } = await newVolume()
    const marks = async () => {
      await using image = await pool.openImage(name, { readOnly: true })
      return [...(await readMarks(image)).values()].map(({ task }) => task)
    }
    const jobs = [job('create', name, 'gone'), job('create', name, 'removed'), job('create', name, 'kept')] as const
    for (const create of jobs) await site.succeed(create)
    t.same(new Set(await marks()), new Set(jobs.map(({ taskId }) => taskId)))
    await run('rbd', 'snap', 'rm', '--no-progress', `${poolName}/${name}@gone`)
    await site.succeed(job('delete', name, 'removed'))
    t.same(await marks(), [jobs[2].taskId])
  })

  await t.test('are not left when a removal was killed, nor is their mark', async t => {
    const { name } = await newVolume()
    await site.succeed(job('create', name, 'other'))
    await cutRemovalShort(pool, name, () => site.succeed(job('create', name, 'last')))
    t.equal((await names(name)).length, 2)
    t.match(await site.succeed(job('delete', name, 'other')), { deleted: true })
    t.same(await names(name), [])
    await using image = await pool.openImage(name, { readOnly: true })
    t.same(await readMarks(image), new Map())
  })

  await t.test('have the same answer when the job comes again', async t => {
    const { name } = await newVolume()
    const create = job('create', name, 'once')
    const created = await Promise.all([site.succeed(create), site.succeed(create), site.succeed(create)])
    for (const answer of created) t.same(answer, { refId: name, snapshot: 'once' })
    t.same(await names(name), ['once'])
    const remove = job('delete', name, 'once')
    const removed = await Promise.all([site.succeed(remove), site.succeed(remove), site.succeed(remove)])
    removed.push(await site.succeed(remove))
    for (const answer of removed) t.equal(answer.deleted, true)
    t.match(await site.succeed(job('delete', name, 'once')), { deleted: false }, 'another job has nothing to delete')
    t.same(await site.succeed(create), { refId: name, snapshot: 'once' })
    t.same(await names(name), [], 'and it is not made again')
  })

  await t.test('are made once, also when that was cut short before they had their name', async t => {
    const { name } = await newVolume()
    const create = job('create', name, 'named')
    await halfMade(name, ownName(makerOf(create)))
    await site.succeed(create)
    t.same(await names(name), ['named'])
    await (await pool.openImage(name, { snapshot: 'named' })).close()
    const refused = job('create', name, 'named')
    await halfMade(name, ownName(makerOf(refused)))
    t.match(await site.perform(refused), { ok: false, code: 'SNAPSHOT_EXISTS', rollback: { complete: true } })
    t.same(await names(name), ['named'], 'nor is it left when the job fails')
  })

  await t.test('are not made under a name that is taken', async t => {
    const { name } = await newVolume()
    await foreign(name)
    await site.succeed(job('create', name, 'ours'))
    for (const taken of ['theirs', 'ours']) {
      const result = await site.perform(job('create', name, taken))
      t.match(result, { ok: false, code: 'SNAPSHOT_EXISTS', rollback: { complete: true, leftovers: [] } })
    }
    t.same(await names(name), ['theirs', 'ours'])
  })

  await t.test('are not deleted if they are not ours, also under a name that one of ours had', async t => {
    const { name } = await newVolume()
    await site.succeed(job('create', name, 'theirs'))
    await run('rbd', 'snap', 'rm', '--no-progress', `${poolName}/${name}@theirs`)
    await foreign(name)
    t.match(await site.perform(job('delete', name, 'theirs')), { ok: false, code: 'SNAPSHOT_NOT_OURS' })
    t.same(await names(name), ['theirs'])
  })

  await t.test('are not deleted while they have clones, which are named', async t => {
    const { name } = await newVolume()
    await site.succeed(job('create', name, 'source'))
    const { disk } = await site.succeed(site.job('storage.clone', { refId: name, name: 'copy', snapshot: 'source' }))
    t.match(await site.perform(job('delete', name, 'source')), {
      ok: false,
      code: 'IMAGE_HAS_CHILDREN',
      blockers: [{ kind: 'child', name: `${poolName}/${disk.name}` }],
    })
    await site.succeed(site.job('storage.delete', { refId: disk.name }))
    t.match(
      await site.succeed(job('delete', name, 'source')),
      { deleted: true },
      'what was protected for them is not any more',
    )
  })

  await t.test('are not deleted while somebody else protects them', async t => {
    const { name } = await newVolume()
    await site.succeed(job('create', name, 'dear'))
    await run('rbd', 'snap', 'protect', `${poolName}/${name}@dear`)
    t.match(await site.perform(job('delete', name, 'dear')), {
      ok: false,
      code: 'IMAGE_HAS_SNAPSHOTS',
      blockers: [{ kind: 'snapshot', name: 'dear' }],
    })
    t.same(await names(name), ['dear'])
  })

  await t.test('are what a volume is again after a rollback', async t => {
    const { name, refId } = await newVolume()
    const write = async (text: string) => {
      await using image = await pool.openImage(name)
      await image.write(0, Buffer.from(text))
    }
    await write('then')
    await site.succeed(job('create', name, 'then'))
    await write('now!')
    await site.succeed(site.job('storage.resize', { refId: name, sizeMB: 16 }))
    const back = job('rollback', refId, 'then')
    t.same(await site.succeed(back), { refId, snapshot: 'then' })
    await using image = await pool.openImage(name, { readOnly: true })
    t.equal((await image.read(0, 4)).toString(), 'then')
    t.equal(await image.size(), 8 * MiB)
    await write('more')
    await site.succeed(back)
    t.equal((await image.read(0, 4)).toString(), 'more', 'once, however often the job comes')
  })

  await t.test('are not rolled back to while somebody has the volume open', async t => {
    const { name } = await newVolume()
    await site.succeed(job('create', name, 'then'))
    const image = await pool.openImage(name)
    const [watcher] = await image.watchers()
    t.match(await site.perform(job('rollback', name, 'then')), {
      ok: false,
      code: 'IMAGE_BUSY',
      retryable: true,
      blockers: [{ kind: 'watcher', name: watcher?.address, client: Number(watcher?.client) }],
      rollback: { complete: true, leftovers: [] },
    })
    await image.close()
    t.match(await site.perform(job('rollback', name, 'then')), { ok: true })
  })

  await t.test('refuse what is wrong', async t => {
    const { name } = await newVolume()
    const other = await newVolume('umbrella')
    await site.succeed(
      site.job('storage.snapshot.create', { refId: other.name, snapshot: 's' }, { tenantId: 'umbrella' }),
    )
    await run('rbd', 'create', `${poolName}/theirs`, '--size', '8M')
    await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/theirs@s`)
    for (const verb of ['create', 'delete', 'rollback', 'list']) {
      const snapshot = verb === 'list' ? undefined : 's'
      t.match(await site.perform(job(verb, 'missing', snapshot)), { ok: false, code: 'IMAGE_NOT_FOUND' }, verb)
      t.match(await site.perform(job(verb, 'theirs', snapshot)), { ok: false, code: 'IMAGE_NOT_OURS' }, verb)
      t.match(await site.perform(job(verb, other.name, snapshot)), { ok: false, code: 'IMAGE_NOT_OURS' }, verb)
      const wrong = site.job(`storage.snapshot.${verb}`, { refId: 'a/b', snapshot: 'c@d', force: true })
      t.match(await site.perform(wrong), { ok: false, code: 'INVALID_JOB', error: /refId.*unknown key/ }, verb)
    }
    t.match(await site.perform(job('rollback', name, 'missing')), { ok: false, code: 'SNAPSHOT_NOT_FOUND' })
    t.match(await site.perform(job('create', name, 'cephkit-mine')), { ok: false, code: 'INVALID_JOB' })
    t.same([await names(name), await names(other.name), await names('theirs')], [[], ['s'], ['s']])
  })
})
