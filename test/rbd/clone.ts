import t, { type Test } from 'tap'
import { type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

/** An image with a protected snapshot `base`, made by rbd and python-rbd. */
async function golden(t: Test): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await run('rbd', 'create', '--size', '8M', '--object-size', '1M', `${pool.path}/golden`)
  await python(
    pool,
    `
with rbd.Image(ioctx, 'golden') as image:
    image.write(b'golden', 0)
    image.create_snap('base')
    image.protect_snap('base')
    image.create_snap('unprotected')
`,
  )
  return [pool, await pool.openImage('golden')]
}

t.test('a clone begins as its parent, and rbd sees both', async t => {
  const [pool, image] = await golden(t)
  const base = image.snapshot('base')
  for (const cloneFormat of [1, 2, undefined] as const) {
    const name = `clone-${cloneFormat}`
    await pool.cloneImage(base, name, { cloneFormat })
    const info = await rbdJson('info', `${pool.path}/${name}`)
    t.match(info, { size: 8 * MiB, object_size: MiB, parent: { image: 'golden', snapshot: 'base', overlap: 8 * MiB } })
    t.equal(info.op_features.includes('clone-child'), cloneFormat === 2, `of format ${cloneFormat}`)
    await using clone = await pool.openImage(name)
    t.equal((await clone.read(0, 6)).toString(), 'golden')
    await clone.write(0, Buffer.from('cloned'))
    t.match(await clone.parent(), {
      poolId: pool.id,
      pool: 'rbd',
      namespace: pool.namespace,
      id: (await image.stat()).id,
      name: 'golden',
      inTrash: false,
      snapshot: { id: Number, name: 'base' },
    })
    t.equal((await clone.stat()).overlap, 8 * MiB)
  }
  t.equal((await image.read(0, 6)).toString(), 'golden', 'and the parent stays what it is')
  t.equal(await image.parent(), null)
})

t.test('a clone may be laid out in its own way', async t => {
  const [pool, image] = await golden(t)
  const base = image.snapshot('base')
  await pool.cloneImage(base, 'clone', { objectSize: 64 * KiB, stripeUnit: 64 * KiB, features: ['layering'] })
  t.match(await rbdJson('info', `${pool.path}/clone`), { object_size: 64 * KiB, features: ['layering'] })
  await pool.cloneImage(base, 'striped', { objectSize: 64 * KiB, stripeUnit: 4 * KiB, stripeCount: 4 })
  t.match(await rbdJson('info', `${pool.path}/striped`), { stripe_unit: 4 * KiB, stripe_count: 4 })
  await using striped = await pool.openImage('striped')
  t.equal((await striped.read(0, 6)).toString(), 'golden')
})

t.test('a clone may be in another namespace, by names alone', async t => {
  const [pool] = await golden(t)
  const other = await testPool(t)
  const parent = {
    pool: await other.cluster.openPool('rbd', { namespace: pool.namespace }),
    imageName: 'golden',
    name: 'base',
  }
  await other.cloneImage(parent, 'clone', { cloneFormat: 2 })
  t.match((await rbdJson('info', `${other.path}/clone`)).parent, { pool_namespace: pool.namespace, image: 'golden' })
  const tooOld = { name: 'InvalidArgumentError', code: 'EXDEV', message: /cloneFormat 2/ }
  await fails(t, { 'in format 2 only': [() => other.cloneImage(parent, 'old', { cloneFormat: 1 }), tooOld] })
})

t.test('a clone made by rbd is one here', async t => {
  const [pool, image] = await golden(t)
  await run('rbd', 'clone', `${image.path}@base`, `${pool.path}/clone`)
  await using clone = await pool.openImage('clone')
  t.match(await clone.parent(), { name: 'golden', snapshot: { name: 'base' } })
  t.equal((await clone.read(0, 6)).toString(), 'golden')
})

t.test('a clone that cannot be made', async t => {
  const [pool, image] = await golden(t)
  const base = image.snapshot('base')
  const nowhere = await pool.cluster.openPool('rbd', { namespace: 'no-such-namespace' })
  await pool.createImage('flat', { size: MiB, features: [] })
  await using flat = await pool.openImage('flat')
  await flat.createSnapshot('base')
  const missing = { name: 'ImageNotFoundError', code: 'ENOENT', syscall: 'rbd_clone3' }
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_clone3' }
  await fails(t, {
    'no such parent': [
      () => pool.cloneImage({ imageName: 'no', name: 'base' }, 'clone'),
      { name: 'ImageNotFoundError', resource: `${pool.path}/no` },
    ],
    'no such snapshot': [
      () => pool.cloneImage(image.snapshot('no'), 'clone'),
      { name: 'SnapshotNotFoundError', resource: `${image.path}@no` },
    ],
    'no such namespace': [() => nowhere.cloneImage(base, 'clone', { cloneFormat: 2 }), missing],
    'no such data pool': [() => pool.cloneImage(base, 'clone', { dataPool: 'no-such-pool' }), missing],
    'an unprotected snapshot': [
      () => pool.cloneImage(image.snapshot('unprotected'), 'clone', { cloneFormat: 1 }),
      { ...invalid, message: /not protected/ },
    ],
    'objects smaller than the stripe unit': [() => pool.cloneImage(base, 'clone', { objectSize: 4 * KiB }), invalid],
    'without layering': [
      () => pool.cloneImage(base, 'clone', { features: [] }),
      { name: 'NotSupportedError', code: 'ENOSYS', message: /layering/ },
    ],
    'of an image without layering': [
      () => pool.cloneImage({ imageName: 'flat', name: 'base' }, 'clone', { cloneFormat: 2 }),
      { name: 'NotSupportedError', code: 'ENOSYS', message: /layering/ },
    ],
    'the name is taken': [
      () => pool.cloneImage(base, 'golden'),
      { name: 'ImageExistsError', code: 'EEXIST', resource: `${pool.path}/golden` },
    ],
  })
  t.same(await rbdJson('ls', pool.path), ['flat', 'golden'])
  await t.resolves(
    pool.cloneImage(image.snapshot('unprotected'), 'clone', { cloneFormat: 2 }),
    'format 2 needs no protection',
  )
})

t.test('a clone is of the format that Ceph is set to', async t => {
  const [{ name, namespace }] = await golden(t)
  const parent = { imageName: 'golden', name: 'unprotected' }
  for (const format of ['1', '2', 'auto']) {
    const cluster = await testCluster(t, { options: { rbd_default_clone_format: format } })
    const pool = await cluster.openPool(name, { namespace })
    // From Mimic on, and the development stack lets older ones in.
    const isAuto2 = (await cluster.minCompatibleClient()) >= 13
    const cloning = pool.cloneImage(parent, `of ${format}`)
    if (format === '2' || (format === 'auto' && isAuto2)) await t.resolves(cloning, format)
    else await t.rejects(cloning, { name: 'InvalidArgumentError', message: /not protected/ }, format)
  }
})

t.test('a clone is of the image that is open, whatever it is called by now', async t => {
  const [pool, image] = await golden(t)
  await pool.renameImage('golden', 'renamed')
  await pool.cloneImage(image.snapshot('base'), 'first', { cloneFormat: 2 })
  await pool.createImage('golden', { size: MiB })
  await using other = await pool.openImage('golden')
  await other.createSnapshot('base')
  await pool.cloneImage(image.snapshot('base'), 'second', { cloneFormat: 2 })
  for (const name of ['first', 'second']) {
    await using clone = await pool.openImage(name)
    t.match(await clone.parent(), { name: 'renamed' })
  }
  const { id } = await image.stat()
  await image.close()
  await pool.trash.move('renamed')
  await using discarded = await pool.openImageById(id)
  const refused = { name: 'ImageNotFoundError', resource: discarded.path, message: /in the trash/ }
  await t.rejects(pool.cloneImage(discarded.snapshot('base'), 'third', { cloneFormat: 2 }), refused)
})

t.test('descendants are those of the image that is open, whatever it is called by now', async t => {
  const [pool, image] = await golden(t)
  await pool.cloneImage(image.snapshot('base'), 'child', { cloneFormat: 2 })
  const found = async (of: Image) => (await of.descendants()).map(({ name }) => name)
  await pool.renameImage('golden', 'renamed')
  t.same(await found(image), ['child'])
  await pool.createImage('golden', { size: MiB })
  t.same(await found(image), ['child'], 'and not those of another one that has its name')
  const { id } = await image.stat()
  await image.close()
  await pool.trash.move('renamed')
  await using discarded = await pool.openImageById(id)
  t.same(await found(discarded), ['child'], 'in the trash too')
})

t.test('children and descendants are told', async t => {
  const [pool, golden_] = await golden(t)
  await pool.cloneImage(golden_.snapshot('base'), 'child', { cloneFormat: 2 })
  await pool.cloneImage(golden_.snapshot('unprotected'), 'other child', { cloneFormat: 2 })
  await using child = await pool.openImage('child')
  await pool.cloneImage(await child.createSnapshot('one'), 'grandchild', { cloneFormat: 2 })
  await child.close()
  await pool.trash.move('other child')

  const names = (images: { name: string }[]) => images.map(({ name }) => name).sort()
  t.same(names(await golden_.children()), ['child', 'other child'])
  t.match(
    (await golden_.children()).find(({ name }) => name === 'other child'),
    { inTrash: true, pool: 'rbd' },
  )
  t.same(names(await golden_.descendants()), ['child', 'grandchild', 'other child'])
  await using at = await pool.openImage('golden', { snapshot: 'base' })
  t.same(names(await at.children()), ['child'], 'of the snapshot an image is opened at')
  t.same(
    (await rbdJson('children', `${golden_.path}@base`)).map(({ image }: { image: string }) => image),
    ['child'],
  )
  await using leaf = await pool.openImage('grandchild')
  t.same(await leaf.children(), [])
  t.same(await leaf.descendants(), [])
})
