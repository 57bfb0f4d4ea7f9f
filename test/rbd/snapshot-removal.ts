/** A removal, or a making, of a snapshot that was cut short: what has changed meanwhile is not forgotten. */
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type DiffOptions, type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { objectMapObject } from '../../lib/rbd/object-class.js'
import { testPool } from '../support/cluster.js'
import { cutRemovalShort } from '../support/cut-short.js'

const objectSize = 64 * KiB

/** Writes the first object after the first snapshot, the second after the second, and so on. */
async function imageOf(t: Test, pool: Pool, name: string, ...snapshots: string[]): Promise<Image> {
  await pool.createImage(name, { size: 8 * objectSize, objectSize })
  const image = await pool.openImage(name)
  t.teardown(() => image.close())
  await image.write(0, Buffer.alloc(8 * objectSize, 'before'))
  for (const [i, snapshot] of snapshots.entries()) {
    await image.createSnapshot(snapshot)
    await image.write(i * objectSize, Buffer.alloc(KiB, snapshot))
  }
  return image
}

/** Which objects have changed. */
async function changed(image: Image, options: DiffOptions): Promise<number[]> {
  const objects = new Set<number>()
  for await (const { offset, length } of image.diff(options)) {
    for (let at = offset; at < offset + length; at += objectSize) objects.add(Math.floor(at / objectSize))
  }
  return [...objects]
}

async function idOf(image: Image, snapshot: string): Promise<number> {
  const found = (await image.listSnapshots()).find(each => (each.originalName ?? each.name) === snapshot)
  return found?.id ?? 0
}

const names = async (image: Image) =>
  (await image.listSnapshots()).map(({ originalName, name }) => originalName ?? name)

/** As a death leaves it: the removal of `last` has taken its object map away, and not the snapshot. */
async function cutRemoval(t: Test): Promise<Image> {
  const pool = await testPool(t)
  await (await imageOf(t, pool, 'disk', 'first', 'middle')).close()
  await cutRemovalShort(pool, 'disk', async () => {
    await using image = await pool.openImage('disk')
    await image.createSnapshot('last')
    await image.write(2 * objectSize, Buffer.alloc(KiB, 'last'))
  })
  const image = await pool.openImage('disk')
  t.teardown(() => image.close())
  return image
}

/** As a death leaves it: `last` is listed, and nothing has been done with object maps. */
async function cutMaking(t: Test): Promise<Image> {
  const pool = await testPool(t)
  const image = await imageOf(t, pool, 'disk', 'first', 'middle')
  const { id } = await image.stat()
  await image.close()
  const map = pool.object(objectMapObject(id))
  const before = await map.read()
  const again = await pool.openImage('disk')
  await again.createSnapshot('last')
  await pool.object(objectMapObject(id, await idOf(again, 'last'))).remove()
  await again.close()
  await map.writeFull(before)
  const opened = await pool.openImage('disk')
  t.teardown(() => opened.close())
  return opened
}

async function tellsAllChanges(t: Test, image: Image): Promise<void> {
  const objects = await changed(image, { from: 'first' })
  t.same(await changed(image, { from: 'first', wholeObject: true }), objects)
  t.equal(await image.usedBytes({ from: 'first' }), objects.length * objectSize)
  t.same((await image.stat()).flags, [])
}

t.test('after a removal that was killed, the removal of the snapshot before brings it to its end', async t => {
  const image = await cutRemoval(t)
  t.match(await image.listSnapshots(), [
    { namespace: 'user' },
    { namespace: 'user' },
    { namespace: 'trash', originalName: 'last', clones: 0 },
  ])
  await image.snapshot('middle').remove()
  t.same(await names(image), ['first'])
  t.same(await changed(image, { from: 'first' }), [0, 1, 2])
  await tellsAllChanges(t, image)
})

t.test('so does a removal by its id', async t => {
  const image = await cutRemoval(t)
  await image.removeSnapshotById(await idOf(image, 'middle'))
  t.same(await names(image), ['first'])
  await tellsAllChanges(t, image)
})

t.test('and it is brought to its end by its own id', async t => {
  const image = await cutRemoval(t)
  await image.removeSnapshotById(await idOf(image, 'last'))
  t.same(await names(image), ['first', 'middle'])
  await image.snapshot('middle').remove()
  await tellsAllChanges(t, image)
})

t.test('while the snapshot after it is not whole, none is removed', async t => {
  const image = await cutMaking(t)
  const middle = image.snapshot('middle')
  const refusal = {
    name: 'IncompleteSnapshotError',
    code: 'EBUSY',
    retryable: true,
    message: /last, the snapshot after it, .*remove that one first/,
  }
  const id = await idOf(image, 'middle')
  await Promise.all([t.rejects(middle.remove(), refusal), t.rejects(image.removeSnapshotById(id), refusal)])
  t.same(await names(image), ['first', 'middle', 'last'])
  await image.snapshot('last').remove()
  await middle.remove()
  t.same(await changed(image, { from: 'first' }), [0, 1])
  await tellsAllChanges(t, image)
})

t.test('one that is being made is waited for', async t => {
  const pool = await testPool(t)
  const image = await imageOf(t, pool, 'disk', 'first', 'middle', 'last')
  const map = pool.object(objectMapObject((await image.stat()).id, await idOf(image, 'last')))
  const content = await map.read()
  await map.remove()
  const removing = image.snapshot('middle').remove()
  await delay(100)
  await map.writeFull(content)
  await removing
  t.same(await names(image), ['first', 'last'])
  await tellsAllChanges(t, image)
})

t.test('an image without fast diffs has nothing to forget', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB, features: ['layering', 'exclusive-lock'] })
  await using image = await pool.openImage('disk')
  for (const name of ['first', 'last']) await image.createSnapshot(name)
  await image.snapshot('first').remove()
  await image.removeSnapshotById(await idOf(image, 'last'))
  t.same(await names(image), [])
})
