/** Imports of what is behind a URL. */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import { findCatalogImage, importCatalogImage } from '../../src/catalog.js'
import { run, testPool } from '../support/cluster.js'
import { FileServer, type FileServerOptions } from '../support/file-server.js'
import { testFolder } from '../support/golden.js'
import { exported, sparseContent } from '../support/sparse.js'

const content = sparseContent(512)
const sha256 = createHash('sha256').update(content).digest('hex')

const names = async (pool: Pool) => (await pool.listImages()).map(({ name }) => name)
const serve = (t: Test, options: Partial<FileServerOptions> = {}) => FileServer.start(t, { content, ...options })

/** A folder for temporary files that is the test's own. */
async function temporaryFolder(t: Test): Promise<string> {
  const folder = join(await testFolder(t), 'temporary')
  await mkdir(folder)
  const before = process.env.TMPDIR
  process.env.TMPDIR = folder
  t.teardown(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  })
  return folder
}

/** Makes a qcow2 file; answers what is in it. */
async function qcow2(t: Test, data: Buffer, ...options: string[]): Promise<Buffer> {
  const folder = await testFolder(t)
  await writeFile(join(folder, 'raw'), data)
  await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', ...options, join(folder, 'raw'), join(folder, 'qcow2'))
  return readFile(join(folder, 'qcow2'))
}

t.test('a download', async t => {
  const pool = await testPool(t)

  await t.test('becomes an image, whether its size is told or not', async t => {
    for (const sized of [true, false]) {
      const server = await serve(t, { sized })
      const name = `sized-${sized}`
      const progress: [number, number][] = []
      const onProgress = (done: number, total: number) => void progress.push([done, total])
      t.equal(await importCatalogImage(pool, name, server.url(), { sha256, onProgress }), true)
      t.ok((await exported(t, `${pool.path}/${name}@base`)).equals(content))
      t.equal(progress[0]?.[1] === content.length, sized, 'the total is known from the beginning, or never')
      t.same(progress.at(-1), [content.length, content.length])
      t.match(await findCatalogImage(pool, name), { record: { source: server.url(), sha256 } })
    }
  })

  await t.test('is not made again when the same is there, and refused when it is another', async t => {
    const server = await serve(t)
    t.equal(await importCatalogImage(pool, 'sized-true', server.url(), { sha256 }), false)
    t.equal(server.requests.length, 0, 'the checksum was enough')
    t.equal(await importCatalogImage(pool, 'sized-true', server.url()), false)
    const other = await serve(t, { content: Buffer.alloc(content.length) })
    await t.rejects(importCatalogImage(pool, 'sized-true', other.url()), { code: 'IMAGE_EXISTS' })
  })

  await t.test('that breaks off goes on where it was', async t => {
    const server = await serve(t, { breaks: [5 * MiB, 0, 10 * MiB] })
    t.equal(await importCatalogImage(pool, 'resumed', server.url(), { sha256 }), true)
    t.ok((await exported(t, `${pool.path}/resumed@base`)).equals(content))
    t.equal(server.requests.length, 4)
    t.notOk(server.requests[0]?.headers.range)
    t.match(server.requests[3]?.headers, { range: /^bytes=\d+-$/, 'if-range': '"one"' })
  })

  await t.test('that breaks off and cannot go on leaves nothing', async t => {
    const before = await names(pool)
    const cases: Record<string, [Partial<FileServerOptions>, RegExp]> = {
      'no way to tell whether it is the same': [{ etag: undefined, breaks: [MiB] }, /, after \d+ of \d+ bytes$/],
      'only a weak one': [{ etag: 'W/"one"', breaks: [MiB] }, /, after \d+ of \d+ bytes$/],
      'another file by now': [
        {
          breaks: [MiB],
          instead: ({ headers }, response) => {
            if (headers.range !== undefined) response.end(content)
            return headers.range !== undefined
          },
        },
        /200 instead of the bytes from \d+ on$/,
      ],
      'no file any more': [
        {
          breaks: [MiB],
          instead: ({ headers }, response) => {
            if (headers.range !== undefined) response.writeHead(404).end()
            return headers.range !== undefined
          },
        },
        /404 instead of the bytes from \d+ on$/,
      ],
    }
    for (const [what, [options, message]] of Object.entries(cases)) {
      const server = await serve(t, options)
      await t.rejects(importCatalogImage(pool, 'broken', server.url()), { message }, what)
      t.same(await names(pool), before, what)
    }
  })

  await t.test('with another checksum leaves nothing', async t => {
    const before = await names(pool)
    const server = await serve(t, { content: Buffer.concat([content, Buffer.alloc(1)]) })
    await t.rejects(importCatalogImage(pool, 'other', server.url(), { sha256 }), { code: 'CHECKSUM_MISMATCH' })
    t.same(await names(pool), before)
  })

  await t.test('that is stopped leaves nothing, and asks for no more', async t => {
    const before = await names(pool)
    const server = await serve(t, { rate: MiB })
    const controller = new AbortController()
    const onProgress = () => controller.abort(new Error('enough'))
    const stopped = importCatalogImage(pool, 'stopped', server.url(), { signal: controller.signal, onProgress })
    await t.rejects(stopped, { name: 'AbortError', cause: { message: 'enough' } })
    t.same(await names(pool), before)
    t.equal(server.requests.length, 1)
  })

  await t.test('follows a redirection', async t => {
    const server = await serve(t)
    const first = await serve(t, {
      instead: (_, response) => {
        response.writeHead(302, { location: server.url() }).end()
        return true
      },
    })
    const source = first.url('/latest.img')
    t.equal(await importCatalogImage(pool, 'redirected', source), true)
    t.match(await findCatalogImage(pool, 'redirected'), { record: { source, sha256 } })
  })

  await t.test('shows nothing secret of its URL', async t => {
    const login = 'some body:pa/ss'
    const server = await serve(t, { login })
    const secret = '/golden.img?token=geheim'
    const url = server.url(secret, 'some%20body:pa%2Fss')
    t.equal(await importCatalogImage(pool, 'secret', url), true)
    t.equal((await findCatalogImage(pool, 'secret'))?.record?.source, server.url())
    t.equal(server.requests[0]?.url, secret, 'the server has got it')

    const hides = (error: unknown) => {
      const shown = `${(error as Error).stack} ${JSON.stringify(error)} ${String((error as Error).cause)}`
      t.notMatch(shown, /geheim|pa%2Fss|pa\/ss|wrong/)
      return true
    }
    const refusing = await serve(t, {
      instead: (_, response) => {
        response.writeHead(302, { location: 'http://a:wrong@[geheim' }).end()
        return true
      },
    })
    const packed = await serve(t, {
      instead: (_, response) => {
        response.writeHead(200, { 'content-encoding': 'gzip' }).end()
        return true
      },
    })
    const cases: Record<string, [url: string, message: RegExp]> = {
      'a wrong password': [server.url(secret, 'some%20body:wrong'), /^http:\/\/127.0.0.1:\d+\/golden.img: 401/],
      'nobody there': ['http://me:geheim@127.0.0.1:2/golden.img?wrong', /ECONNREFUSED/],
      'a malformed one': ['http://me:geheim@:/?wrong', /malformed/],
      'a redirection to nowhere': [refusing.url(secret, 'me:wrong'), /^http:\/\/127.0.0.1:\d+\/golden.img: /],
      'not of the web': ['ftp://me:geheim@127.0.0.1/golden.img', /only http and https URLs, and not ftp/],
      'packed on the way': [packed.url(secret, 'me:wrong'), /sent in the encoding gzip/],
    }
    for (const [what, [address, message]] of Object.entries(cases)) {
      const error = await importCatalogImage(pool, 'none', address).then(
        () => undefined,
        error => error,
      )
      t.match(error, { message }, what)
      hides(error)
    }
    t.notOk((await names(pool)).includes('none'))
  })
})

t.test('a qcow2 file', async t => {
  const pool = await testPool(t)
  const packed = await qcow2(t, content, '-c')

  await t.test('is converted, by way of a file that nobody sees', async t => {
    const folder = await temporaryFolder(t)
    const server = await serve(t, { content: packed, breaks: [packed.length / 2] })
    const seen = new Set<string>()
    const progress: [number, number][] = []
    const onProgress = async (...report: [number, number]) => {
      progress.push(report)
      for (const name of await readdir(folder)) seen.add(name)
    }
    t.equal(await importCatalogImage(pool, 'download', server.url('/golden.qcow2'), { onProgress }), true)
    t.same(await readdir(folder), [])
    t.ok((await exported(t, `${pool.path}/download@base`)).equals(content))
    t.match(await findCatalogImage(pool, 'download'), { sizeBytes: content.length, record: { format: 'qcow2' } })
    t.ok(progress.some(([done, total]) => done === packed.length && total === packed.length))
    t.same(progress.at(-1), [content.length, content.length])
    t.same(
      [...seen].filter(name => !/^cephkit-\w{6}$/.test(name)),
      [],
      "only the library's own folder with its settings for qemu-img",
    )
  })

  await t.test('of this machine is read where it is', async t => {
    const path = join(await testFolder(t), 'golden.img')
    await writeFile(path, packed)
    const sum = createHash('sha256').update(packed).digest('hex')
    t.equal(await importCatalogImage(pool, 'local', path, { sha256: sum }), true)
    t.ok((await exported(t, `${pool.path}/local@base`)).equals(content))
    t.equal(await importCatalogImage(pool, 'local', path), false)
  })

  await t.test('that is too large for the folder of temporary files is not even fetched', async t => {
    const folder = await temporaryFolder(t)
    const server = await serve(t, {
      instead: (_, response) => {
        response.writeHead(200, { 'content-length': 2 ** 50 }).write(packed.subarray(0, 1000))
        return true
      },
    })
    await t.rejects(importCatalogImage(pool, 'large', server.url()), {
      message: new RegExp(`^${folder} \\(TMPDIR\\) has \\d+ bytes of space, and the download needs ${2 ** 50}$`),
    })
    t.notOk((await names(pool)).includes('large'))
  })

  await t.test('that names files of this machine is refused', async t => {
    const folder = await testFolder(t)
    const make = async (name: string, ...options: string[]) => {
      await run('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, join(folder, name), '1M')
      return join(folder, name)
    }
    const backed = await make('backed', '-u', '-b', '/etc/passwd', '-F', 'raw')
    const json = await make('json', '-u', '-b', 'json:{"driver":"raw","file.filename":"/etc/passwd"}', '-F', 'raw')
    const split = await make('split', '-o', `data_file=${join(folder, 'data')},data_file_raw=on`)
    // As whoever sends such a file would: the name of the file for the data stands in the header.
    const hostile = await readFile(split)
    const name = Buffer.from(join(folder, 'data'))
    const at = hostile.indexOf(name)
    hostile.fill(`${'/'.repeat(name.length - '/etc/passwd'.length)}/etc/passwd`, at, at + name.length)
    await writeFile(split, hostile)
    t.match(JSON.parse(await run('qemu-img', 'info', '-U', '--output=json', split)), {
      'format-specific': { data: { 'data-file': /\/etc\/passwd$/ } },
    })
    for (const [file, message] of [
      [backed, /backing file/],
      [json, /backing file/],
      [split, /data in itself/],
    ] as const) {
      const server = await serve(t, { content: await readFile(file) })
      for (const source of [file, server.url()]) {
        const refused = { name: 'TypeError', message: new RegExp(`${message.source}.*'${source}'`) }
        await t.rejects(importCatalogImage(pool, 'hostile', source), refused)
      }
    }
    t.notOk((await names(pool)).some(image => image.startsWith('hostile')))
  })
})
