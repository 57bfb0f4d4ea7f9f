import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { testFolder } from '../support/golden.js'
import { exported, imported, sparseContent } from '../support/sparse.js'

// Formatting an encryption is made to take its time.
t.setTimeout(300_000)

async function disk(t: Test): Promise<{ pool: Pool; image: Image; content: Buffer; folder: string }> {
  const pool = await testPool(t)
  const content = sparseContent()
  await imported(t, `${pool.path}/disk`, content)
  return { pool, image: await pool.openImage('disk'), content, folder: await testFolder(t) }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

t.test('an export', async t => {
  const { pool, image, content, folder } = await disk(t)

  await t.test('is what rbd export gives, and rbd import takes', async t => {
    const path = join(folder, 'raw')
    await image.exportTo(path)
    t.ok((await readFile(path)).equals(content))
    await run('rbd', 'import', '--no-progress', path, `${pool.path}/again`)
    t.ok((await exported(t, `${pool.path}/again`)).equals(content))
  })

  await t.test('has holes where the image has them, and where it has zeroes', async t => {
    await image.write(14 * MiB, Buffer.alloc(5 * MiB))
    const path = join(folder, 'sparse')
    await image.exportTo(path)
    t.ok((await readFile(path)).equals(content))
    const { blocks } = await stat(path)
    // 3 MiB, 64 KiB, and what is around a few bytes.
    t.ok(blocks * 512 <= 3 * MiB + 64 * KiB + 5 * 8 * KiB, `${blocks * 512} bytes are taken`)
  })

  await t.test('of a snapshot has what was then', async t => {
    await image.createSnapshot('then')
    await image.write(0, Buffer.alloc(5 * MiB, 'now'))
    await using then = await pool.openImage('disk', { snapshot: 'then' })
    await then.exportTo(join(folder, 'then'))
    t.ok((await readFile(join(folder, 'then'))).equals(content))
    await image.exportTo(join(folder, 'now'))
    t.ok((await readFile(join(folder, 'now'))).equals(await exported(t, image.path)))
  })

  await t.test('of a clone has what it shows of its parent', async t => {
    await pool.cloneImage({ imageName: 'disk', name: 'then' }, 'clone', { cloneFormat: 2 })
    await using clone = await pool.openImage('clone')
    await clone.resize(40 * MiB)
    await clone.write(10 * MiB, Buffer.alloc(MiB, 'own'))
    await clone.discard(20 * MiB, 4 * MiB)
    await clone.exportTo(join(folder, 'clone'))
    t.ok((await readFile(join(folder, 'clone'))).equals(await exported(t, clone.path)))
  })

  await t.test('of any layout, and of nothing', async t => {
    const layouts = {
      striped: { objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 4 },
      plain: { features: ['layering'] },
      small: { objectSize: 64 * KiB },
      large: { objectSize: 32 * MiB },
    } as const
    for (const [name, layout] of Object.entries(layouts)) {
      await pool.createImage(name, { size: content.length, ...layout })
      await using other = await pool.openImage(name)
      for (const offset of [0, 9 * MiB, 20 * MiB]) await other.write(offset, content.subarray(offset, offset + MiB))
      await other.exportTo(join(folder, name))
      t.ok((await readFile(join(folder, name))).equals(await exported(t, other.path)), name)
    }
    await pool.createImage('empty', { size: 0 })
    await using empty = await pool.openImage('empty')
    await empty.exportTo(join(folder, 'empty'))
    t.equal((await stat(join(folder, 'empty'))).size, 0)
  })

  await t.test('of an encrypted image has what it has encrypted', async t => {
    await pool.createImage('secret', { size: 40 * MiB })
    await using secret = await pool.openImage('secret')
    await secret.formatEncryption({ format: 'luks1', passphrase: 'open sesame' })
    const size = await secret.size()
    const data = Buffer.alloc(3000, 'data')
    for (const offset of [5 * MiB + 1000, size - 3000]) await secret.write(offset, data)
    await secret.exportTo(join(folder, 'secret'))
    const file = await readFile(join(folder, 'secret'))
    // Around what was written, memstore tells zeroes for data, which makes something else of them.
    t.ok(file.equals(await secret.read(0, size)))
    for (const offset of [5 * MiB + 1000, size - 3000]) t.ok(file.subarray(offset, offset + 3000).equals(data))
  })
})

t.test('an export tells how far it is, in bytes', async t => {
  const { image, content, folder } = await disk(t)
  const reports: [number, number][] = []
  await image.exportTo(join(folder, 'raw'), { onProgress: (...report) => reports.push(report) })
  t.same(reports.at(-1), [content.length, content.length])
  t.ok(reports.every(([done, total], i) => total === content.length && done >= (reports[i - 1]?.[0] ?? 0)))
})

t.test('an export that fails leaves no file', async t => {
  const { pool, image, folder } = await disk(t)
  const path = join(folder, 'raw')
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const aborted = image.exportTo(path, { signal: controller.signal, onProgress: () => controller.abort(reason) })
  await t.rejects(aborted, { name: 'AbortError', code: 'ABORT_ERR', cause: reason })
  t.notOk(await exists(path), 'aborted')

  const failure = new RangeError('cannot count so far')
  const failing = image.exportTo(path, {
    onProgress() {
      throw failure
    },
  })
  t.equal(await failing.catch(error => error), failure)
  t.notOk(await exists(path), 'its onProgress threw')

  const closed = await pool.openImage('disk', { readOnly: true })
  const closing = closed.exportTo(path, { onProgress: () => void closed.close() })
  await t.rejects(closing, { name: 'ClosedError' })
  t.notOk(await exists(path), 'the image was closed')
  t.ok(await exists(folder))
})

t.test('an export makes a new file, and never writes to one', async t => {
  const { image, folder } = await disk(t)
  const path = join(folder, 'there')
  await writeFile(path, 'precious')
  await fails(t, {
    'the file is there': [() => image.exportTo(path), { name: 'Error', code: 'EEXIST' }],
    'its folder is not': [() => image.exportTo(join(folder, 'no', 'raw')), { name: 'Error', code: 'ENOENT' }],
  })
  t.equal(await readFile(path, 'utf8'), 'precious')
})
