/** A flatten or a rollback that was cut short is done again, and the image has all of its data, and nobody else's. */
import t from 'tap'
import { Cluster, type Image, KiB, type Pool, type Snapshot } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'
import { cutShort } from '../support/cut-short.js'

const objectSize = 64 * KiB
const objects = 800
const size = objects * objectSize

/** An image whose objects have bytes of their own, where `has` says that they are there. */
async function filledImage(pool: Pool, name: string, has: (object: number) => boolean) {
  await pool.createImage(name, { size, objectSize })
  const image = await pool.openImage(name)
  const content = Buffer.alloc(size)
  for (let i = 0; i < objects; i++) {
    const range = [i * objectSize, (i + 1) * objectSize] as const
    if (!has(i)) continue
    content.fill(1 + (i % 255), ...range)
    await image.write(range[0], content.subarray(...range))
  }
  const base = await image.createSnapshot('base', { protect: true })
  return { image, base, content }
}

/** The indexes of objects that are not as they are to be. */
async function wrongObjects(image: Image, content: Buffer): Promise<number[]> {
  const data = await image.read(0, size)
  const isRight = (from: number, to: number) => data.subarray(from, to).equals(content.subarray(from, to))
  const indexes = Array.from({ length: objects }, (_, i) => i)
  return indexes.filter(i => !isRight(i * objectSize, (i + 1) * objectSize))
}

async function clone(pool: Pool, base: Snapshot, name: string): Promise<Image> {
  await pool.cloneImage(base, name)
  return pool.openImage(name)
}

t.test('a flatten that was killed', async t => {
  const pool = await testPool(t)
  const { image: parent, base, content } = await filledImage(pool, 'parent', () => true)
  for (const name of ['first', 'second', 'third']) {
    await pool.cloneImage(base, name)
    await cutShort('flatten', pool, name)
    await using image = await pool.openImage(name)
    t.ok(await image.parent())
    await image.flatten()
    t.same(await wrongObjects(image, content), [], 'nothing of the parent is lost')
    t.same((await image.stat()).flags, [], 'and the object map counts again')
    t.equal(await image.usedBytes(), size)
  }
  await parent.close()
})

t.test('a rollback that was killed', async t => {
  const pool = await testPool(t)
  for (const name of ['first', 'second', 'third']) {
    const { image: before, base, content } = await filledImage(pool, name, i => i % 2 === 0)
    await before.write(0, Buffer.alloc(size, 'later'))
    await before.close()
    await cutShort('rollback', pool, name)
    await using image = await pool.openImage(name)
    await image.snapshot(base.name).rollback()
    t.same(await wrongObjects(image, content), [])
    t.same((await image.stat()).flags, [], 'the object map counts again')
    t.equal(await image.usedBytes(), size / 2)
    for (let i = 0; i < objects; i++) {
      content.fill('new', i * objectSize, i * objectSize + KiB)
      await image.write(i * objectSize, content.subarray(i * objectSize, i * objectSize + KiB))
    }
    t.same(await wrongObjects(image, content), [], 'what was written later does not show again')
  }
})

t.test('a flatten that was aborted', async t => {
  const pool = await testPool(t)
  const { image: parent, base, content } = await filledImage(pool, 'parent', () => true)
  await using image = await clone(pool, base, 'clone')
  const abort = new AbortController()
  await t.rejects(image.flatten({ signal: abort.signal, onProgress: () => abort.abort() }), { name: 'AbortError' })
  t.ok(await image.parent())
  await image.flatten()
  t.same(await wrongObjects(image, content), [])
  await parent.close()
})

t.test('a rollback that was aborted', async t => {
  const pool = await testPool(t)
  const { image, base, content } = await filledImage(pool, 'image', i => i % 2 === 0)
  await image.write(0, Buffer.alloc(size, 'later'))
  const abort = new AbortController()
  const aborted = base.rollback({ signal: abort.signal, onProgress: () => abort.abort() })
  await t.rejects(aborted, { name: 'AbortError' })
  t.same((await image.stat()).flags, ['object map invalid', 'fast diff invalid'], 'what it says does not count')
  await base.rollback()
  t.same(await wrongObjects(image, content), [])
  t.same((await image.stat()).flags, [])
  await image.close()
})

/** As a death leaves it: the object map has these, and they are not there. */
async function loseObjects(pool: Pool, image: Image, objects: readonly number[]): Promise<void> {
  const { blockNamePrefix } = await image.stat()
  for (const object of objects) {
    await image.write(object * objectSize, Buffer.alloc(KiB, 'lost'))
    await pool.object(`${blockNamePrefix}.${object.toString(16).padStart(16, '0')}`).remove()
  }
}

t.test('objects that an object map has, and that are not there', async t => {
  const pool = await testPool(t)
  const isThere = (i: number) => i % 5 !== 0
  const { image: parent, base, content } = await filledImage(pool, 'parent', isThere)
  const lost = [0, 1, 2, 17, 18, objects - 1]

  await t.test('are copied from the parent, and holes stay holes', async t => {
    await using image = await clone(pool, base, 'clone')
    await loseObjects(pool, image, lost)
    await image.flatten()
    t.same(await wrongObjects(image, content), [])
    // Of those that were lost one is a hole in the parent: it has a sector of zeroes now.
    t.equal(await image.usedBytes(), (lost.filter(i => !isThere(i)).length + objects * (4 / 5)) * objectSize)
  })

  await t.test('also by another client, that has the exclusive lock and nothing to do', async t => {
    await using image = await clone(pool, base, 'elsewhere')
    await loseObjects(pool, image, lost)
    await using cluster = await Cluster.connect()
    await using elsewhere = await cluster.openPool(pool.name, { namespace: pool.namespace })
    await using other = await elsewhere.openImage('elsewhere')
    await other.write(3 * objectSize, content.subarray(3 * objectSize, 3 * objectSize + KiB))
    t.ok(await other.exclusiveLock.isOwner())
    await image.flatten()
    t.same(await wrongObjects(image, content), [])
    t.same(await wrongObjects(other, content), [])
  })

  await t.test('also where this client keeps the exclusive lock', async t => {
    await using image = await clone(pool, base, 'kept')
    await loseObjects(pool, image, lost)
    await image.exclusiveLock.acquire()
    await image.flatten()
    t.same(await wrongObjects(image, content), [])
  })

  await t.test('also where the snapshot is to be removed', async t => {
    const last = await parent.createSnapshot('last')
    await pool.cloneImage(last, 'of last', { cloneFormat: 2 })
    await using image = await pool.openImage('of last')
    await loseObjects(pool, image, lost)
    await last.remove({ flattenClones: true })
    t.same(await wrongObjects(image, content), [])
    t.equal(await image.parent(), null)
  })

  await t.test('where the data is in a pool of its own, in stripes', async t => {
    const dataPool = `${pool.name}.${pool.namespace}.data`
    await pool.cluster.createPool(dataPool)
    t.teardown(() => pool.cluster.deletePool(dataPool))
    const options = { dataPool, objectSize, stripeUnit: objectSize / 4, stripeCount: 4 }
    await pool.cloneImage(base, 'striped', options)
    await using image = await pool.openImage('striped')
    const { blockNamePrefix } = await image.stat()
    for (const object of [0, 1, 6]) {
      // The first stripe unit of an object.
      const offset = (object - (object % 4)) * objectSize + (object % 4) * (objectSize / 4)
      await image.write(offset, Buffer.alloc(KiB, 'lost'))
      const name = `${blockNamePrefix}.${object.toString(16).padStart(16, '0')}`
      await using stripes = await pool.cluster.openPool(dataPool, { namespace: pool.namespace })
      await stripes.object(name).remove()
    }
    await image.flatten()
    t.same(await wrongObjects(image, content), [])
    await image.close()
    await pool.removeImage('striped')
  })
  await parent.close()
})

t.test('two flattens at once', async t => {
  const pool = await testPool(t)
  const { image: parent, base, content } = await filledImage(pool, 'parent', () => true)
  await using first = await clone(pool, base, 'clone')
  await using second = await pool.openImage('clone')
  const results = await Promise.allSettled([first.flatten(), second.flatten()])
  t.ok(
    results.some(({ status }) => status === 'fulfilled'),
    JSON.stringify(results),
  )
  t.same(await wrongObjects(first, content), [])
  t.equal(await first.parent(), null)
  await parent.close()
})

t.test('where nothing can be done, the object map is left alone', async t => {
  const pool = await testPool(t)
  const { image: parent, base } = await filledImage(pool, 'parent', i => i === 0)
  await pool.cloneImage(base, 'clone')
  await using readOnly = await pool.openImage('clone', { readOnly: true })
  await t.rejects(readOnly.flatten(), { name: 'ReadOnlyImageError' })
  await t.rejects(readOnly.snapshot('base').rollback(), { name: 'ReadOnlyImageError' })
  await t.rejects(parent.flatten(), { name: 'InvalidArgumentError' })
  await t.rejects(parent.snapshot('none').rollback(), { name: 'SnapshotNotFoundError' })
  for (const image of [readOnly, parent]) t.same((await image.stat()).flags, [])
  await parent.close()
})

t.test('a clone without an object map', async t => {
  const pool = await testPool(t)
  const { image: parent, base, content } = await filledImage(pool, 'parent', () => true)
  await pool.cloneImage(base, 'plain', { features: ['layering', 'exclusive-lock'] })
  await cutShort('flatten', pool, 'plain')
  await using image = await pool.openImage('plain')
  await image.flatten()
  t.same(await wrongObjects(image, content), [])
  await parent.close()
})
