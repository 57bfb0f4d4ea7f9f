import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite, until } from '../support/broker.js'
import { withCloneFormat } from '../support/clone-format.js'
import { rbdJson, run } from '../support/cluster.js'
import { golden } from '../support/golden.js'

for (const format of ['1', '2'])
  t.test(`storage.clone, in RBD's format ${format}`, async t => {
    const site = await TestSite.open(t)
    const { name: imageId } = await golden(t, site)
    const poolName = site.environment.CEPH_DEFAULT_POOL
    await site.startAgent(await withCloneFormat(t, format))
    const pool = await site.volumePool()
    const newVolume = async (tenantId = 'acme') =>
      (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 16 }, { tenantId }))).disk
    const clone = (refId: string, rest: object = {}) => site.job('storage.clone', { refId, name: 'copy', ...rest })
    const remove = (refId: string) => site.job('storage.delete', { refId })
    const snapshotNames = async (name: string) => {
      await using image = await pool.openImage(name, { readOnly: true })
      return (await image.listSnapshots()).map(snapshot => snapshot.originalName ?? snapshot.name)
    }

    await t.test('makes a volume that begins as the other is now, and goes its own way', async t => {
      const { name, refId } = await newVolume()
      await using source = await pool.openImage(name)
      await source.write(MiB, Buffer.from('before'))
      const { disk, imageExisted, targetExisted } = await site.succeed(clone(refId))
      t.match(disk.name, /^acme-copy-[0-9a-f]{8}$/)
      t.equal(disk.refId, `iqn.2001-07.org.openhvx:${disk.name}`)
      t.equal(disk.tenantId, 'acme')
      t.same([imageExisted, targetExisted], [false, false])
      await source.write(MiB, Buffer.from('after!'))
      const info = await rbdJson('info', `${poolName}/${disk.name}`)
      t.equal(info.id, disk.id)
      t.equal(info.size, 16 * MiB)
      t.match(info.parent, { pool: poolName, image: name })
      await using copy = await pool.openImage(disk.name)
      t.equal((await copy.read(MiB, 6)).toString(), 'before')
    })

    await t.test('has a stamp of its own, and can be deleted like any volume', async t => {
      const { name } = await newVolume()
      const job = clone(name)
      const { disk } = await site.succeed(job)
      const stamp = JSON.parse(await run('rbd', 'image-meta', 'get', `${poolName}/${disk.name}`, 'cephkit.stamp'))
      t.match(stamp, { image: disk.id, agent: site.agentId, task: job.taskId, tenant: 'acme' })
      t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_HAS_CHILDREN' })
      t.match(await site.succeed(remove(disk.name)), { deletedDisks: [{ image: disk.name }] })
      t.same(await snapshotNames(name), [], 'the snapshot that was made for it is gone with it')
      t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
    })

    await t.test('keeps the snapshot that was made for a clone as long as that lives, and no longer', async t => {
      const { name } = await newVolume()
      const [first, second] = [await site.succeed(clone(name)), await site.succeed(clone(name))]
      t.equal((await snapshotNames(name)).length, 2)
      const usable = (await rbdJson('snap', 'ls', `${poolName}/${name}`)).length
      t.equal(usable, format === '1' ? 2 : 0, 'where it can, RBD looks after them')
      await site.succeed(remove(first.disk.name))
      t.equal((await snapshotNames(name)).length, 1)
      t.match(await site.succeed(site.job('storage.flatten', { refId: second.disk.name })), { flattened: true })
      t.same(await snapshotNames(name), [])
    })

    await t.test('makes a volume of a snapshot', async t => {
      const { name } = await newVolume()
      await using source = await pool.openImage(name)
      await source.write(0, Buffer.from('then'))
      await site.succeed(site.job('storage.snapshot.create', { refId: name, snapshot: 'monday' }))
      await source.write(0, Buffer.from('now!'))
      const { disk } = await site.succeed(clone(name, { snapshot: 'monday' }))
      await using copy = await pool.openImage(disk.name)
      t.equal((await copy.read(0, 4)).toString(), 'then')
      t.same(await snapshotNames(name), ['monday'])
      await copy.close()
      await site.succeed(remove(disk.name))
      t.same(await snapshotNames(name), ['monday'], 'it stays, when the clone is gone')
    })

    await t.test('leaves a snapshot alone that is not its own', async t => {
      const { name } = await newVolume()
      await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/${name}@theirs`)
      const result = await site.perform(clone(name, { snapshot: 'theirs' }))
      const rollback = { complete: true, leftovers: [] }
      t.match(result, format === '1' ? { ok: false, code: 'SNAPSHOT_NOT_OURS', rollback } : { ok: true })
      const isProtected = async () => (await rbdJson('snap', 'ls', `${poolName}/${name}`))[0].protected
      t.equal(await isProtected(), 'false')
      await run('rbd', 'snap', 'protect', `${poolName}/${name}@theirs`)
      const { disk } = await site.succeed(clone(name, { snapshot: 'theirs' }))
      await site.succeed(remove(disk.name))
      t.equal(await isProtected(), 'true', 'one that somebody protects can be cloned')
    })

    await t.test('makes one volume of a job that comes three times, and three at once', async t => {
      const { name } = await newVolume()
      const before = await site.imageNames()
      const job = clone(name)
      const answers = await Promise.all([site.succeed(job), site.succeed(job), site.succeed(job)])
      answers.push(await site.succeed(job))
      for (const answer of answers) t.same(answer, answers[0])
      t.equal((await site.imageNames()).length, before.length + 1)
    })

    await t.test('makes clones of one volume side by side with its snapshots', async t => {
      const { name } = await newVolume()
      const jobs = Array.from({ length: 5 }, (_, i) => clone(name, { name: `n${i}` }))
      const snapshots = Array.from({ length: 5 }, (_, i) =>
        site.job('storage.snapshot.create', { refId: name, snapshot: `s${i}` }),
      )
      const answers = await Promise.all(jobs.map(job => site.succeed(job)))
      await Promise.all(snapshots.map(job => site.succeed(job)))
      t.equal(new Set(answers.map(({ disk }) => disk.id)).size, 5)
      await Promise.all(answers.map(({ disk }) => site.succeed(remove(disk.name))))
      t.same(await snapshotNames(name), ['s0', 's1', 's2', 's3', 's4'])
    })

    await t.test('refuses, and makes nothing', async t => {
      const { name } = await newVolume()
      const other = await newVolume('umbrella')
      await run('rbd', 'create', `${poolName}/theirs`, '--size', '8M')
      const before = await site.imageNames()
      const refused: Record<string, { data: object; code: string; error?: RegExp }> = {
        'a volume that is not there': { data: { refId: 'missing', name: 'copy' }, code: 'IMAGE_NOT_FOUND' },
        'an image of nobody': { data: { refId: 'theirs', name: 'copy' }, code: 'IMAGE_NOT_OURS' },
        "another tenant's volume": { data: { refId: other.name, name: 'copy' }, code: 'IMAGE_NOT_OURS', error: /acme/ },
        'a snapshot that is not there': {
          data: { refId: name, name: 'copy', snapshot: 'missing' },
          code: 'SNAPSHOT_NOT_FOUND',
          error: /no snapshot missing/,
        },
        'several things at once, each named': {
          data: { refId: 'a/b', snapshot: 'c@d', size: 1 },
          code: 'INVALID_JOB',
          error: /refId: must be a name.*name: missing.*snapshot: must be a name.*size: unknown key/,
        },
      }
      for (const [what, { data, code, error }] of Object.entries(refused)) {
        const result = await site.perform(site.job('storage.clone', data))
        t.match(result, { ok: false, code, retryable: false, rollback: { complete: true, leftovers: [] } }, what)
        if (error) t.match(result.error, error, what)
      }
      t.same(await site.imageNames(), before)
      t.same([...(await snapshotNames(name)), ...(await snapshotNames(other.name))], [])
    })
  })

t.test('a chain of clones', async t => {
  const site = await TestSite.open(t, { CLONE_DEPTH_SOFT: '3', CLONE_DEPTH_HARD: '4' })
  const { name: imageId } = await golden(t, site)
  const pool = await site.volumePool()
  const clone = (refId: string) => site.job('storage.clone', { refId, name: 'copy' })

  await t.test('ends where the limit is, also when it begins in the catalog', async t => {
    const agent = await site.startAgent({ CLONE_DEPTH_SOFT: '64' })
    let { name } = (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 8 }))).disk
    const names = [name]
    for (let depth = 2; depth <= 4; depth++) {
      name = (await site.succeed(clone(name))).disk.name
      names.push(name)
    }
    const before = await site.imageNames()
    t.match(await site.perform(clone(name)), {
      ok: false,
      code: 'CHAIN_TOO_DEEP',
      error: /5 deep, where 4 is the most/,
      retryable: false,
      rollback: { complete: true, leftovers: [] },
    })
    t.same(await site.imageNames(), before)

    // A catalog image that is at the end of such a chain.
    const catalog = await site.catalogPool()
    await using last = await pool.openImage(name)
    await last.createSnapshot('base', { protect: true })
    await catalog.cloneImage({ pool, imageName: name, name: 'base' }, 'deep')
    await using deep = await catalog.openImage('deep')
    await deep.createSnapshot('base', { protect: true })
    const create = site.job('storage.create', { name: 'web', imageId: 'deep', sizeMB: 8 })
    t.match(await site.perform(create), { ok: false, code: 'CHAIN_TOO_DEEP' })
    t.same(await site.imageNames(), before)
    await deep.flatten()
    const again = site.job('storage.create', { name: 'web', imageId: 'deep', sizeMB: 8 })
    t.match(await site.succeed(again), { imageExisted: false }, 'once that is flattened, it can be used')
    await agent.stop()
  })

  await t.test('is cut short later from the soft limit on, whichever process comes to it', async t => {
    const agentOfClone = await site.startAgent({ CLONE_DEPTH_SOFT: '2' })
    const content = Buffer.from('inherited')
    const { name } = (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 8 }))).disk
    await using source = await pool.openImage(name)
    await source.write(MiB, content)
    await source.close()
    const { disk } = await site.succeed(clone(name))
    await agentOfClone.stop()
    await site.startAgent()
    await until('the volume to be flattened', async () => {
      await using copy = await pool.openImage(disk.name, { readOnly: true })
      return (await copy.parent()) === null && (await copy.read(MiB, content.length)).equals(content)
    })
    await using left = await pool.openImage(name)
    t.ok(await left.parent(), 'one that is not deep enough stays a clone')
    await until('its snapshot to be gone', async () => (await left.listSnapshots()).length === 0)
  })
})
