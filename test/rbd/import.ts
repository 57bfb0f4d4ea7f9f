import { createReadStream, truncateSync } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { createGunzip, createGzip } from 'node:zlib'
import t, { type Test } from 'tap'
import { KiB, MiB, type Pool, TiB } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { testFolder } from '../support/golden.js'
import { exported, sparseContent } from '../support/sparse.js'

// One of them is longer than a GiB.
t.setTimeout(300_000)

async function rawFile(t: Test, content = sparseContent()) {
  const folder = await testFolder(t)
  const path = join(folder, 'disk.raw')
  await writeFile(path, content)
  return { pool: await testPool(t), content, path, folder }
}

/** A file with nothing but holes around the stretches. */
async function fileWithHoles(path: string, size: number, stretches: [offset: number, data: Buffer][]): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(size)
  for (const [offset, data] of stretches) await file.write(data, 0, data.length, offset)
  await file.close()
}

const names = async (pool: Pool) => (await pool.listImages()).map(({ name }) => name)
const usedBytes = async (path: string) => (await rbdJson('du', path)).images[0].used_size as number

t.test('an import', async t => {
  const { pool, content, path, folder } = await rawFile(t)

  await t.test('makes an image that rbd export gives back', async t => {
    await pool.importImage('disk', path)
    t.ok((await exported(t, `${pool.path}/disk`)).equals(content))
  })

  await t.test('leaves out zeroes, though the file has them', async t => {
    // Objects 0 and 1 (what crosses), 2, 5, and the last.
    t.equal(await usedBytes(`${pool.path}/disk`), 4 * 4 * MiB + MiB + 12_345)
    await pool.importImage('fine', path, { objectSize: 4 * KiB })
    await using fine = await pool.openImage('fine')
    // To 4 KiB: 1, 2 for what crosses, 3 MiB, 64 KiB, and one or two at the end.
    t.ok((await fine.usedBytes()) <= 3 * MiB + 64 * KiB + 5 * 4 * KiB)
    t.ok((await exported(t, fine.path)).equals(content))
  })

  await t.test('does not even read the holes of the file', async t => {
    const huge = join(folder, 'huge')
    const data = Buffer.alloc(10_000, 'data')
    await fileWithHoles(huge, TiB, [
      [5000, data],
      [TiB / 2, data],
      [TiB - 10_000, data],
    ])
    await pool.importImage('huge', huge)
    await using image = await pool.openImage('huge')
    t.equal(await image.size(), TiB)
    for (const offset of [5000, TiB / 2, TiB - 10_000]) t.ok((await image.read(offset, 10_000)).equals(data))
    t.equal(await image.usedBytes(), 3 * 4 * MiB)
    const back = join(folder, 'back')
    await image.exportTo(back)
    await pool.importImage('again', back)
    t.equal(await usedBytes(`${pool.path}/again`), 3 * 4 * MiB, 'nor does an export read those of the image')
  })

  await t.test('goes into any layout', async t => {
    await pool.importImage('striped', path, { objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 4 })
    t.match(await rbdJson('info', `${pool.path}/striped`), { object_size: MiB, stripe_count: 4 })
    t.ok((await exported(t, `${pool.path}/striped`)).equals(content))
  })

  await t.test('of an empty file makes an empty image', async t => {
    await writeFile(join(folder, 'empty'), '')
    await pool.importImage('empty', join(folder, 'empty'))
    t.equal((await rbdJson('info', `${pool.path}/empty`)).size, 0)
  })

  await t.test('tells how far it is, in bytes', async t => {
    const reports: [number, number][] = []
    await pool.importImage('told', path, { onProgress: (...report) => reports.push(report) })
    t.same(reports.at(-1), [content.length, content.length])
    t.ok(reports.every(([done, total], i) => total === content.length && done >= (reports[i - 1]?.[0] ?? 0)))
  })

  await t.test('fills an image that is open and empty', async t => {
    await pool.createImage('open', { size: 40 * MiB })
    await using image = await pool.openImage('open')
    await image.importFrom(path)
    t.ok((await image.read(0, content.length)).equals(content))
    t.ok((await image.read(content.length, 40 * MiB)).equals(Buffer.alloc(40 * MiB - content.length)))
    await pool.createImage('small', { size: MiB })
    await using small = await pool.openImage('small')
    await image.createSnapshot('base')
    await pool.cloneImage({ imageName: 'open', name: 'base' }, 'clone', { cloneFormat: 2 })
    await using clone = await pool.openImage('clone')
    const notEmpty = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /empty/ }
    await fails(t, {
      'one that is not': [() => image.importFrom(path), notEmpty],
      'one that shows its parent': [() => clone.importFrom(path), notEmpty],
      'one that is smaller': [() => small.importFrom(path), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }],
    })
  })
})

t.test('an import that fails leaves no image', async t => {
  const { pool, content, path, folder } = await rawFile(t)
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const { signal } = controller
  const aborted = pool.importImage('disk', path, { signal, onProgress: () => controller.abort(reason) })
  await t.rejects(aborted, { name: 'AbortError', code: 'ABORT_ERR', cause: reason })
  t.same(await names(pool), [], 'aborted')

  const shrinking = join(folder, 'shrinking')
  for (const dense of [true, false]) {
    // With holes, there is nothing to be read where the end was.
    await fileWithHoles(shrinking, 64 * MiB, [[0, Buffer.alloc(dense ? 64 * MiB : 4 * MiB, 1)]])
    const onProgress = () => truncateSync(shrinking, 2 * MiB)
    await t.rejects(pool.importImage('disk', shrinking, { onProgress }), { message: /became shorter/ })
    t.same(await names(pool), [], 'the file became shorter')
  }

  await pool.importImage('disk', path)
  const nowhere = await pool.cluster.openPool('rbd', { namespace: 'no-such-namespace' })
  await fails(t, {
    'the image is there': [() => pool.importImage('disk', path), { name: 'ImageExistsError', code: 'EEXIST' }],
    'the file is not': [() => pool.importImage('new', join(folder, 'no')), { name: 'Error', code: 'ENOENT' }],
    'it is a folder': [() => pool.importImage('new', folder), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }],
    'no such namespace': [() => nowhere.importImage('new', path), { name: 'PoolNotFoundError' }],
  })
  t.same(await names(pool), ['disk'])
  t.ok((await exported(t, `${pool.path}/disk`)).equals(content), 'and leaves alone what was there')
})

t.test('an import that fails removes its own image, whatever that is called by then', async t => {
  const pool = await testPool(t)
  const source = new PassThrough()
  let begun = (): void => {}
  const beginning = new Promise<void>(resolve => {
    begun = resolve
  })
  const importing = pool.importImage('disk', source, { onProgress: begun })
  source.write(Buffer.alloc(5 * MiB, 'data'))
  await beginning
  await pool.renameImage('disk', 'renamed')
  await pool.createImage('disk', { size: MiB })
  source.destroy(new Error('no more'))
  await t.rejects(importing, { message: 'no more' })
  t.same(await names(pool), ['disk'])
  t.equal((await rbdJson('info', `${pool.path}/disk`)).size, MiB, 'and leaves alone what was made in its place')
})

/** The content in parts of the size. */
function* parts(content: Buffer, size: number): Generator<Buffer, void, undefined> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size)
}

t.test('an import of a stream', async t => {
  const { pool, content, path } = await rawFile(t)

  await t.test('makes an image as long as it, and leaves out zeroes', async t => {
    await pool.importImage('disk', createReadStream(path), { objectSize: MiB })
    t.ok((await exported(t, `${pool.path}/disk`)).equals(content))
    t.match(await rbdJson('info', `${pool.path}/disk`), { size: content.length, object_size: MiB })
    // 1, 2 for what crosses, 3, 1, and the last.
    t.equal(await usedBytes(`${pool.path}/disk`), 7 * MiB + 12_345)
  })

  await t.test('of parts of any size, and of what another stream makes of them', async t => {
    const sources = {
      small: Readable.from(parts(content, 50_001)),
      large: Readable.from(parts(content, 30 * MiB)),
      unzipped: createReadStream(path)
        .pipe(createGzip({ level: 1 }))
        .pipe(createGunzip()),
      arrays: Readable.from(parts(content, MiB)).map(part => new Uint8Array(part)),
    }
    for (const [name, source] of Object.entries(sources)) {
      await pool.importImage(name, source, { features: ['layering'] })
      t.ok((await exported(t, `${pool.path}/${name}`)).equals(content), name)
    }
    await pool.importImage('nothing', Readable.from([]))
    t.equal((await rbdJson('info', `${pool.path}/nothing`)).size, 0)
  })

  await t.test('that is longer than the image was made at first', async t => {
    const data = Buffer.alloc(MiB)
    data.write('data', MiB - 4)
    const long = Readable.from(
      (function* () {
        for (let i = 0; i < 1100; i++) yield data
      })(),
    )
    const reports: [number, number][] = []
    await pool.importImage('long', long, { onProgress: (...report) => reports.push(report) })
    await using image = await pool.openImage('long')
    t.equal(await image.size(), 1100 * MiB)
    for (const at of [1, 1024, 1025, 1100]) t.equal((await image.read(at * MiB - 4, 4)).toString(), 'data')
    t.same(reports.at(-1), [1100 * MiB, 1100 * MiB], 'progress is in bytes')
  })

  await t.test('fills an image that is open and empty', async t => {
    await pool.createImage('open', { size: 40 * MiB })
    await using image = await pool.openImage('open')
    await image.importFrom(createReadStream(path))
    t.ok((await image.read(0, content.length)).equals(content))
    t.equal(await image.size(), 40 * MiB)
    await pool.createImage('short', { size: MiB })
    await using small = await pool.openImage('short')
    const source = createReadStream(path)
    await fails(t, {
      'one that is not': [
        () => image.importFrom(source),
        { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /empty/ },
      ],
      'one that is smaller': [
        () => small.importFrom(createReadStream(path)),
        { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /^source must be at most 1048576 bytes long/ },
      ],
      'in another format': [
        () => small.importFrom(createReadStream(path), { format: 'qcow2' }),
        { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /raw/ },
      ],
    })
    t.ok(source.destroyed)
  })

  await t.test('leaves no image when it fails', async t => {
    const before = await names(pool)
    const failure = new Error('no more of this')
    const reason = new Error('changed my mind')
    const controller = new AbortController()
    /** Has something to say, and then no more, until it comes to its end. */
    const halting = (end: (stream: PassThrough) => void) => {
      const stream = new PassThrough()
      stream.write(content.subarray(0, 10 * MiB))
      setTimeout(end, 200, stream)
      return stream
    }
    let silent: PassThrough | undefined
    const unread = createReadStream(path)
    await fails(t, {
      'its source says nothing, and it is aborted': [
        () => {
          silent = halting(() => controller.abort(reason))
          return pool.importImage('new', silent, { signal: controller.signal })
        },
        { name: 'AbortError', code: 'ABORT_ERR' },
      ],
      'its source fails': [
        () =>
          pool.importImage(
            'new',
            halting(stream => stream.destroy(failure)),
          ),
        { name: 'Error', message: /no more of this/ },
      ],
      'its source is not there': [
        () => pool.importImage('new', createReadStream(`${path}-missing`)),
        { name: 'Error', code: 'ENOENT' },
      ],
      'the image is there': [() => pool.importImage('disk', unread), { name: 'ImageExistsError' }],
      'it was aborted before': [
        () => pool.importImage('new', createReadStream(path), { signal: AbortSignal.abort(reason) }),
        { name: 'AbortError' },
      ],
    })
    for (const source of [silent, unread]) t.ok(source?.destroyed)
    t.same(await names(pool), before)
  })
})
