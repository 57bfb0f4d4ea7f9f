/** Imports of files of this machine. */
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import { findCatalogImage, importCatalogImage, listCatalog } from '../../src/catalog.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { testFolder } from '../support/golden.js'
import { exported, sparseContent } from '../support/sparse.js'

/** A file of 33 MiB and a bit with data here and there, and mostly holes. */
async function rawFile(t: Test): Promise<{ path: string; content: Buffer }> {
  const content = sparseContent()
  const path = join(await testFolder(t), 'disk.raw')
  await writeFile(path, content)
  return { path, content }
}

/** The content of no file here. */
const zeroes = Buffer.alloc(10)
const hash = (algorithm: string, content: Buffer) => createHash(algorithm).update(content).digest('hex')

async function imageNames(pool: Pool): Promise<string[]> {
  return (await pool.listImages()).map(({ name }) => name)
}

t.test('an import', async t => {
  const pool = await testPool(t)
  const { path, content } = await rawFile(t)

  await t.test('makes an image of the file, with a protected snapshot', async t => {
    const progress: [number, number][] = []
    const onProgress = (done: number, total: number) => void progress.push([done, total])
    t.equal(await importCatalogImage(pool, 'golden', path, { onProgress }), true)
    t.ok((await exported(t, `${pool.path}/golden@base`)).equals(content), 'rbd export gives the file back')
    t.match(await rbdJson('snap', 'ls', `${pool.path}/golden`), [
      { name: 'base', protected: 'true', size: content.length },
    ])
    t.same(progress.at(-1), [content.length, content.length])
    t.same(await imageNames(pool), ['golden'])
  })

  await t.test('leaves out what the file has no data for', async t => {
    const [{ used_size: used }] = (await rbdJson('du', `${pool.path}/golden@base`)).images
    // Of the nine objects, those with data: 0 and 1 (it crosses), 2, 5, and the last.
    t.equal(used, 4 * 4 * MiB + MiB + 12345)
  })

  await t.test('notes what it was made of', async t => {
    const sha256 = hash('sha256', content)
    const image = await findCatalogImage(pool, 'golden')
    const record = { image: (await rbdJson('info', `${pool.path}/golden`)).id, source: path, format: 'raw', sha256 }
    t.match(image, { name: 'golden', pool: pool.path, sizeBytes: content.length, record })
    await pool.createImage('none of the catalog', { size: MiB })
    t.same(await listCatalog(pool), [image])
    await pool.removeImage('none of the catalog')
    // A clone has the metadata of its parent.
    await pool.cloneImage({ imageName: 'golden', name: 'base' }, 'clone')
    await run('rbd', 'snap', 'create', '--no-progress', `${pool.path}/clone@base`)
    t.strictSame(await findCatalogImage(pool, 'clone'), { name: 'clone', pool: pool.path, sizeBytes: content.length })
    await run('rbd', 'snap', 'purge', '--no-progress', `${pool.path}/clone`)
    await pool.removeImage('clone')
  })

  await t.test('does nothing when it is there', async t => {
    const before = await rbdJson('info', `${pool.path}/golden`)
    t.equal(await importCatalogImage(pool, 'golden', path), false)
    const known = { sha256: hash('sha256', content).toUpperCase() }
    t.equal(
      await importCatalogImage(pool, 'golden', '/no/such/file', known),
      false,
      'which the checksum alone can tell',
    )
    t.equal(await importCatalogImage(pool, 'golden', path, { sha512: hash('sha512', content) }), false)
    t.same(await rbdJson('info', `${pool.path}/golden`), before)
  })

  await t.test('takes only what has the checksum', async t => {
    const sha256 = hash('sha256', content)
    const sha512 = hash('sha512', content)
    const mismatch = { code: 'CHECKSUM_MISMATCH', message: new RegExp(`of .*disk.raw is ${sha256}, and not`) }
    await t.rejects(importCatalogImage(pool, 'summed', path, { sha256: sha256.replace(/^./, 'g') }), TypeError)
    await t.rejects(importCatalogImage(pool, 'summed', path, { sha512: sha256 }), TypeError)
    await t.rejects(importCatalogImage(pool, 'summed', path, { sha256: hash('sha256', zeroes) }), mismatch)
    await t.rejects(importCatalogImage(pool, 'summed', path, { sha512: hash('sha512', zeroes) }), {
      code: 'CHECKSUM_MISMATCH',
    })
    t.same(await imageNames(pool), ['golden'], 'nothing is left')
    t.equal(await importCatalogImage(pool, 'summed', path, { sha256, sha512 }), true)
    t.match(await findCatalogImage(pool, 'summed'), { record: { sha256, sha512 } })
    t.equal(await importCatalogImage(pool, 'summed', '/no/such/file', { sha512 }), false)
    await run('rbd', 'snap', 'unprotect', `${pool.path}/summed@base`)
    await run('rbd', 'snap', 'purge', '--no-progress', `${pool.path}/summed`)
    await pool.removeImage('summed')
  })

  await t.test('refuses a name that another image has, and leaves that alone', async t => {
    await run('rbd', 'create', `${pool.path}/theirs`, '--size', '8M')
    await t.rejects(importCatalogImage(pool, 'theirs', path), {
      code: 'IMAGE_EXISTS',
      message: /without a snapshot base/,
    })
    t.equal((await rbdJson('info', `${pool.path}/theirs`)).size, 8 * MiB)
    // Of the same size, so that its content alone tells.
    const other = join(await testFolder(t), 'other.raw')
    await writeFile(other, Buffer.alloc(content.length, 1))
    const exists = { code: 'IMAGE_EXISTS', message: /of a file whose sha256 is [0-9a-f]{64}$/ }
    await t.rejects(importCatalogImage(pool, 'golden', other), exists)
    await t.rejects(importCatalogImage(pool, 'golden', path, { sha256: hash('sha256', zeroes) }), exists)
    t.same(await imageNames(pool), ['golden', 'theirs'])
  })

  await t.test('leaves an image alone that takes the name meanwhile', async t => {
    const onProgress = (done: number) => {
      if (done === content.length) execFileSync('rbd', ['create', `${pool.path}/contested`, '--size', '8M'])
    }
    await t.rejects(importCatalogImage(pool, 'contested', path, { onProgress }), { code: 'IMAGE_EXISTS' })
    t.equal((await rbdJson('info', `${pool.path}/contested`)).size, 8 * MiB)
    t.same(await imageNames(pool), ['contested', 'golden', 'theirs'], 'and nothing is left of the import')
  })

  await t.test('leaves an image alone that was made by hand after an import had failed', async t => {
    const controller = new AbortController()
    const onProgress = () => controller.abort()
    const { signal } = controller
    await t.rejects(importCatalogImage(pool, 'by-hand', path, { signal, onProgress }), { name: 'AbortError' })
    await run('rbd', 'import', '--no-progress', path, `${pool.path}/by-hand`)
    const { id } = await rbdJson('info', `${pool.path}/by-hand`)
    await t.rejects(importCatalogImage(pool, 'by-hand', path), { code: 'IMAGE_EXISTS' })
    t.equal((await rbdJson('info', `${pool.path}/by-hand`)).id, id)
  })

  await t.test('refuses what is no image file', async t => {
    const folder = await testFolder(t)
    await mkdir(join(folder, 'folder'))
    await writeFile(join(folder, 'empty'), '')
    await t.rejects(importCatalogImage(pool, 'x', join(folder, 'folder')), /not empty/)
    await t.rejects(importCatalogImage(pool, 'x', join(folder, 'empty')), /not empty/)
    for (const [name, beginning, message] of [
      ['zipped', Buffer.from('1f8b0800', 'hex'), /a gzip file: unpack it first/],
      ['packed', Buffer.from('fd377a585a00', 'hex'), /an xz file/],
      ['other', Buffer.from('KDMV'), /in the format vmdk/],
      ['page', Buffer.from('<!DOCTYPE html>'), /a web page/],
    ] as const) {
      await writeFile(join(folder, name), Buffer.concat([beginning, Buffer.alloc(MiB)]))
      await t.rejects(importCatalogImage(pool, 'x', join(folder, name)), message)
    }
    await t.rejects(importCatalogImage(pool, 'x', join(folder, 'missing')), { code: 'ENOENT' })
    t.notOk((await pool.listImages()).some(({ name }) => name === 'x'))
  })
})

t.test('an import that is interrupted', async t => {
  const pool = await testPool(t)
  const { path, content } = await rawFile(t)
  const abortAfter = (bytes: number) => {
    const controller = new AbortController()
    const onProgress = (done: number) => {
      if (done >= bytes) controller.abort()
    }
    return { signal: controller.signal, onProgress }
  }

  for (const bytes of [1, 16 * MiB, content.length]) {
    await t.test(`after ${bytes} bytes leaves nothing, and the next one is whole`, async t => {
      const name = `cut-${bytes}`
      await t.rejects(importCatalogImage(pool, name, path, abortAfter(bytes)), { name: 'AbortError' })
      t.same(await imageNames(pool), [])
      t.equal(await importCatalogImage(pool, name, path), true)
      t.ok((await exported(t, `${pool.path}/${name}@base`)).equals(content))
      await run('rbd', 'snap', 'unprotect', `${pool.path}/${name}@base`)
      await run('rbd', 'snap', 'purge', '--no-progress', `${pool.path}/${name}`)
      await run('rbd', 'rm', '--no-progress', `${pool.path}/${name}`)
    })
  }

  await t.test('when all but its name was made is completed by the next one', async t => {
    await importCatalogImage(pool, 'whole', path)
    const left = `whole.import-${randomUUID()}`
    await pool.renameImage('whole', left)
    t.equal(await importCatalogImage(pool, 'whole', path), true)
    t.same(await imageNames(pool), ['whole'])
  })

  await t.test('leaves alone what only looks like something of its own', async t => {
    const others = ['disk.import-by-hand', `another-disk.import-${randomUUID()}`, 'disk.imported']
    for (const name of others) await pool.createImage(name, { size: MiB })
    await importCatalogImage(pool, 'disk', path)
    const names = await imageNames(pool)
    for (const name of others) t.ok(names.includes(name), name)
  })

  await t.test('by another that is at work keeps out of its way', async t => {
    const results = await Promise.allSettled([
      importCatalogImage(pool, 'twice', path),
      importCatalogImage(pool, 'twice', path),
    ])
    t.ok(results.some(({ status }) => status === 'fulfilled'))
    t.equal(await importCatalogImage(pool, 'twice', path), false)
    t.ok((await exported(t, `${pool.path}/twice@base`)).equals(content))
  })

  await t.test('by another that begins in the middle makes that one fail', async t => {
    let other: Promise<unknown> | undefined
    const onProgress = () => {
      other ??= t.rejects(importCatalogImage(pool, 'later', path), { code: 'IMAGE_BUSY', retryable: true })
    }
    const first = await importCatalogImage(pool, 'later', path, { onProgress })
    await other
    t.equal(first, true)
    t.ok((await exported(t, `${pool.path}/later@base`)).equals(content))
  })

  await t.test('by the file that becomes shorter fails', async t => {
    const shrinking = join(await testFolder(t), 'shrinking.raw')
    await writeFile(shrinking, content)
    const file = await open(shrinking, 'r+')
    const onProgress = () => void file.truncate(MiB)
    await t.rejects(importCatalogImage(pool, 'shrinking', shrinking, { onProgress }), /became shorter/)
    await file.close()
    t.notOk((await imageNames(pool)).includes('shrinking'))
  })
})
