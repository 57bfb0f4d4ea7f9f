import t from 'tap'
import { type CreateImageOptions, GiB, KiB, MiB, TiB } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

const defaults = ['layering', 'exclusive-lock', 'object-map', 'fast-diff', 'deep-flatten']

/** By what is asked for: what `rbd info` then says. */
const layouts: Record<string, [options: CreateImageOptions, info: object]> = {
  'nothing but a size': [{ size: 8 * MiB }, { size: 8 * MiB, objects: 2, order: 22, format: 2, features: defaults }],
  'an odd size': [{ size: 4 * MiB + 1 }, { size: 4 * MiB + 1, objects: 2 }],
  'no size': [{ size: 0 }, { size: 0, objects: 0 }],
  'a large size': [{ size: 100 * TiB }, { size: 100 * TiB }],
  'the largest size': [{ size: Number.MAX_SAFE_INTEGER, features: ['layering'] }, { size: Number.MAX_SAFE_INTEGER }],
  'small objects': [
    { size: MiB, objectSize: 4 * KiB },
    { order: 12, object_size: 4 * KiB, objects: 256 },
  ],
  'large objects': [
    { size: 64 * MiB, objectSize: 32 * MiB },
    { order: 25, object_size: 32 * MiB, objects: 2 },
  ],
  'some features': [
    { size: MiB, features: ['layering', 'journaling', 'exclusive-lock'] },
    { features: ['layering', 'exclusive-lock', 'journaling'] },
  ],
  'no features': [{ size: MiB, features: [] }, { features: [] }],
  stripes: [
    { size: 64 * MiB, objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 8 },
    { stripe_unit: 64 * KiB, stripe_count: 8, features: ['layering', 'striping', ...defaults.slice(1)] },
  ],
}

t.test('an image is made as asked for, and rbd sees it so', async t => {
  const pool = await testPool(t)
  for (const [title, [options, info]] of Object.entries(layouts)) {
    await pool.createImage(title, options)
    t.match(await rbdJson('info', `${pool.path}/${title}`), { name: title, ...info }, title)
  }
  const names = Object.keys(layouts).sort()
  t.same(
    (await pool.listImages()).map(({ name }) => name),
    names,
    'all are listed, by name',
  )
  t.same((await rbdJson('ls', pool.path)).sort(), names)
})

t.test('an image may be called almost anything', async t => {
  const pool = await testPool(t)
  const names = ['a.b_c-d', 'with space', 'Übergröße', '😀', 'n'.repeat(2000), '-', '.', 'tab\tnew\nline']
  for (const name of names) await pool.createImage(name, { size: MiB })
  t.same((await pool.listImages()).map(({ name }) => name).sort(), [...names].sort())
  t.same((await python(pool, 'answer(images.list(ioctx))')).sort(), [...names].sort())
  for (const name of names) {
    await using image = await pool.openImage(name)
    t.equal((await image.stat()).name, name)
  }
})

t.test('the data of an image may go to another pool', async t => {
  const pool = await testPool(t)
  const cluster = await testCluster(t)
  const dataPool = `cephkit-data-${process.pid}`
  await cluster.createPool(dataPool)
  t.teardown(() => cluster.deletePool(dataPool))
  await pool.createImage('disk', { size: 8 * MiB, dataPool })
  t.match(await rbdJson('info', `${pool.path}/disk`), { data_pool: dataPool })
  await using image = await pool.openImage('disk')
  await image.write(0, Buffer.alloc(4096, 1))
  const { dataPoolId, blockNamePrefix } = await image.stat()
  t.equal(dataPoolId, await cluster.poolId(dataPool))
  t.match(await run('rados', '-p', dataPool, '-N', pool.namespace, 'ls'), `${blockNamePrefix}.0000000000000000`)
  await image.close()
  await pool.removeImage('disk')
})

t.test('an image that cannot be made', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  const nowhere = await pool.cluster.openPool('rbd', { namespace: 'no-such-namespace' })
  const create = (options: Partial<CreateImageOptions>) => () => pool.createImage('new', { size: GiB, ...options })
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_create4' }
  const gone = { name: 'PoolNotFoundError', code: 'ENOENT' }
  await fails(t, {
    'the name is taken': [
      () => pool.createImage('disk', { size: MiB }),
      { name: 'ImageExistsError', code: 'EEXIST', syscall: 'rbd_create4', resource: `${pool.path}/disk` },
    ],
    'a stripe unit that does not divide': [create({ stripeUnit: 3000, stripeCount: 2 }), invalid],
    'a stripe unit alone': [create({ stripeUnit: 4096 }), invalid],
    'more stripes than make sense': [create({ size: TiB, stripeUnit: 4096, stripeCount: 2 ** 32 - 1 }), invalid],
    'more objects than an object map holds': [create({ size: Number.MAX_SAFE_INTEGER }), invalid],
    'journaling without its lock': [create({ features: ['journaling'] }), invalid],
    'no such data pool': [create({ dataPool: 'no-such-pool' }), gone],
    'no such namespace': [() => nowhere.createImage('new', { size: MiB }), gone],
  })
  t.same(
    (await pool.listImages()).map(({ name }) => name),
    ['disk'],
  )
})

t.test('an image made by python-rbd is listed with its id', async t => {
  const pool = await testPool(t)
  t.same(await pool.listImages(), [])
  await python(pool, `images.create(ioctx, 'theirs', 8 << 20, order=20)`)
  const { id } = await rbdJson('info', `${pool.path}/theirs`)
  t.same(await pool.listImages(), [{ id, name: 'theirs' }])
})
