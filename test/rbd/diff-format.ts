import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import t, { type Test } from 'tap'
import { type CreateImageOptions, DiffFormatError, type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { testFolder } from '../support/golden.js'
import { exported } from '../support/sparse.js'

// Every step is a process of rbd's.
t.setTimeout(300_000)

/** An image that grows and shrinks from snapshot to snapshot, with data that comes and goes. */
async function disk(t: Test, layout: Omit<CreateImageOptions, 'size'> = {}): Promise<{ pool: Pool; image: Image }> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 30 * MiB + 1000, ...layout })
  const image = await pool.openImage('disk')
  for (const offset of [0, 5 * MiB, 9 * MiB + 7, 30 * MiB]) {
    await image.write(offset, randomFillSync(Buffer.alloc(1000)))
  }
  await image.write(16 * MiB, Buffer.alloc(4 * MiB))
  await image.createSnapshot('one')
  await image.resize(40 * MiB + 77)
  await image.write(5 * MiB + 500, randomFillSync(Buffer.alloc(100_000)))
  await image.writeZeroes(8 * MiB, 4 * MiB)
  await image.write(38 * MiB, randomFillSync(Buffer.alloc(2 * MiB + 77)))
  await image.createSnapshot('two')
  await image.resize(20 * MiB + 5, { allowShrink: true })
  await image.write(MiB, randomFillSync(Buffer.alloc(10)))
  return { pool, image }
}

async function rbd(stdin: Readable | null, ...args: string[]): Promise<void> {
  const child = spawn('rbd', [...args, '--no-progress'], { stdio: ['pipe', 'ignore', 'inherit'] })
  const piped = stdin ? pipeline(stdin, child.stdin) : child.stdin.end()
  const [[status]] = await Promise.all([once(child, 'close'), piped])
  if (status !== 0) throw new Error(`rbd ${args.join(' ')}: ${status}`)
}

const steps = [
  ['', 'one'],
  ['one', 'two'],
  ['two', ''],
] as const

const snapshots = async (path: string) => (await rbdJson('snap', 'ls', path)).map(({ name }: { name: string }) => name)

const moments = ['@one', '@two', '']

/** What an image shows at each moment. */
const contents = (t: Test, path: string) => Promise.all(moments.map(moment => exported(t, path + moment)))

async function same(t: Test, copy: string, original: readonly Buffer[]): Promise<void> {
  for (const [i, content] of (await contents(t, copy)).entries())
    t.ok(original[i]?.equals(content), `${copy}${moments[i]}`)
  t.same(await snapshots(copy), ['one', 'two'])
}

const layouts: Record<string, Omit<CreateImageOptions, 'size'>> = {
  'of the usual layout': {},
  'with stripes': { objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 4 },
  'without an object map': { features: ['layering'] },
}

for (const [name, layout] of Object.entries(layouts)) {
  t.test(`diffs of an image ${name}`, async t => {
    const { pool, image } = await disk(t, layout)
    const original = await contents(t, image.path)

    for (const wholeObject of [false, true]) {
      await t.test(`are taken by rbd import-diff, ${wholeObject ? 'by' : 'not by'} whole objects`, async t => {
        const copy = `${pool.path}/to-rbd-${wholeObject}`
        await run('rbd', 'create', '--size', '1M', copy)
        for (const [from, to] of steps) {
          await using source = await pool.openImage('disk', { ...(to && { snapshot: to }), readOnly: true })
          await rbd(source.exportDiff({ wholeObject, ...(from && { from }) }), 'import-diff', '-', copy)
        }
        await same(t, copy, original)
      })
    }

    await t.test('are taken from rbd export-diff', async t => {
      const folder = await testFolder(t)
      await pool.createImage('from-rbd', { size: 0 })
      await using copy = await pool.openImage('from-rbd')
      for (const [from, to] of steps) {
        const path = join(folder, `${from}-${to}`)
        const options = from ? ['--from-snap', from] : []
        await run('rbd', 'export-diff', '--no-progress', ...options, to ? `${image.path}@${to}` : image.path, path)
        await copy.importDiff(createReadStream(path))
      }
      await same(t, copy.path, original)
    })

    await t.test('are taken from each other, without a file between', async t => {
      await pool.createImage('from-ours', { size: 0 })
      await using copy = await pool.openImage('from-ours')
      for (const [from, to] of steps) {
        await using source = await pool.openImage('disk', { ...(to && { snapshot: to }), readOnly: true })
        await copy.importDiff(source.exportDiff(from ? { from } : {}))
      }
      await same(t, copy.path, original)
    })
  })
}

t.test('a diff of an image of the usual layout is what rbd export-diff writes, to the byte', async t => {
  const { pool, image } = await disk(t)
  const path = join(await testFolder(t), 'diff')
  for (const [from, to] of steps) {
    await using source = await pool.openImage('disk', { ...(to && { snapshot: to }), readOnly: true })
    const byRbd = spawn(
      'rbd',
      ['export-diff', '--no-progress', ...(from ? ['--from-snap', from] : []), source.path, '-'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    await pipeline(source.exportDiff(from ? { from } : {}), createWriteStream(path))
    t.ok((await buffer(byRbd.stdout)).equals(await readFile(path)), `from ${from} to ${to}`)
  }
  await pool.cloneImage({ imageName: 'disk', name: 'two' }, 'clone', { cloneFormat: 2 })
  await using clone = await pool.openImage('clone')
  await clone.write(35 * MiB, Buffer.alloc(1000, 1))
  await clone.flush()
  await pool.createImage('flat', { size: 0 })
  await using flat = await pool.openImage('flat')
  await flat.importDiff(clone.exportDiff())
  t.ok((await exported(t, flat.path)).equals(await exported(t, clone.path)), 'that of a clone has what it shows')
  t.equal(image.closed, false)
})

const header = 'rbd diff v1\n'
const le64 = (...numbers: number[]) => {
  const bytes = Buffer.alloc(8 * numbers.length)
  for (const [i, number] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(number), 8 * i)
  return bytes
}
const named = (tag: string, name: string) => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(name.length)
  return Buffer.concat([Buffer.from(tag), length, Buffer.from(name)])
}
const diff = (...parts: (string | Buffer)[]) => Buffer.concat([header, ...parts].map(part => Buffer.from(part)))

t.test('a diff may come in parts of any size', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const whole = diff(named('t', 'Å'.normalize()), 's', le64(20), 'w', le64(3, 5), 'hello', 'z', le64(4, 1), 'e')
  whole.writeUInt32LE(2, header.length + 1) // 'Å' is two bytes
  const withName = Buffer.concat([
    whole.subarray(0, header.length + 5),
    Buffer.from('Å'),
    whole.subarray(header.length + 7),
  ])
  await image.importDiff(Readable.from([...withName].map(byte => Buffer.of(byte))))
  t.equal((await image.read(0, 100)).toString(), `\0\0\0h\0llo${'\0'.repeat(12)}`)
  t.same(await snapshots(image.path), ['Å'])
})

t.test('what is no diff, or not a whole one, is refused', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  await image.createSnapshot('there')
  const take = (content: Buffer) => () => image.importDiff(Readable.from([content]))
  const wrong = { name: 'DiffFormatError', code: 'ERR_DIFF_FORMAT' }
  const most = Number.MAX_SAFE_INTEGER
  await fails(t, {
    'another file': [take(Buffer.from('rbd diff v2\ne')), { ...wrong, message: /begins with "rbd diff v1\\n"/ }],
    nothing: [take(Buffer.alloc(0)), { ...wrong, message: /ends in the middle/ }],
    'no end': [take(diff('s', le64(MiB))), { ...wrong, message: /ends in the middle/ }],
    'an end in the data': [take(diff('w', le64(0, 100), 'data')), { ...wrong, message: /ends in the middle/ }],
    'data behind the end': [take(diff('e', 'e')), { ...wrong, message: /behind its end/ }],
    'another record': [take(diff('x')), { ...wrong, message: /type "x"/ }],
    'a number that is too large': [take(diff('s', Buffer.alloc(8, 0xff))), { ...wrong, message: /too large/ }],
    'data at no possible place': [take(diff('w', le64(most, most), 'x')), { ...wrong, message: /too large/ }],
    'zeroes at no possible place': [take(diff('z', le64(most, most), 'e')), { ...wrong, message: /too large/ }],
    'a name that is too long': [take(diff('f', Buffer.alloc(4, 0xff))), { ...wrong, message: /4294967295 bytes/ }],
    'a name that cannot be one': [take(diff(named('t', 'a/b'), 'e')), { ...wrong, message: /a name without \/ and @/ }],
    'no name': [take(diff(named('f', ''), 'e')), { ...wrong, message: /not empty/ }],
    'no snapshot to begin at': [
      take(diff(named('f', 'missing'), 'e')),
      { name: 'SnapshotNotFoundError', code: 'ENOENT', resource: `${image.path}@missing` },
    ],
    'its snapshot is there': [
      take(diff(named('t', 'there'), 'e')),
      { name: 'SnapshotExistsError', code: 'EEXIST', resource: `${image.path}@there` },
    ],
    'data beyond the end': [take(diff('w', le64(MiB, 1), 'x', 'e')), { name: 'InvalidArgumentError' }],
    'zeroes beyond the end': [take(diff('z', le64(MiB, 2 ** 40), 'e')), { name: 'InvalidArgumentError' }],
  })
  t.ok(new DiffFormatError('') instanceof Error)
  await image.importDiff(Readable.from([diff('e'), Buffer.alloc(0)]))
  const source = Readable.from([diff('x', Buffer.alloc(1000))])
  await t.rejects(image.importDiff(source), wrong)
  t.ok(source.destroyed, 'and its source is destroyed')
  t.same(await snapshots(image.path), ['there'])
})

t.test('a diff that stops', async t => {
  const { pool, image } = await disk(t)
  await pool.createImage('copy', { size: 0 })
  await using copy = await pool.openImage('copy')
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const { signal } = controller

  await t.test('because nothing comes is aborted', async t => {
    const silent = new PassThrough()
    silent.write(diff('s', le64(MiB)))
    const importing = copy.importDiff(silent, { signal })
    setTimeout(() => controller.abort(reason), 50)
    await t.rejects(importing, { name: 'AbortError', code: 'ABORT_ERR', cause: reason })
    t.ok(silent.destroyed)
    const unread = image.exportDiff()
    await t.rejects(copy.importDiff(unread, { signal }), { name: 'AbortError', cause: reason }, 'before')
    t.ok(unread.destroyed)
    await t.rejects(buffer(image.exportDiff({ signal })), { name: 'AbortError', cause: reason })
  })

  await t.test('because its source fails does so with its error', async t => {
    const failure = new Error('no more of this')
    const failing = new PassThrough()
    failing.write(diff('s', le64(MiB)))
    setTimeout(() => failing.destroy(failure), 50)
    t.equal(await copy.importDiff(failing).catch(error => error), failure)
  })

  await t.test('in the middle of endless zeroes is aborted', async t => {
    await pool.createImage('endless', { size: 0, features: ['layering'] })
    await using endless = await pool.openImage('endless')
    const size = 2 ** 50
    const later = new AbortController()
    const reports: number[] = []
    const onProgress = (done: number) => {
      reports.push(done)
      if (reports.length === 100) later.abort(reason)
    }
    const zeroes = Readable.from([diff('s', le64(size), 'z', le64(0, size), 'e')])
    const importing = endless.importDiff(zeroes, { signal: later.signal, onProgress })
    await t.rejects(importing, { name: 'AbortError', cause: reason })
    t.ok((reports.at(-1) ?? 0) < size / 1000, 'bit by bit')
  })

  await t.test('too late has made its snapshot, and says nothing of an abort', async t => {
    const late = new AbortController()
    await using other = await pool.openImage('copy')
    const original = other.createSnapshot.bind(other)
    Object.assign(other, {
      async createSnapshot(name: string) {
        late.abort(reason)
        return original(name)
      },
    })
    await other.importDiff(Readable.from([diff(named('t', 'late'), 'e')]), { signal: late.signal })
    t.same(await snapshots(other.path), ['late'])
    await other.snapshot('late').remove()
  })

  await t.test('can be applied again', async t => {
    const path = join(await testFolder(t), 'diff')
    await using one = await pool.openImage('disk', { snapshot: 'one' })
    await writeFile(path, await buffer(one.exportDiff()))
    const onProgress = () => {
      throw reason
    }
    t.equal(await copy.importDiff(createReadStream(path), { onProgress }).catch(error => error), reason)
    t.same(await snapshots(copy.path), [])
    const reports: [number, number][] = []
    await copy.importDiff(createReadStream(path), { onProgress: (...report) => reports.push(report) })
    t.same(reports.at(-1), [30 * MiB + 1000, 30 * MiB + 1000], 'progress is in bytes of the image')
    t.ok((await exported(t, `${copy.path}@one`)).equals(await exported(t, one.path)))
  })
})

t.test('a diff does not change the size of an image whose encryption is loaded', async t => {
  const pool = await testPool(t)
  await pool.createImage('secret', { size: 32 * MiB })
  await using image = await pool.openImage('secret')
  await image.formatEncryption({ format: 'luks1', passphrase: 'open sesame' })
  const size = await image.size()
  const take = (size: number) =>
    image.importDiff(Readable.from([diff('s', le64(size), 'w', le64(size - 4, 4), 'data', 'e')]))
  await fails(t, {
    larger: [() => take(size + MiB), { name: 'NotSupportedError', syscall: 'rbd_resize2', message: /encryption/ }],
    smaller: [() => take(size - MiB), { name: 'NotSupportedError', syscall: 'rbd_resize2' }],
  })
  t.equal(await image.size(), size)
  await take(size)
  t.equal((await image.read(size - 4, 4)).toString(), 'data')
})
