import t, { type Test } from 'tap'
import { type Image, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool, testWholePool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

async function disk(t: Test): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  return [pool, await pool.openImage('disk')]
}

/** As rbd lists them. */
const listed = (image: Image): Promise<{ name: string; size: number; protected: string }[]> =>
  rbdJson('snap', 'ls', image.path)

t.test('a snapshot is made, and rbd sees it', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.from('then'))
  const snapshot = await image.createSnapshot('one')
  t.match(snapshot, { name: 'one', imageName: 'disk', pool, path: `${image.path}@one` })
  t.ok(await snapshot.exists())
  t.notOk(await image.snapshot('two').exists())
  await image.write(0, Buffer.from('now!'))
  await image.createSnapshot('protected', { protect: true })
  await image.createSnapshot('quick', { skipQuiesce: true, ignoreQuiesceError: true })
  t.match(await listed(image), [
    { name: 'one', size: 8 * MiB, protected: 'false' },
    { name: 'protected', protected: 'true' },
    { name: 'quick', protected: 'false' },
  ])
  t.equal(await python(pool, `answer(rbd.Image(ioctx, 'disk', snapshot='one', read_only=True).read(0, 4))`), 'then')
})

t.test('snapshots are listed with what rbd knows of them', async t => {
  const [, image] = await disk(t)
  t.same(await image.listSnapshots(), [])
  await run('rbd', 'snap', 'create', '--no-progress', `${image.path}@one`)
  await image.resize(16 * MiB)
  await run('rbd', 'snap', 'create', '--no-progress', `${image.path}@two`)
  await run('rbd', 'snap', 'protect', `${image.path}@two`)
  const theirs = await listed(image)
  const ours = await image.listSnapshots()
  t.match(ours, [
    { name: 'one', size: 8 * MiB, protected: false, namespace: 'user' },
    { name: 'two', size: 16 * MiB, protected: true, namespace: 'user' },
  ])
  t.match(
    ours,
    theirs.map(({ name, size }) => ({ name, size })),
  )
  for (const { createdAt } of ours) t.ok(Math.abs(Date.now() - createdAt.getTime()) < 60_000)
  t.ok((ours[0]?.id ?? 0) < (ours[1]?.id ?? 0), 'oldest first')
})

t.test('snapshots are listed as they are, also by who has the image open for reading only', async t => {
  const [pool, image] = await disk(t)
  await image.createSnapshot('before')
  await using reading = await pool.openImage('disk', { readOnly: true })
  await image.createSnapshot('since')
  await image.snapshot('before').remove()
  t.match(await reading.listSnapshots(), [{ name: 'since' }])
})

t.test('snapshots of an image of the old format, which has no id, are listed', async t => {
  const pool = await testWholePool(t)
  await run('env', 'RBD_FORCE_ALLOW_V1=1', 'rbd', 'create', '--image-format', '1', '--size', '5M', `${pool.path}/old`)
  await using image = await pool.openImage('old')
  await image.createSnapshot('one')
  t.match(await image.listSnapshots(), [{ name: 'one', size: 5 * MiB, protected: false }])
  await using reader = await pool.openImage('old', { readOnly: true })
  t.same(await reader.listSnapshots(), await image.listSnapshots())
})

t.test('a snapshot is renamed, protected, unprotected and removed', async t => {
  const [, image] = await disk(t)
  const before = await image.createSnapshot('before')
  const after = await before.rename('after')
  t.equal(after.name, 'after')
  t.match(await listed(image), [{ name: 'after', protected: 'false' }])
  await after.protect()
  t.match(await listed(image), [{ name: 'after', protected: 'true' }])
  await after.unprotect()
  await after.remove()
  t.same(await listed(image), [])
  const [{ id } = { id: 0 }] = [await image.createSnapshot('by id'), ...(await image.listSnapshots())].slice(1) as {
    id: number
  }[]
  await image.removeSnapshotById(id)
  t.same(await listed(image), [])
})

t.test('rollback makes the image what it was', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.from('then'))
  const snapshot = await image.createSnapshot('one')
  await image.write(0, Buffer.from('now!'))
  await image.resize(16 * MiB)
  await image.write(12 * MiB, Buffer.from('more'))
  const reports: [number, number][] = []
  await snapshot.rollback({ onProgress: (...report) => reports.push(report) })
  t.equal(await image.size(), 8 * MiB, 'its size included')
  t.equal(await python(pool, `answer(rbd.Image(ioctx, 'disk', read_only=True).read(0, 4))`), 'then')
  t.ok(
    reports.every(([, total]) => total === 2),
    'progress is in objects',
  )
  await t.rejects(image.write(12 * MiB, Buffer.from('more')), { name: 'InvalidArgumentError' })
})

t.test('what cannot be done to a snapshot', async t => {
  const [pool, image] = await disk(t)
  const [plain, guarded] = [
    await image.createSnapshot('plain'),
    await image.createSnapshot('guarded', { protect: true }),
  ]
  await pool.cloneImage(guarded, 'clone', { cloneFormat: 1 })
  const missing = image.snapshot('missing')
  const gone = { name: 'SnapshotNotFoundError', code: 'ENOENT', resource: missing.path }
  const busy = { name: 'SnapshotBusyError', code: 'EBUSY', resource: guarded.path }
  const exists = { name: 'SnapshotExistsError', code: 'EEXIST' }
  const { id = 0 } = (await image.listSnapshots()).find(({ name }) => name === 'guarded') ?? {}
  await fails(t, {
    'protect one that is not there': [() => missing.protect(), gone],
    'unprotect it': [() => missing.unprotect(), gone],
    'rename it': [() => missing.rename('new'), gone],
    'roll back to it': [() => missing.rollback(), gone],
    'remove it': [() => missing.remove(), gone],
    'remove it with its clones': [() => missing.remove({ flattenClones: true }), gone],
    'remove it by id': [() => image.removeSnapshotById(999_999), { ...gone, resource: `${image.path}@id 999999` }],
    'make one of a name that is taken': [() => image.createSnapshot('plain'), exists],
    'rename one to such a name': [() => plain.rename('guarded'), exists],
    'protect twice': [() => guarded.protect(), { ...busy, retryable: false, message: /protected already/ }],
    'unprotect one that is not protected': [() => plain.unprotect(), { name: 'InvalidArgumentError', code: 'EINVAL' }],
    'unprotect one with a clone of format 1': [() => guarded.unprotect(), { ...busy, retryable: false }],
    'remove one that is protected': [() => guarded.remove(), busy],
    'remove that by id': [() => image.removeSnapshotById(id), { name: 'SnapshotBusyError' }],
  })
})

t.test('a protected snapshot is removed with its clones flattened, if both are asked for', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.from('then'))
  const snapshot = await image.createSnapshot('one', { protect: true })
  await pool.cloneImage(snapshot, 'first', { cloneFormat: 1 })
  const elsewhere = await testPool(t)
  await elsewhere.cloneImage(snapshot, 'second', { cloneFormat: 2 })
  await elsewhere.trash.move('second')
  const busy = { name: 'SnapshotBusyError', code: 'EBUSY' }
  await t.rejects(snapshot.remove({ unprotect: true }), busy, 'has a clone of format 1')
  t.match(await listed(image), [{ name: 'one', protected: 'true' }])
  const reports: [number, number][] = []
  const onProgress = (...report: [number, number]) => reports.push(report)
  await t.rejects(snapshot.remove({ flattenClones: true, onProgress }), busy, 'is protected')
  t.same(reports.at(-1), [2, 2], 'progress is in clones')
  t.ok(reports.length > 2, 'and parts of them')
  t.match(await listed(image), [{ name: 'one', protected: 'true' }])
  await snapshot.remove({ unprotect: true, flattenClones: true })
  t.same(await listed(image), [])
  t.notOk('parent' in (await rbdJson('info', `${pool.path}/first`)))
  const [{ id } = { id: '' }] = await elsewhere.trash.list()
  await using second = await elsewhere.openImageById(id)
  t.equal(await second.parent(), null)
  t.equal((await second.read(0, 4)).toString(), 'then')
})

t.test('a snapshot that cannot be removed has no clones flattened', async t => {
  const [pool, image] = await disk(t)
  const snapshot = await image.createSnapshot('one')
  await pool.cloneImage(snapshot, 'clone', { cloneFormat: 2 })
  await using reader = await pool.openImage('disk', { readOnly: true })
  await t.rejects(reader.snapshot('one').remove({ flattenClones: true }), { name: 'ReadOnlyImageError' })
  await using clone = await pool.openImage('clone')
  t.ok(await clone.parent())
})

t.test('a snapshot that clones of format 2 hang on goes to the trash', async t => {
  const [pool, image] = await disk(t)
  const snapshot = await image.createSnapshot('one')
  await pool.cloneImage(snapshot, 'clone', { cloneFormat: 2 })
  await snapshot.remove()
  t.same(await listed(image), [])
  const [trashed] = await image.listSnapshots()
  t.match(trashed, { namespace: 'trash', originalName: 'one', protected: false, size: 8 * MiB, clones: 1 })
  const id = trashed?.id ?? 0
  await fails(t, {
    'and stays there': [() => image.removeSnapshotById(id), { name: 'SnapshotBusyError', code: 'EBUSY' }],
  })
  t.same((await image.stat()).operationFeatures, ['clone-parent', 'snap-trash'])
  await using clone = await pool.openImage('clone')
  await clone.flatten()
  t.same(await image.listSnapshots(), [], 'until they are gone')
})

t.test('an image may have a limit of snapshots', async t => {
  const [, image] = await disk(t)
  t.equal(await image.snapshotLimit(), null)
  await image.setSnapshotLimit(1)
  t.equal(await image.snapshotLimit(), 1)
  t.equal((await rbdJson('info', image.path)).snapshot_limit, 1)
  await image.createSnapshot('one')
  await fails(t, {
    'one more': [
      () => image.createSnapshot('two'),
      { name: 'QuotaExceededError', code: 'EDQUOT', syscall: 'rbd_snap_create2', message: /its limit/ },
    ],
    'a limit that is exceeded': [
      () => image.setSnapshotLimit(0),
      { name: 'InvalidArgumentError', code: 'ERANGE', syscall: 'rbd_snap_set_limit' },
    ],
  })
  await run('rbd', 'snap', 'limit', 'set', '--limit', '7', image.path)
  t.equal(await image.snapshotLimit(), 7)
  await image.setSnapshotLimit(null)
  t.equal(await image.snapshotLimit(), null)
  t.notOk('snapshot_limit' in (await rbdJson('info', image.path)))
})
