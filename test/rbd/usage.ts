/** The use of all images of a pool, read from their object maps, beside `rbd du` and beside each image opened. */
import t, { type Test } from 'tap'
import { type Image, type ImageUsage, KiB, MiB, type Pool, TiB, type UnreadableImage } from '../../lib/index.js'
import { operationsOf } from '../../scripts/bench/osd.js'
import { rbdJson, run, testPool, testWholePool } from '../support/cluster.js'
import { ownPool } from '../support/own-cluster.js'

async function usageOf(pool: Pool): Promise<(ImageUsage | UnreadableImage)[]> {
  const all: (ImageUsage | UnreadableImage)[] = []
  for await (const usage of pool.listImageUsage()) all.push(usage)
  return all
}

/** The rows of `rbd du`, of what cephkit tells. */
const rowsOf = (usage: (ImageUsage | UnreadableImage)[]) =>
  usage.flatMap(image => {
    if (image.error) return []
    const { name, id } = image
    const snapshots = image.snapshots.map(snapshot => ({
      ...{ name, id, snapshot: snapshot.name, snapshot_id: snapshot.id },
      ...{ provisioned_size: snapshot.size, used_size: snapshot.changedBytes },
    }))
    return [...snapshots, { name, id, provisioned_size: image.size, used_size: image.changedBytes }]
  })

async function sameAsOpened(t: Test, pool: Pool): Promise<(ImageUsage | UnreadableImage)[]> {
  const usage = await usageOf(pool)
  for (const each of usage) {
    await using image = await pool.openImage(each.name, { readOnly: true })
    t.equal(each.error ? each.error : each.usedBytes, await image.usedBytes(), each.name)
  }
  return usage
}

async function sameAsRbdAndOpened(t: Test, pool: Pool): Promise<void> {
  const usage = await sameAsOpened(t, pool)
  const { images } = await rbdJson('du', '--pool', pool.name, '--namespace', pool.namespace)
  t.same(rowsOf(usage), images)
}

interface Case {
  /** Default: 64 MiB in objects of 1 MiB. */
  options?: Partial<Parameters<Pool['createImage']>[1]>
  fill(image: Image, pool: Pool): Promise<unknown>
}

const data = Buffer.alloc(5 * KiB, 'x')
const write = (image: Image, ...atMiB: number[]) => Promise.all(atMiB.map(at => image.write(at * MiB, data)))

const cases: Record<string, Case> = {
  empty: { fill: async () => {} },
  'partly written': { fill: image => write(image, 0, 3, 4, 5, 10, 63) },
  full: { fill: image => image.write(0, Buffer.alloc(64 * MiB, 'x')) },
  'with an end within an object': { options: { size: 9 * MiB + 300 * KiB + 1 }, fill: image => write(image, 1, 9) },
  'smaller than an object': { options: { size: 6 * KiB }, fill: image => write(image, 0) },
  discarded: {
    async fill(image) {
      await write(image, 1, 2, 3, 4)
      await image.discard(2 * MiB, 2 * MiB)
      await image.discard(4 * MiB, 4 * KiB)
    },
  },
  'shrunk and grown': {
    async fill(image) {
      await write(image, 1, 30, 60)
      await image.resize(30.5 * MiB, { allowShrink: true })
      await image.resize(70 * MiB)
      await write(image, 69)
    },
  },
  'with snapshots': {
    async fill(image) {
      await write(image, 1, 2, 3, 4)
      await image.createSnapshot('one')
      await write(image, 2, 5)
      await image.discard(3 * MiB, MiB)
      await image.createSnapshot('two')
      await image.createSnapshot('three, with nothing new')
      await image.discard(4 * MiB, MiB)
      await write(image, 3, 6)
    },
  },
  'with snapshots of other sizes': {
    async fill(image) {
      await write(image, 1, 40, 41, 63)
      await image.createSnapshot('large')
      await image.resize(40.5 * MiB, { allowShrink: true })
      await image.createSnapshot('small')
      await image.resize(64 * MiB)
      await write(image, 41)
      await image.createSnapshot('large again')
      await write(image, 63)
    },
  },
  'with a snapshot that has gone': {
    async fill(image) {
      await write(image, 1, 2)
      await image.createSnapshot('one')
      await write(image, 2, 3)
      const between = await image.createSnapshot('between')
      await write(image, 3, 4)
      await between.remove()
    },
  },
  'with a snapshot in the trash between': {
    async fill(image, pool) {
      await write(image, 1, 2)
      const first = await image.createSnapshot('first')
      await write(image, 2, 3)
      await pool.cloneImage(first, 'clone of the first', { cloneFormat: 2 })
      await image.createSnapshot('one')
      await write(image, 1, 5)
      const between = await image.createSnapshot('between')
      await pool.cloneImage(between, 'clone of what is between', { cloneFormat: 2 })
      await image.discard(2 * MiB, MiB)
      await write(image, 3)
      await first.remove()
      await between.remove()
    },
  },
  'rolled back': {
    async fill(image) {
      await write(image, 1, 2)
      const snapshot = await image.createSnapshot('one')
      await write(image, 2, 3)
      await snapshot.rollback()
    },
  },
  parent: {
    async fill(image, pool) {
      await write(image, 1, 2, 3)
      const base = await image.createSnapshot('base', { protect: true })
      await pool.cloneImage(base, 'clone')
      await using clone = await pool.openImage('clone')
      await write(clone, 2, 20)
      await clone.createSnapshot('one')
      await clone.discard(MiB, MiB)
      await pool.cloneImage(base, 'clone in larger objects', { objectSize: 4 * MiB })
      await using larger = await pool.openImage('clone in larger objects')
      await write(larger, 2, 20)
      await pool.cloneImage(base, 'flattened')
      await using flattened = await pool.openImage('flattened')
      await flattened.flatten()
    },
  },
  'without fast-diff': {
    options: { features: ['layering', 'exclusive-lock', 'object-map'] },
    async fill(image) {
      await write(image, 1, 2, 40)
      await image.createSnapshot('one')
      await write(image, 2, 3)
    },
  },
  'without any map': { options: { features: [], size: 9.5 * MiB }, fill: image => write(image, 1, 2, 9) },
  'with a map that was not built': {
    options: { features: ['layering', 'exclusive-lock'] },
    async fill(image) {
      await write(image, 1, 2)
      await image.createSnapshot('one')
      await write(image, 2, 3)
      await image.enableFeatures(['object-map', 'fast-diff'])
    },
  },
  'with a map built anew': {
    options: { features: ['layering', 'exclusive-lock'] },
    async fill(image) {
      await write(image, 1, 2)
      await image.createSnapshot('one')
      await write(image, 2, 3)
      await image.enableFeatures(['object-map', 'fast-diff'])
      await image.rebuildObjectMap()
    },
  },
}
for (const stripeCount of [2, 3, 5]) {
  for (const size of [1, 64 * KiB, 1.5 * MiB, 3 * MiB, 9 * MiB, 13 * MiB + 77 * KiB + 1, 15 * MiB]) {
    cases[`striped over ${stripeCount}, of ${size}`] = {
      options: { size, stripeUnit: 64 * KiB, stripeCount },
      fill: image => image.write(Math.floor(size / 3), Buffer.alloc(Math.ceil(size / 2), 'x')),
    }
  }
}

t.test('images of all kinds', async t => {
  const pool = await testPool(t)
  for (const [name, { options, fill }] of Object.entries(cases)) {
    await pool.createImage(name, { size: 64 * MiB, objectSize: MiB, ...options })
    const image = await pool.openImage(name)
    await fill(image, pool)
    await image.close()
  }
  await sameAsRbdAndOpened(t, pool)
})

// Where `rbd du` ends in an assertion.
t.test('images of no size', async t => {
  const pool = await testPool(t)
  await pool.createImage('nothing', { size: 0 })
  await pool.createImage('nothing striped', { size: 0, objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 3 })
  await pool.createImage('nothing without a map', { size: 0, features: [] })
  await pool.createImage('once nothing', { size: 0 })
  await using image = await pool.openImage('once nothing')
  await image.createSnapshot('nothing')
  await image.resize(5 * MiB)
  await write(image, 1)
  t.same(
    (await sameAsOpened(t, pool)).map(each => !each.error && [each.usedBytes, each.changedBytes]),
    [
      [0, 0],
      [0, 0],
      [0, 0],
      [4 * MiB, 4 * MiB],
    ],
  )
})

t.test('with the data in a pool of its own', async t => {
  const pool = await testPool(t)
  const dataPool = `usage-data-${process.pid}`
  await pool.cluster.createPool(dataPool)
  t.teardown(() => pool.cluster.deletePool(dataPool))
  await (await pool.cluster.openPool(dataPool)).initialize()
  await pool.createImage('disk', { size: 8 * MiB, objectSize: MiB, dataPool })
  const image = await pool.openImage('disk')
  await write(image, 1, 7)
  await image.close()
  await sameAsRbdAndOpened(t, pool)
})

t.test('an object map that is not to be trusted is not read', async t => {
  const pool = await testPool(t)
  const names = ['flagged', 'missing', 'cut short', 'junk']
  for (const name of names) {
    await pool.createImage(name, { size: 16 * MiB, objectSize: MiB })
    const image = await pool.openImage(name)
    await write(image, 1, 2)
    await image.createSnapshot('one')
    await write(image, 2, 3)
    await image.close()
  }
  const ids = new Map((await pool.listImages()).map(({ id, name }) => [name, id]))
  const map = (name: string) => pool.object(`rbd_object_map.${ids.get(name)}`)
  await map('missing').remove()
  await map('cut short').truncate(20)
  await map('junk').writeFull(Buffer.alloc(100, 0xff))
  // As the object class keeps its flags: both say that the map is not valid.
  await pool.object(`rbd_header.${ids.get('flagged')}`).setOmap({ flags: Buffer.from([3, 0, 0, 0, 0, 0, 0, 0]) })

  await sameAsRbdAndOpened(t, pool)
  for (const usage of await usageOf(pool)) t.match(usage, { usedBytes: 3 * MiB, changedBytes: 2 * MiB }, usage.name)
})

t.test('costs two round trips an image', async t => {
  const pool = await ownPool(t)
  for (let i = 0; i < 50; i++) await pool.createImage(`disk-${i}`, { size: 64 * MiB })
  const before = await operationsOf(pool.cluster)
  t.equal((await usageOf(pool)).length, 50)
  const cost = (await operationsOf(pool.cluster)) - before
  t.ok(cost >= 100 && cost < 120, `${cost} operations`)
})

t.test('an image of the old format', async t => {
  const pool = await testWholePool(t)
  await run('env', 'RBD_FORCE_ALLOW_V1=1', 'rbd', 'create', '--image-format', '1', '--size', '9M', `${pool.path}/old`)
  const image = await pool.openImage('old')
  await write(image, 1)
  await image.createSnapshot('one')
  await write(image, 1, 8)
  await image.close()
  await sameAsRbdAndOpened(t, pool)
})

t.test('an image that cannot be read is told', async t => {
  const pool = await testPool(t)
  for (const name of ['broken', 'of a snapshot', 'whole']) await pool.createImage(name, { size: MiB })
  const [broken, second] = await pool.listImages()
  await pool.object(`rbd_header.${broken?.id}`).setOmap({ size: 'junk' })
  await using image = await pool.openImage('of a snapshot')
  await image.createSnapshot('one')
  const [snapshot] = await image.listSnapshots()
  // librbd cannot open that snapshot any more, and says that it is not found.
  await pool.object(`rbd_object_map.${second?.id}.${snapshot?.id.toString(16).padStart(16, '0')}`).remove()
  t.match(await usageOf(pool), [
    { name: 'broken', id: broken?.id, error: { name: 'IOError', resource: `${pool.path}/broken` } },
    { name: 'of a snapshot', error: { code: 'ENOENT', resource: `${pool.path}/of a snapshot@one` } },
    { name: 'whole', size: MiB, usedBytes: 0, changedBytes: 0, snapshots: [] },
  ])
})

t.test('who leaves in the middle does not wait for what is slow', async t => {
  const pool = await testPool(t)
  await pool.createImage('first', { size: MiB })
  // A million objects to ask for.
  await pool.createImage('slow', { size: 4 * TiB, features: [] })
  const start = performance.now()
  for await (const { name } of pool.listImageUsage()) {
    t.equal(name, 'first')
    break
  }
  await pool.close()
  const seconds = (performance.now() - start) / 1000
  t.ok(seconds < 5, `${seconds} s`)
})
