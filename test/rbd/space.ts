/** What an image takes: usedBytes, sparsify, rebuildObjectMap. */
import t, { type Test } from 'tap'
import { type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

async function disk(t: Test, features?: 'layering'): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 64 * MiB, objectSize: MiB, ...(features && { features: [features] }) })
  return [pool, await pool.openImage('disk')]
}

/** What `rbd du` says: by snapshot, and '' for the image as it is. */
async function du(path: string): Promise<Record<string, number>> {
  const { images } = await rbdJson('du', path)
  const rows = images as { snapshot?: string; used_size: number }[]
  return Object.fromEntries(rows.map(({ snapshot = '', used_size }) => [snapshot, used_size]))
}

t.test('usedBytes is what rbd du says', async t => {
  for (const features of [undefined, 'layering'] as const) {
    await t.test(features ? 'without fast-diff' : 'with fast-diff', async t => {
      const [pool, image] = await disk(t, features)
      t.equal(await image.usedBytes(), 0)
      for (const offset of [0, 3, 10]) await image.write(offset * MiB, Buffer.alloc(5 * KiB, 1))
      await image.createSnapshot('one')
      for (const offset of [3, 20]) await image.write(offset * MiB, Buffer.alloc(5 * KiB, 2))
      await image.flush()
      // Without a fast diff, rbd tells stretches within objects; usedBytes counts whole objects either way.
      if (!features) t.same(await du(image.path), { one: 3 * MiB, '': 2 * MiB })
      t.equal(await image.usedBytes({ from: 'one' }), 2 * MiB)
      t.equal(await image.usedBytes(), 4 * MiB)
      await using one = await pool.openImage('disk', { snapshot: 'one' })
      t.equal(await one.usedBytes(), 3 * MiB)
    })
  }
})

t.test('usedBytes counts what a clone shows of its parent if asked to', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.alloc(2 * MiB, 1))
  await pool.cloneImage(await image.createSnapshot('base'), 'clone', { cloneFormat: 2 })
  await using clone = await pool.openImage('clone')
  await clone.write(5 * MiB, Buffer.alloc(4096, 1))
  t.equal(await clone.usedBytes(), MiB)
  t.equal(await clone.usedBytes({ includeParent: true }), 3 * MiB)
  t.equal((await du(clone.path))[''], MiB)
  const reports: [number, number][] = []
  await clone.usedBytes({ onProgress: (...report) => reports.push(report) })
  t.ok(
    reports.every(([done, total]) => done <= total && total === 64 * MiB),
    'progress is in bytes',
  )
  const missing = { name: 'SnapshotNotFoundError', code: 'ENOENT', resource: `${clone.path}@missing` }
  await fails(t, { 'from no snapshot': [() => clone.usedBytes({ from: 'missing' }), missing] })
})

t.test('sparsify gives zeroes back', async t => {
  const [pool, image] = await disk(t)
  const dataObjects = async () =>
    (await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls')).match(/^rbd_data\./gm)?.length
  await image.write(0, Buffer.alloc(8 * MiB))
  await image.write(0, Buffer.from('data'))
  await image.flush()
  t.equal(await dataObjects(), 8)
  const reports: [number, number][] = []
  await image.sparsify({ onProgress: (...report) => reports.push(report) })
  t.equal(await dataObjects(), 1)
  t.equal((await du(image.path))[''], MiB)
  t.equal((await image.read(0, 5)).toString(), 'data\0')
  t.ok(
    reports.every(([, total]) => total === 64),
    'progress is in objects',
  )
  await t.resolves(image.sparsify({ sparseSize: MiB }))

  await using reader = await pool.openImage('disk', { readOnly: true })
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_sparsify_with_progress' }
  await fails(t, {
    'more than an object': [() => image.sparsify({ sparseSize: 2 * MiB }), invalid],
    'less than can be': [() => image.sparsify({ sparseSize: 1024 }), invalid],
    'to who only reads': [() => reader.sparsify(), { name: 'ReadOnlyImageError', code: 'EROFS' }],
  })
})

t.test('rebuildObjectMap makes a spoilt one right', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.alloc(3 * MiB, 1))
  const { id } = await image.stat()
  await image.close()
  // An object behind librbd's back, which the map has not.
  await run('rados', '-p', 'rbd', '-N', pool.namespace, 'create', `rbd_data.${id}.${'9'.padStart(16, '0')}`)

  await using again = await pool.openImage('disk')
  t.equal(await again.usedBytes(), 3 * MiB, 'wrong')
  const reports: [number, number][] = []
  await again.rebuildObjectMap({ onProgress: (...report) => reports.push(report) })
  t.equal(await again.usedBytes(), 4 * MiB, 'right')
  t.equal((await du(again.path))[''], 4 * MiB)
  t.ok(
    reports.every(([, total]) => total === 64),
    'progress is in objects',
  )
})

t.test('rebuildObjectMap makes a lost one anew', async t => {
  const [pool, image] = await disk(t)
  await image.write(0, Buffer.alloc(MiB, 1))
  const { id } = await image.stat()
  await image.close()
  await run('rados', '-p', 'rbd', '-N', pool.namespace, 'rm', `rbd_object_map.${id}`)
  await using again = await pool.openImage('disk')
  await again.write(MiB, Buffer.alloc(MiB, 1)) // only now is the map looked at, and found missing
  t.same((await again.stat()).flags, ['object map invalid', 'fast diff invalid'])
  await again.rebuildObjectMap()
  t.same((await rbdJson('info', again.path)).flags, [])
  await run('rbd', 'object-map', 'check', '--no-progress', again.path)
  t.same((await again.stat()).flags, [], 'nor does rbd find it wrong')
})

t.test('rebuildObjectMap needs one, and may not be called by who only reads', async t => {
  const [pool] = await disk(t)
  await pool.createImage('plain', { size: MiB, features: ['layering'] })
  await using plain = await pool.openImage('plain')
  await using reader = await pool.openImage('disk', { readOnly: true })
  await fails(t, {
    'no object map': [
      () => plain.rebuildObjectMap(),
      { name: 'InvalidArgumentError', code: 'EINVAL', message: /has no object map/ },
    ],
    'read-only': [() => reader.rebuildObjectMap(), { name: 'ReadOnlyImageError', code: 'EROFS' }],
  })
})
