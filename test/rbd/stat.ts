import t from 'tap'
import { Image, MiB } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'

t.test('stat tells what rbd info tells', async t => {
  t.match(Image.libraryVersion, /^\d+\.\d+\.\d+$/)
  const pool = await testPool(t)
  await run('rbd', 'create', '--size', '10M', '--object-size', '1M', `${pool.path}/disk`)
  await using image = await pool.openImage('disk')
  const [stat, info] = await Promise.all([image.stat(), rbdJson('info', image.path)])
  t.match(stat, {
    name: info.name,
    id: info.id,
    size: info.size,
    objectSize: info.object_size,
    objects: info.objects,
    order: info.order,
    blockNamePrefix: info.block_name_prefix,
    format: info.format,
    features: info.features,
    operationFeatures: info.op_features,
    flags: info.flags,
    stripeUnit: MiB,
    stripeCount: 1,
    overlap: 0,
  })
  t.notOk('dataPoolId' in stat, 'the data is in the pool of the image')
  const seconds = (time: Date) => Math.floor(time.getTime() / 1000)
  t.equal(seconds(stat.createdAt), Date.parse(`${info.create_timestamp} UTC`) / 1000)
  t.equal(seconds(stat.modifiedAt), Date.parse(`${info.modify_timestamp} UTC`) / 1000)
  t.equal(seconds(stat.accessedAt), Date.parse(`${info.access_timestamp} UTC`) / 1000)
})

t.test('stat shows what others change', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  await using image = await pool.openImage('disk')
  await run('rbd', 'resize', '--size', '32M', image.path)
  await run('rbd', 'feature', 'disable', image.path, 'deep-flatten')
  t.match(await image.stat(), { size: 32 * MiB, features: ['layering', 'exclusive-lock', 'object-map', 'fast-diff'] })
  t.equal(await image.size(), 32 * MiB)
})

t.test('an image may be in a group', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  t.equal(await image.group(), null)
  await run('rbd', 'group', 'create', `${pool.path}/group`)
  await run('rbd', 'group', 'image', 'add', `${pool.path}/group`, image.path)
  t.same(await image.group(), { name: 'group', poolId: pool.id })
  t.same((await image.stat()).operationFeatures, ['group'])
})

t.test('the clients that have an image open are its watchers', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const watchers = await image.watchers()
  t.match(watchers, [{ client: await pool.cluster.instanceId(), cookie: BigInt }])
  const [theirs] = (await rbdJson('status', image.path)).watchers
  t.match(watchers[0], { address: theirs.address, client: BigInt(theirs.client), cookie: BigInt(theirs.cookie) })
  await using reader = await pool.openImage('disk', { readOnly: true })
  t.equal((await reader.watchers()).length, 1, 'who only reads is none')
  await image.close()
  t.same(await reader.watchers(), [])
})
