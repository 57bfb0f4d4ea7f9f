/** A clone whose flatten, or write, was cut short has all of its data after the next flatten. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Image, KiB, type Pool } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const objectSize = 64 * KiB
const objects = 400
const flattener = fileURLToPath(new URL('../support/flatten-main.js', import.meta.url))

/** Each object of it has bytes of its own. */
async function parentImage(pool: Pool): Promise<{ base: ReturnType<Image['snapshot']>; content: Buffer }> {
  await pool.createImage('parent', { size: objects * objectSize, objectSize })
  await using parent = await pool.openImage('parent')
  const content = Buffer.alloc(objects * objectSize)
  for (let i = 0; i < objects; i++) content.fill(1 + (i % 255), i * objectSize, (i + 1) * objectSize)
  await parent.write(0, content)
  await parent.createSnapshot('base', { protect: true })
  return { base: parent.snapshot('base'), content }
}

/** Kills a process that flattens it, and ends what Ceph would wait for half a minute for. */
async function flattenAndDie(pool: Pool, name: string, afterMs: number): Promise<void> {
  const args = [flattener, pool.name, pool.namespace, name]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  await Promise.race([once(child.stdout, 'data'), ended])
  await delay(afterMs)
  child.kill('SIGKILL')
  await ended
  await using image = await pool.openImage(name, { readOnly: true })
  for (const { address } of await image.watchers()) await pool.cluster.blocklist(address)
}

/** Indexes of the objects that are not as they are to be. */
async function wrongObjects(image: Image, content: Buffer): Promise<number[]> {
  const data = await image.read(0, content.length)
  const isWrong = (i: number) => {
    const range = [i * objectSize, (i + 1) * objectSize] as const
    return !data.subarray(...range).equals(content.subarray(...range))
  }
  return Array.from({ length: objects }, (_, i) => i).filter(isWrong)
}

t.test('a flatten that was killed is gone on with, and nothing is lost', async t => {
  const pool = await testPool(t)
  const { base, content } = await parentImage(pool)
  let cutShort = 0
  for (let round = 0; round < 6; round++) {
    const name = `clone-${round}`
    await pool.cloneImage(base, name)
    await flattenAndDie(pool, name, 20 + 25 * round)
    await using clone = await pool.openImage(name)
    if ((await clone.parent()) !== null) {
      cutShort++
      await clone.flatten()
      t.same((await clone.stat()).flags, [], 'and its object map counts again')
    }
    t.same(await wrongObjects(clone, content), [], name)
  }
  t.ok(cutShort > 0, `${cutShort} were cut short`)
})

t.test('one that is aborted is gone on with, too', async t => {
  const pool = await testPool(t)
  const { base, content } = await parentImage(pool)
  await pool.cloneImage(base, 'clone')
  await using clone = await pool.openImage('clone')
  const abort = new AbortController()
  await t.rejects(clone.flatten({ signal: abort.signal, onProgress: () => abort.abort() }), { name: 'AbortError' })
  t.ok(await clone.parent())
  t.same((await clone.stat()).flags, ['object map invalid'])
  await clone.flatten()
  t.same(await wrongObjects(clone, content), [])
  await checkMap(t, clone)
})

/** Bytes in use by the object map, beside those by the objects. */
async function checkMap(t: Test, image: Image): Promise<void> {
  const { flags } = await image.stat()
  t.same(flags, [])
  t.equal(await image.usedBytes(), objects * objectSize)
}

t.test('two at once', async t => {
  const pool = await testPool(t)
  const { base, content } = await parentImage(pool)
  await pool.cloneImage(base, 'clone')
  await using first = await pool.openImage('clone')
  await using second = await pool.openImage('clone')
  const results = await Promise.allSettled([first.flatten(), second.flatten()])
  t.ok(
    results.some(({ status }) => status === 'fulfilled'),
    JSON.stringify(results),
  )
  t.same(await wrongObjects(first, content), [])
  t.equal(await first.parent(), null)
})

t.test('an image without an object map, and one that is open for reading only', async t => {
  const pool = await testPool(t)
  const { base, content } = await parentImage(pool)
  await pool.cloneImage(base, 'plain', { features: ['layering', 'exclusive-lock'] })
  await using plain = await pool.openImage('plain')
  await plain.flatten()
  t.same(await wrongObjects(plain, content), [])
  await pool.cloneImage(base, 'clone')
  await using clone = await pool.openImage('clone', { readOnly: true })
  await t.rejects(clone.flatten(), { name: 'ReadOnlyImageError' })
  t.same((await clone.stat()).flags, [], 'its object map is left alone')
})
