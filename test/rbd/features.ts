import t, { type Test } from 'tap'
import { type Feature, type Image, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

async function disk(t: Test): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  return [pool, await pool.openImage('disk')]
}

t.test('features are turned off and on, and rbd sees it', async t => {
  const [, image] = await disk(t)
  const features = async (): Promise<Feature[]> => (await rbdJson('info', image.path)).features
  await image.disableFeatures(['fast-diff', 'object-map', 'deep-flatten'])
  t.same(await features(), ['layering', 'exclusive-lock'])
  await image.enableFeatures(['journaling'])
  t.same(await features(), ['layering', 'exclusive-lock', 'journaling'])
  await run('rbd', 'feature', 'disable', image.path, 'journaling')
  t.same((await image.stat()).features, ['layering', 'exclusive-lock'])
  await image.disableFeatures(['exclusive-lock'])
  t.same(await features(), ['layering'])
})

t.test('an object map that is turned on is not valid before it is rebuilt', async t => {
  const [, image] = await disk(t)
  await image.disableFeatures(['fast-diff', 'object-map'])
  await image.write(0, Buffer.alloc(4096, 1))
  await image.enableFeatures(['object-map', 'fast-diff'])
  t.same((await image.stat()).flags, ['object map invalid', 'fast diff invalid'])
  t.same((await rbdJson('info', image.path)).flags, ['object map invalid', 'fast diff invalid'])
  await image.rebuildObjectMap()
  t.same((await image.stat()).flags, [])
  t.equal(await image.usedBytes(), 4 * MiB)
})

t.test('features that cannot be changed', async t => {
  const [pool, image] = await disk(t)
  await image.disableFeatures(['deep-flatten'])
  await pool.createImage('plain', { size: MiB, features: ['layering'] })
  await using plain = await pool.openImage('plain')
  await using reader = await pool.openImage('disk', { readOnly: true })
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_update_features' }
  const readOnly = { name: 'ReadOnlyImageError', code: 'EROFS' }
  await fails(t, {
    'on already': [() => image.enableFeatures(['object-map']), invalid],
    'off already': [() => image.disableFeatures(['journaling']), invalid],
    'needed by another': [() => image.disableFeatures(['exclusive-lock']), invalid],
    'fixed when off': [() => image.enableFeatures(['deep-flatten']), invalid],
    'in need of another': [() => plain.enableFeatures(['object-map']), invalid],
    'fixed for ever': [() => image.enableFeatures(['striping']), invalid],
    'none at all': [() => image.enableFeatures([]), invalid],
    'to who only reads': [() => reader.disableFeatures(['object-map']), readOnly],
    'nor turn on': [() => reader.enableFeatures(['journaling']), readOnly],
  })
  t.same((await image.stat()).features, ['layering', 'exclusive-lock', 'object-map', 'fast-diff'])
})
