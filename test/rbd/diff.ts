import t, { type Test } from 'tap'
import { type CreateImageOptions, type Extent, type Image, KiB, MiB, type Pool, TiB } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

// Formatting an encryption is made to take its time.
t.setTimeout(300_000)

const layouts: Record<string, Omit<CreateImageOptions, 'size'>> = {
  'an object map': {},
  'no object map': { features: ['layering'] },
  'stripes over several objects': { objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 4 },
  'stripes, and no object map': { objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 4, features: ['layering'] },
}

/** Data, a snapshot, more data, a hole where data was, a snapshot, and data again. */
async function disk(t: Test, layout: Omit<CreateImageOptions, 'size'> = {}): Promise<[Pool, Image]> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 64 * MiB + 1000, ...layout })
  const image = await pool.openImage('disk')
  for (const offset of [0, 1, 9, 30, 31, 32, 64]) await image.write(offset * MiB, Buffer.alloc(1000, 1))
  await image.createSnapshot('one')
  for (const offset of [1, 20, 30]) await image.write(offset * MiB + 5000, Buffer.alloc(10_000, 2))
  await image.discard(8 * MiB, 4 * MiB)
  await image.createSnapshot('two')
  await image.write(40 * MiB, Buffer.alloc(MiB, 3))
  await image.flush()
  return [pool, image]
}

/** Neighbours are one: who tells them apart does so for reasons of its own. */
function joined(extents: Extent[]): Extent[] {
  const result: Extent[] = []
  for (const extent of extents) {
    const last = result.at(-1)
    if (last && last.offset + last.length === extent.offset && last.exists === extent.exists) {
      last.length += extent.length
    } else {
      result.push({ ...extent })
    }
  }
  return result
}

async function byRbd(path: string, ...options: string[]): Promise<Extent[]> {
  const extents: { offset: number; length: number; exists: string }[] = await rbdJson('diff', path, ...options)
  const sorted = extents.sort((a, b) => a.offset - b.offset)
  return joined(sorted.map(({ offset, length, exists }) => ({ offset, length, exists: exists === 'true' })))
}

async function collect(image: Image, options: Parameters<Image['diff']>[0]): Promise<Extent[]> {
  const extents: Extent[] = []
  for await (const extent of image.diff(options)) extents.push(extent)
  return joined(extents)
}

for (const [layout, options] of Object.entries(layouts)) {
  t.test(`a difference is what rbd diff says, of an image with ${layout}`, async t => {
    const [pool, image] = await disk(t, options)
    await using two = await pool.openImage('disk', { snapshot: 'two' })
    for (const wholeObject of [false, true]) {
      const whole = wholeObject ? ['--whole-object'] : []
      for (const from of ['one', 'two']) {
        t.same(
          await collect(image, { from, wholeObject }),
          await byRbd(image.path, '--from-snap', from, ...whole),
          `${whole} since ${from}`,
        )
      }
      t.same(await collect(image, { wholeObject }), await byRbd(image.path, ...whole), `${whole} of all`)
      t.same(await collect(two, { wholeObject }), await byRbd(two.path, ...whole), `${whole} at a snapshot`)
      t.same(
        await collect(two, { from: 'one', wholeObject }),
        await byRbd(two.path, '--from-snap', 'one', ...whole),
        `${whole} between snapshots`,
      )
    }
    t.ok(
      (await collect(image, { from: 'one' })).some(({ exists }) => !exists),
      'data that became a hole is told',
    )
  })

  t.test(`a difference of a range has nothing outside of it, of an image with ${layout}`, async t => {
    const [, image] = await disk(t, options)
    for (const wholeObject of [false, true]) {
      const all = await collect(image, { wholeObject })
      for (const [offset, length] of [
        [0, 500],
        [9 * MiB + 100, 100],
        [MiB + 5001, 30 * MiB],
        [64 * MiB + 999, 100],
      ] as const) {
        const expected = all
          .map(extent => {
            const start = Math.max(offset, extent.offset)
            return {
              ...extent,
              offset: start,
              length: Math.min(offset + length, extent.offset + extent.length) - start,
            }
          })
          .filter(extent => extent.length > 0)
        t.same(await collect(image, { wholeObject, offset, length }), expected, `${length} from ${offset}`)
      }
      t.same(await collect(image, { wholeObject, offset: 64 * MiB + 1000 }), [], 'nothing is behind the end')
      t.same(await collect(image, { wholeObject, offset: 100 * MiB, length: MiB }), [])
    }
  })
}

t.test('a difference includes what a clone shows of its parent if asked to', async t => {
  const [pool] = await disk(t)
  await pool.cloneImage({ imageName: 'disk', name: 'two' }, 'clone', { cloneFormat: 2 })
  await using clone = await pool.openImage('clone')
  await clone.write(50 * MiB, Buffer.alloc(4096, 1))
  await clone.flush()
  for (const wholeObject of [false, true]) {
    const whole = wholeObject ? ['--whole-object'] : []
    t.same(await collect(clone, { includeParent: true, wholeObject }), await byRbd(clone.path, ...whole))
    const own = (await collect(clone, { wholeObject })).filter(({ exists }) => exists)
    t.ok(own.length > 0 && own.every(({ offset }) => offset >= 48 * MiB), 'and else does not')
  }
})

t.test('a difference of a huge image is told bit by bit', async t => {
  const pool = await testPool(t)
  await pool.createImage('huge', { size: 20 * TiB })
  await using huge = await pool.openImage('huge')
  const offsets = [0, TiB - 4 * MiB, TiB, 19 * TiB]
  for (const offset of offsets) await huge.write(offset, Buffer.alloc(4096, 1))
  t.same(await collect(huge, { wholeObject: true }), [
    { offset: 0, length: 4 * MiB, exists: true },
    { offset: TiB - 4 * MiB, length: 8 * MiB, exists: true },
    { offset: 19 * TiB, length: 4 * MiB, exists: true },
  ])

  // More objects than one call of librbd's goes over.
  await pool.createImage('many', { size: 8 * MiB, objectSize: 4 * KiB })
  await using many = await pool.openImage('many')
  const written: number[] = []
  for (let offset = 0; offset < 8 * MiB; offset += 12 * KiB) written.push(offset)
  await Promise.all(written.map(offset => many.write(offset, Buffer.alloc(4096, 1))))
  await many.flush()
  for (const wholeObject of [false, true]) {
    t.same(
      (await collect(many, { wholeObject })).map(({ offset }) => offset),
      written,
    )
  }
})

t.test('a difference that nobody wants any more is left', async t => {
  const [pool, image] = await disk(t)
  for await (const { offset } of image.diff({ wholeObject: true })) {
    t.equal(offset, 0)
    break
  }
  const controller = new AbortController()
  const extents = image.diff({ signal: controller.signal })
  t.ok((await extents.next()).value)
  controller.abort()
  t.equal((await extents.return()).done, true)

  // Without an object map, so that there is something to stop.
  await pool.createImage('plain', { size: 16 * MiB, objectSize: 4 * KiB, features: ['layering'] })
  await using plain = await pool.openImage('plain')
  const aborted = plain.diff({ signal: controller.signal })
  await t.rejects(aborted.next(), { name: 'AbortError', code: 'ABORT_ERR' })
  const later = new AbortController()
  const stopped = plain.diff({ signal: later.signal }).next()
  setImmediate(() => later.abort())
  await t.rejects(stopped, { name: 'AbortError' })
})

t.test('a difference since a snapshot that is made anew meanwhile is an error', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * MiB, objectSize: 4 * KiB, features: ['layering'] })
  await using image = await pool.openImage('disk')
  await image.createSnapshot('one')
  for (const offset of [0, 3 * MiB]) await image.write(offset, Buffer.alloc(1000, 1))
  await image.flush()
  const extents = image.diff({ from: 'one' })
  t.match(await extents.next(), { value: { offset: 0 } })
  await image.snapshot('one').remove()
  await image.createSnapshot('one')
  const rest = async () => {
    for await (const _ of extents);
  }
  await t.rejects(rest(), { name: 'SnapshotNotFoundError', resource: `${image.path}@one` })
})

t.test('a difference needs snapshots in their order', async t => {
  const [pool, image] = await disk(t)
  await using one = await pool.openImage('disk', { snapshot: 'one' })
  await fails(t, {
    'no such snapshot': [
      () => image.diff({ from: 'missing' }).next(),
      { name: 'SnapshotNotFoundError', code: 'ENOENT', syscall: 'rbd_snap_get_id', resource: `${image.path}@missing` },
    ],
    'a later one': [
      () => one.diff({ from: 'two' }).next(),
      { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_diff_iterate2' },
    ],
  })
})

t.test('a difference of an encrypted image is of what it has encrypted', async t => {
  const pool = await testPool(t)
  await pool.createImage('secret', { size: 64 * MiB })
  await using image = await pool.openImage('secret')
  await image.formatEncryption({ format: 'luks1', passphrase: 'open sesame' })
  const [start, end] = [20 * MiB, 20 * MiB + 5000]
  await image.write(start, Buffer.alloc(end - start, 1))
  await image.flush()
  for (const wholeObject of [false, true]) {
    const told = await collect(image, { wholeObject })
    t.equal(told.length, 1)
    for (const { offset, length } of told) t.ok(offset <= start && offset + length >= end, `${offset} ${length}`)
  }

  await t.test('and its used bytes are those of all of its objects', async t => {
    await image.write((await image.size()) - 4 * MiB, Buffer.alloc(4 * MiB, 1))
    const used = await image.usedBytes()
    await using plain = await pool.openImage('secret', { readOnly: true })
    t.equal(used, await plain.usedBytes())
    await image.disableFeatures(['fast-diff', 'object-map'])
    t.equal(await image.usedBytes(), used, 'without an object map, too')
  })
})
