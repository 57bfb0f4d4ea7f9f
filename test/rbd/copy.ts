import t, { type Test } from 'tap'
import { type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

/** An image with data, zeroes and a snapshot. */
async function original(t: Test): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await pool.createImage('original', { size: 8 * MiB, objectSize: MiB })
  const image = await pool.openImage('original')
  await image.write(0, Buffer.alloc(MiB, 'then'))
  await image.createSnapshot('then')
  await image.write(0, Buffer.alloc(MiB, 'now'))
  await image.write(2 * MiB, Buffer.alloc(MiB))
  return [pool, image]
}

/** What `rbd export` makes of an image: all of its bytes. */
const exported = (path: string) => run('rbd', 'export', '--no-progress', path, '-')

t.test('copy', async t => {
  const [pool, image] = await original(t)
  const before = await exported(image.path)

  await t.test('has the data as it is, and no snapshots', async t => {
    const reports: [number, number][] = []
    await image.copy(pool, 'copy', { onProgress: (...report) => reports.push(report) })
    t.equal(await exported(`${pool.path}/copy`), before)
    t.match(await rbdJson('info', `${pool.path}/copy`), { size: 8 * MiB, object_size: MiB, snapshot_count: 0 })
    t.same(reports.at(-1), [8 * MiB, 8 * MiB], 'progress is in bytes, and ends at the total')
  })

  await t.test('makes holes of zeroes', async t => {
    await using sparse = await pool.openImage('copy')
    t.equal(await sparse.usedBytes(), MiB)
    await image.copy(pool, 'dense', { sparseSize: 4 * MiB })
    t.equal(await exported(`${pool.path}/dense`), before)
  })

  await t.test('of a snapshot has what was then', async t => {
    await using then = await pool.openImage('original', { snapshot: 'then' })
    await then.copy(pool, 'then')
    t.equal(await exported(`${pool.path}/then`), await exported(`${image.path}@then`))
  })

  await t.test('goes anywhere, in any layout', async t => {
    const other = await testPool(t)
    const layout = { objectSize: 64 * KiB, stripeUnit: 64 * KiB, features: ['layering'] } as const
    const there = await image.pool.cluster.openPool('rbd', { namespace: other.namespace })
    await image.copy(there, 'copy', layout)
    t.match(await rbdJson('info', `${other.path}/copy`), { object_size: 64 * KiB, features: ['layering'] })
    t.equal(await exported(`${other.path}/copy`), before)
    await image.copy(other, 'by another client')
    t.equal(await exported(`${other.path}/by another client`), before)
  })

  await t.test('is not made', async t => {
    const call = { syscall: 'rbd_copy_with_progress4' }
    const exists = { ...call, name: 'ImageExistsError', resource: `${pool.path}/copy` }
    const gone = { ...call, name: 'PoolNotFoundError', code: 'ENOENT' }
    const nowhere = await pool.cluster.openPool('rbd', { namespace: 'no-such-namespace' })
    await fails(t, {
      'to a name that is taken': [() => image.copy(pool, 'copy'), exists],
      'to no namespace': [() => image.copy(nowhere, 'new'), gone],
      'to no data pool': [() => image.copy(pool, 'new', { dataPool: 'no-such-pool' }), gone],
      'in no possible layout': [
        () => image.copy(pool, 'new', { objectSize: 4 * KiB }),
        { ...call, name: 'InvalidArgumentError' },
      ],
    })
  })
})

t.test('deepCopy', async t => {
  const [pool, image] = await original(t)

  await t.test('has the snapshots too', async t => {
    const reports: [number, number][] = []
    await image.deepCopy(pool, 'copy', { onProgress: (...report) => reports.push(report) })
    t.same(
      (await rbdJson('snap', 'ls', `${pool.path}/copy`)).map(({ name }: { name: string }) => name),
      ['then'],
    )
    for (const at of ['', '@then']) {
      t.equal(await exported(`${pool.path}/copy${at}`), await exported(`${image.path}${at}`))
    }
    t.same(reports.at(-1), [8, 8], 'progress is in objects, and ends at the total')
  })

  await t.test('of a clone is one, unless flattened', async t => {
    await pool.cloneImage(image.snapshot('then'), 'clone', { cloneFormat: 2 })
    await using clone = await pool.openImage('clone')
    await clone.deepCopy(pool, 'clone copied', { cloneFormat: 2 })
    await clone.deepCopy(pool, 'flat', { flatten: true, features: ['layering'] })
    t.match((await rbdJson('info', `${pool.path}/clone copied`)).parent, { image: 'original', snapshot: 'then' })
    const flat = await rbdJson('info', `${pool.path}/flat`)
    t.notOk('parent' in flat)
    t.same(flat.features, ['layering'])
    t.equal(await exported(`${pool.path}/flat`), await exported(clone.path))
    await clone.copy(pool, 'copied')
    t.notOk('parent' in (await rbdJson('info', `${pool.path}/copied`)), 'and a mere copy never is')
  })

  await t.test('is not made', async t => {
    const call = { syscall: 'rbd_deep_copy_with_progress' }
    const gone = { ...call, name: 'PoolNotFoundError', code: 'ENOENT' }
    const nowhere = await pool.cluster.openPool('rbd', { namespace: 'no-such-namespace' })
    await using clone = await pool.openImage('clone')
    await fails(t, {
      'in a format that needs protection': [
        () => clone.deepCopy(pool, 'new', { cloneFormat: 1 }),
        { ...call, name: 'InvalidArgumentError', message: /not protected/ },
      ],
      'to a name that is taken': [() => image.deepCopy(pool, 'copy'), { ...call, name: 'ImageExistsError' }],
      'to no namespace': [() => image.deepCopy(nowhere, 'new'), gone],
      'to no data pool': [() => image.deepCopy(pool, 'new', { dataPool: 'no-such-pool' }), gone],
      'in no possible layout': [
        () => image.deepCopy(pool, 'new', { objectSize: 4 * KiB }),
        { ...call, name: 'InvalidArgumentError' },
      ],
    })
  })
})
