import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable, type Writable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { finished, pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGunzip, createGzip, gunzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { AbortError, type CallOptions, type Image, KiB, MiB, type Pool } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'
import { testFolder } from '../support/golden.js'
import { until } from '../support/process.js'
import { exported, imported, sparseContent } from '../support/sparse.js'

// Other programs read and write what is streamed.
t.setTimeout(300_000)

const reason = new Error('changed my mind')

async function disk(t: Test): Promise<{ pool: Pool; image: Image; content: Buffer }> {
  const pool = await testPool(t)
  const content = sparseContent()
  await imported(t, `${pool.path}/disk`, content)
  return { pool, image: await pool.openImage('disk'), content }
}

async function empty(pool: Pool, name: string, size: number): Promise<Image> {
  await pool.createImage(name, { size })
  return pool.openImage(name)
}

/** What is in flight of one method of an image, in bytes; and what was asked of it. */
function observed(image: Image, method: 'read' | 'write') {
  const seen = { inFlight: 0, most: 0, total: 0, calls: 0 }
  const original = image[method].bind(image) as (offset: number, what: number | Buffer) => Promise<unknown>
  const observing = async (offset: number, what: number | Buffer) => {
    const bytes = typeof what === 'number' ? what : what.length
    seen.calls++
    seen.total += bytes
    seen.inFlight += bytes
    seen.most = Math.max(seen.most, seen.inFlight)
    try {
      return await original(offset, what)
    } finally {
      seen.inFlight -= bytes
    }
  }
  Object.assign(image, { [method]: observing })
  return seen
}

t.test('an image is read as a stream', async t => {
  const { pool, image, content } = await disk(t)

  await t.test('as a whole, to a file, with its holes and without', async t => {
    const path = join(await testFolder(t), 'raw')
    for (const skipHoles of [false, true]) {
      await pipeline(image.createReadStream({ skipHoles }), createWriteStream(path))
      t.ok((await readFile(path)).equals(content), `skipHoles: ${skipHoles}`)
    }
  })

  await t.test('to the standard input of rbd import', async t => {
    const rbd = spawn('rbd', ['import', '--no-progress', '-', `${pool.path}/piped`], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    const [[status]] = await Promise.all([once(rbd, 'close'), pipeline(image.createReadStream(), rbd.stdin)])
    t.equal(status, 0)
    t.ok((await exported(t, `${pool.path}/piped`)).equals(content))
  })

  await t.test('through zlib', async t => {
    const zipped = await buffer(image.createReadStream({ skipHoles: true }).pipe(createGzip({ level: 1 })))
    t.ok(gunzipSync(zipped).equals(content))
  })

  await t.test('from and to any byte, as fs has it', async t => {
    const path = join(await testFolder(t), 'raw')
    await writeFile(path, content)
    const last = content.length - 1
    for (const range of [
      { start: 0, end: 0 },
      { start: 4 * MiB - 100, end: 4 * MiB + 99 },
      { start: 5 * MiB, end: 10 * MiB },
      { start: 12 * MiB - 1 },
      { end: 511 },
      { start: last },
      { start: last, end: last + 100 },
      { start: content.length },
      { start: content.length + 1, end: content.length + 2 },
    ]) {
      const expected = await buffer(createReadStream(path, range))
      for (const skipHoles of [false, true]) {
        const got = await buffer(image.createReadStream({ ...range, skipHoles }))
        t.ok(got.equals(expected), `${JSON.stringify(range)}: ${expected.length} bytes`)
      }
    }
  })

  await t.test('without asking for what is in holes', async t => {
    await using plain = await pool.openImage('disk', { readOnly: true })
    const { total } = await (async () => {
      const seen = observed(plain, 'read')
      await finished(plain.createReadStream({ skipHoles: true }).resume())
      return seen
    })()
    // Objects 0 and 1 (what crosses), 2, 5, and the last.
    t.equal(total, 4 * 4 * MiB + content.length - 32 * MiB)
  })

  await t.test('of a clone, with what it shows of its parent', async t => {
    await image.createSnapshot('base')
    await pool.cloneImage({ imageName: 'disk', name: 'base' }, 'clone', { cloneFormat: 2 })
    await using clone = await pool.openImage('clone')
    const data = randomFillSync(Buffer.alloc(MiB))
    await clone.write(25 * MiB, data)
    data.copy(content, 25 * MiB)
    t.ok((await buffer(clone.createReadStream({ skipHoles: true }))).equals(content))
  })
})

t.test('a stream reads ahead so far, and no farther', async t => {
  const { pool } = await disk(t)
  for (const [highWaterMark, bound] of [
    [undefined, 32 * MiB],
    [8 * MiB, 8 * MiB],
    [64 * KiB, 64 * KiB],
  ] as const) {
    await using image = await pool.openImage('disk', { readOnly: true })
    const seen = observed(image, 'read')
    const stream = image.createReadStream({ highWaterMark, end: 33 * MiB - 1 })
    const closed = new Promise(resolve => stream.once('close', resolve))
    let taken = 0
    let ahead = 0
    for await (const chunk of stream) {
      taken += chunk.length
      // Somebody slow.
      if (taken < 2 * bound) await sleep(5)
      ahead = Math.max(ahead, seen.total - taken + chunk.length)
      if (taken >= 4 * bound) break
    }
    t.ok(ahead <= bound + Math.min(bound, 64 * KiB), `${ahead} bytes are read ahead, of ${bound}`)
    t.ok(seen.most <= bound, `${seen.most} bytes in flight, of ${bound}`)
    if (bound > MiB) t.ok(seen.most > bound / 2, 'and several requests at a time')
    await closed
    t.equal(seen.inFlight, 0)
  }
})

t.test('a stream that is destroyed waits for what librbd still reads', async t => {
  const { pool } = await disk(t)
  const ends: Record<string, (stream: Readable, controller: AbortController) => void> = {
    'by its consumer': stream => stream.destroy(),
    'with an error': stream => stream.destroy(new Error('enough')),
    'by its signal': (_, controller) => controller.abort(),
  }
  for (const [how, end] of Object.entries(ends)) {
    await using image = await pool.openImage('disk', { readOnly: true })
    const seen = observed(image, 'read')
    const controller = new AbortController()
    const stream = image.createReadStream({ signal: controller.signal })
    const errors: Error[] = []
    stream.on('error', error => errors.push(error))
    await once(stream, 'readable')
    stream.read(1)
    t.ok(await until(() => seen.inFlight > 0 || seen.calls > 6, 5000))
    const closed = new Promise(resolve => stream.once('close', resolve))
    end(stream, controller)
    await closed
    t.equal(seen.inFlight, 0, how)
    if (how === 'by its signal') t.ok(errors[0] instanceof AbortError)
    t.same(
      errors.map(({ name, message }) => ({ name, message })),
      {
        'by its consumer': [],
        'with an error': [{ name: 'Error', message: 'enough' }],
        'by its signal': [{ name: 'AbortError', message: 'The operation was aborted' }],
      }[how],
    )
  }
})

t.test('a read that fails destroys the stream', async t => {
  const { image } = await disk(t)
  const stream = image.createReadStream({ highWaterMark: 4 * MiB })
  await once(stream, 'readable')
  await image.close()
  await t.rejects(buffer(stream), { name: 'ClosedError' })
  t.ok(stream.destroyed)
})

t.test('an image is written by a stream', async t => {
  const pool = await testPool(t)
  const content = sparseContent()

  await t.test('from rbd export', async t => {
    await imported(t, `${pool.path}/source`, content)
    await using image = await empty(pool, 'from-rbd', content.length)
    const rbd = spawn('rbd', ['export', '--no-progress', `${pool.path}/source`, '-'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await pipeline(rbd.stdout, image.createWriteStream())
    t.ok((await exported(t, image.path)).equals(content))
  })

  await t.test('from another image', async t => {
    await using source = await pool.openImage('source', { readOnly: true })
    await using image = await empty(pool, 'from-image', content.length)
    await pipeline(source.createReadStream(), image.createWriteStream())
    t.ok((await exported(t, image.path)).equals(content))
  })

  await t.test('through zlib', async t => {
    await using source = await pool.openImage('source', { readOnly: true })
    await using image = await empty(pool, 'from-zip', content.length)
    await pipeline(source.createReadStream(), createGzip({ level: 1 }), createGunzip(), image.createWriteStream())
    t.ok((await exported(t, image.path)).equals(content))
  })

  await t.test('in chunks of any size, from any byte on', async t => {
    await using image = await empty(pool, 'chunks', content.length)
    const expected = Buffer.alloc(content.length)
    for (const [start, sizes] of [
      [0, [1, 2, 3]],
      [4 * MiB - 1, [2]],
      [7 * MiB + 77, [5 * MiB, 1, 4 * MiB, 100_000]],
      [content.length - 10, [10]],
    ] as const) {
      const stream = image.createWriteStream({ start })
      let at: number = start
      for (const size of sizes) {
        const data = randomFillSync(Buffer.alloc(size))
        data.copy(expected, at)
        at += size
        await new Promise(resolve => stream.write(data, resolve))
        data.fill(0xff) // its own again
      }
      await finished(stream.end())
    }
    t.ok((await exported(t, image.path)).equals(expected))
  })

  await t.test('that takes so much at a time, and no more', async t => {
    await using image = await empty(pool, 'bounded', 100 * MiB)
    const seen = observed(image, 'write')
    const piece = randomFillSync(Buffer.alloc(MiB))
    await pipeline(Readable.from(Array.from({ length: 100 }, () => piece)), image.createWriteStream())
    t.ok(seen.most <= 32 * MiB, `${seen.most} bytes in flight`)
    t.ok(seen.most > 4 * MiB, 'and several requests at a time')
    t.equal(seen.calls, 25, 'each as long as an object')
    t.equal(seen.total, 100 * MiB)
  })
})

t.test('a write that fails destroys the stream', async t => {
  const pool = await testPool(t)
  await using image = await empty(pool, 'disk', 8 * MiB)

  await t.test('beyond the end of the image', async t => {
    const stream = image.createWriteStream({ start: 4 * MiB })
    const writing = pipeline(Readable.from([Buffer.alloc(4 * MiB, 1), Buffer.alloc(1)]), stream)
    await t.rejects(writing, { name: 'InvalidArgumentError', code: 'EINVAL' })
    t.ok(stream.destroyed)
    t.ok((await image.read(4 * MiB, 4 * MiB)).equals(Buffer.alloc(4 * MiB, 1)), 'what is within it is written')
  })

  await t.test('at once, even when there is nothing more to write', async t => {
    const stream = image.createWriteStream({ start: 8 * MiB })
    stream.write(Buffer.alloc(4 * MiB))
    const [error] = await once(stream, 'error')
    t.equal(error.name, 'InvalidArgumentError')
  })

  await t.test('to an image that is read-only, or closed', async t => {
    const reader = await pool.openImage('disk', { readOnly: true })
    await t.rejects(finished(reader.createWriteStream().end('x')), { name: 'ReadOnlyImageError' })
    await reader.close()
    await t.rejects(finished(reader.createWriteStream().end('x')), { name: 'ClosedError' })
  })
})

t.test('a stream that is destroyed waits for what librbd still writes', async t => {
  const pool = await testPool(t)
  const ends: Record<string, (stream: Writable, controller: AbortController) => void> = {
    'by its owner': stream => stream.destroy(),
    'by its signal': (_, controller) => controller.abort(reason),
  }
  for (const [how, end] of Object.entries(ends)) {
    await using image = await empty(pool, how.replaceAll(' ', '-'), 64 * MiB)
    const seen = observed(image, 'write')
    const controller = new AbortController()
    const stream = image.createWriteStream({ signal: controller.signal })
    const errors: Error[] = []
    stream.on('error', error => errors.push(error))
    const source = new PassThrough()
    source.pipe(stream)
    source.write(Buffer.alloc(30 * MiB, 1))
    t.ok(await until(() => seen.calls > 2, 5000))
    const closed = new Promise(resolve => stream.once('close', resolve))
    end(stream, controller)
    await closed
    t.equal(seen.inFlight, 0, how)
    t.match(errors, how === 'by its owner' ? { length: 0 } : [{ name: 'AbortError', code: 'ABORT_ERR', cause: reason }])
    for (const error of errors) t.ok(error instanceof AbortError)
  }
})

t.test('a stream that is destroyed in the middle of a large write leaves the rest of it', async t => {
  const pool = await testPool(t)
  await using image = await empty(pool, 'disk', 128 * MiB)
  const seen = observed(image, 'write')
  const stream = image.createWriteStream()
  stream.write(Buffer.alloc(128 * MiB, 1))
  t.ok(await until(() => seen.calls > 8, 5000))
  const closed = new Promise(resolve => stream.once('close', resolve))
  stream.destroy()
  const { calls } = seen
  await closed
  t.equal(seen.inFlight, 0)
  t.equal(seen.calls, calls, 'no write began after it')
})

t.test('a snapshot that is removed while it is read is an error, and no other data', async t => {
  const { pool, image } = await disk(t)
  const folder = await testFolder(t)
  const reads: Record<string, (image: Image) => Promise<unknown>> = {
    'as a stream': image => buffer(image.createReadStream()),
    'as a diff': image => buffer(image.exportDiff()),
    'to a file': image => image.exportTo(join(folder, 'raw')),
    'to a qcow2 file': image => image.exportTo(join(folder, 'qcow2'), { format: 'qcow2' }),
    'for where it has data': async image => {
      for await (const _ of image.diff());
    },
    'to another image': async image => {
      await image.copy(image.pool, 'copy').finally(() => image.pool.removeImage('copy'))
    },
  }
  await image.resize(33 * MiB, { allowShrink: true })
  for (const [how, read] of Object.entries(reads)) {
    await image.createSnapshot('then')
    await using then = await pool.openImage('disk', { snapshot: 'then' })
    await t.resolves(read(then), how)
    await rm(folder, { recursive: true })
    await mkdir(folder)
    await image.snapshot('then').remove()
    // One of the same name is another one.
    await image.createSnapshot('then')
    await t.rejects(read(then), { name: 'SnapshotNotFoundError', resource: then.path }, how)
    t.same(await readdir(folder), [])
    await image.snapshot('then').remove()
  }
})

t.test('a snapshot that is kept for a clone when it is removed is read to the end', async t => {
  const { pool, image } = await disk(t)
  const snapshot = await image.createSnapshot('then')
  await pool.cloneImage(snapshot, 'clone', { cloneFormat: 2 })
  await using then = await pool.openImage('disk', { snapshot: 'then' })
  const before = await buffer(then.createReadStream())
  await snapshot.remove()
  t.ok((await buffer(then.createReadStream())).equals(before))
})

t.test('an image that becomes smaller while it is read is an error, and no end', async t => {
  const pool = await testPool(t)
  const folder = await testFolder(t)
  const reads: Record<string, (image: Image) => Promise<unknown>> = {
    'as a stream': image => buffer(image.createReadStream()),
    'as a diff': image => buffer(image.exportDiff()),
    'to a file': image => image.exportTo(join(folder, 'raw')),
  }
  for (const [how, read] of Object.entries(reads)) {
    const name = how.replaceAll(' ', '-')
    await using image = await empty(pool, name, 12 * MiB)
    await image.write(0, Buffer.alloc(12 * MiB, 1))
    const original = image.read.bind(image) as (offset: number, ...rest: unknown[]) => Promise<unknown>
    const shrinking = async (offset: number, ...rest: unknown[]) => {
      if (offset === 8 * MiB) await image.resize(9 * MiB, { allowShrink: true })
      return original(offset, ...rest)
    }
    Object.assign(image, { read: shrinking })
    const wrong = { name: 'InvalidArgumentError', syscall: 'rbd_aio_read2', message: /became smaller/ }
    await t.rejects(read(image), wrong, how)
  }
})

t.test('so is one that becomes smaller where nothing of it is read', async t => {
  const pool = await testPool(t)
  const folder = await testFolder(t)
  const reads: Record<string, (image: Image) => Promise<unknown>> = {
    'as a stream': image => buffer(image.createReadStream({ skipHoles: true })),
    'as a diff': image => buffer(image.exportDiff()),
    'to a file': image => image.exportTo(join(folder, 'raw')),
  }
  for (const [how, read] of Object.entries(reads)) {
    await using image = await empty(pool, how.replaceAll(' ', '-'), 12 * MiB)
    await image.write(0, Buffer.alloc(MiB, 1))
    const original = image.stat.bind(image)
    // Between the size, which comes first, and what there is of it.
    const shrinking = async (options?: CallOptions) => {
      Object.assign(image, { stat: original })
      await image.resize(9 * MiB, { allowShrink: true })
      return original(options)
    }
    Object.assign(image, { stat: shrinking })
    await t.rejects(read(image), { name: 'InvalidArgumentError', message: /became smaller/ }, how)
  }
})

t.test('and so is one that is open for reading only, and has become smaller', async t => {
  const pool = await testPool(t)
  const folder = await testFolder(t)
  const reads: Record<string, (image: Image) => Promise<unknown>> = {
    'as a stream': image => buffer(image.createReadStream()),
    'without its holes': image => buffer(image.createReadStream({ skipHoles: true })),
    'as a diff': image => buffer(image.exportDiff()),
    'to a file': image => image.exportTo(join(folder, 'raw')),
  }
  await using image = await empty(pool, 'disk', 12 * MiB)
  await image.write(0, Buffer.alloc(12 * MiB, 1))
  await using reader = await pool.openImage('disk', { readOnly: true })
  await image.resize(9 * MiB, { allowShrink: true })
  for (const [how, read] of Object.entries(reads)) {
    await t.rejects(read(reader), { name: 'InvalidArgumentError', message: /became smaller/ }, how)
  }
  t.equal((await buffer(reader.createReadStream({ end: 9 * MiB - 1 }))).length, 9 * MiB)
})
