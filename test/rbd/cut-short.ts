/** A flatten or a rollback that was cut short is done again, and the image has all of its data, and nobody else's. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type Image, KiB, type Pool, type Snapshot } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const objectSize = 64 * KiB
const objects = 800
const size = objects * objectSize
const victim = fileURLToPath(new URL('../support/cut-short-main.js', import.meta.url))

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

/** Kills a process that does it, and ends what Ceph would wait for half a minute for. */
async function cutShort(operation: 'flatten' | 'rollback', pool: Pool, name: string): Promise<void> {
  const args = [victim, operation, pool.name, pool.namespace, name]
  const [, signal] = await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')
  if (signal !== 'SIGKILL') throw new Error(`the ${operation} came to its end`)
  await using image = await pool.openImage(name, { readOnly: true })
  for (const { address } of await image.watchers()) await pool.cluster.blocklist(address)
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
  t.same((await image.stat()).flags, ['object map invalid'])
  await image.flatten()
  t.same(await wrongObjects(image, content), [])
  t.same((await image.stat()).flags, [])
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
