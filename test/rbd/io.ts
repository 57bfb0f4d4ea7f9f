import t from 'tap'
import { GiB, MiB } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { until } from '../support/process.js'
import { python } from '../support/python.js'

t.test('the data of an image', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  await using image = await pool.openImage('disk')

  await t.test('is written from any kind of buffer, and read by others', async t => {
    await image.write(0, Buffer.from('buffer'))
    await image.write(6, new Uint16Array([0x6162, 0x6364]))
    await image.write(10, new DataView(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2))
    await image.write(12, new Uint8Array(0))
    await image.flush()
    t.same(await python(pool, `answer(list(rbd.Image(ioctx, 'disk', read_only=True).read(0, 13)))`), [
      ...Buffer.from('bufferbadc'),
      2,
      3,
      0,
    ])
    const file = `${t.testdir({})}/raw`
    const source = `rbd:${image.path}:conf=${process.env.CEPH_CONF}`
    await run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', source, file)
    t.equal(await run('head', '-c', '10', file), 'bufferbadc', 'qemu-img, for instance')
  })

  await t.test('written by others is read', async t => {
    await python(
      pool,
      `
with rbd.Image(ioctx, 'disk') as image:
    image.write(bytes(range(256)) * 4096, 4 << 20)
`,
    )
    const data = await image.read(4 * MiB, MiB)
    t.ok(data.equals(Buffer.from(Array.from({ length: MiB }, (_, i) => i % 256))))
  })

  await t.test('is read into any kind of buffer', async t => {
    const buffer = Buffer.alloc(8, '-')
    t.equal(await image.read(2, buffer), 8)
    t.equal(buffer.toString(), 'fferbadc')
    const view = new DataView(new ArrayBuffer(8), 2, 4)
    t.equal(await image.read(6, view), 4)
    t.equal(Buffer.from(view.buffer).toString('latin1'), '\0\0badc\0\0', 'in its place')
    const numbers = new Uint16Array(2)
    t.equal(await image.read(6, numbers), 4)
    t.same([...numbers], [0x6162, 0x6364])
    t.equal(await image.read(0, new Uint8Array(0)), 0)
  })

  const { Float16Array } = globalThis as { Float16Array?: new (numbers: number[]) => NodeJS.ArrayBufferView }
  const ofNode24 = { skip: Float16Array === undefined && 'Node.js 24 has it' }
  await t.test('is of a Float16Array too, which Node-API takes for something else', ofNode24, async t => {
    if (Float16Array === undefined) return
    await image.write(7 * MiB, new Float16Array([1, 2, 3]))
    t.equal((await image.read(7 * MiB, 8)).toString('hex'), '003c004000420000')
    const back = new Float16Array([0, 0, 0])
    t.equal(await image.read(7 * MiB, back), 6)
    t.equal(Buffer.from(back.buffer as ArrayBuffer).toString('hex'), '003c00400042')
  })

  await t.test('is discarded', async t => {
    await image.discard(4 * MiB, 100 * MiB)
    t.ok((await image.read(4 * MiB, MiB)).equals(Buffer.alloc(MiB)))
    await image.discard(0, 0)
    await image.discard(0, 65535)
    t.equal((await image.read(0, 6)).toString(), 'buffer', 'in whole multiples of 64 KiB')
  })

  await t.test('ends where the image ends', async t => {
    const end = 8 * MiB
    await image.write(end - 4, Buffer.from('last'))
    t.equal((await image.read(end - 4, 100)).toString(), 'last')
    t.equal((await image.read(0, 0)).length, 0)
    const beyond = { name: 'InvalidArgumentError', code: 'EINVAL' }
    await fails(t, {
      'a read behind it': [() => image.read(end, 1), { ...beyond, syscall: 'rbd_aio_read2' }],
      'a write behind it': [() => image.write(end, Buffer.alloc(1)), { ...beyond, syscall: 'rbd_aio_write2' }],
      'a write across it': [
        () => image.write(end - 4, Buffer.from('lost?')),
        { ...beyond, message: /the end of the image, which is 8388608/ },
      ],
      'a discard behind it': [() => image.discard(end, 1), { ...beyond, syscall: 'rbd_aio_discard' }],
      'a readv behind it': [() => image.readv(end, [Buffer.alloc(1)]), { ...beyond, syscall: 'rbd_aio_readv' }],
      'a writev across it': [
        () => image.writev(end - 4, [Buffer.from('lost'), Buffer.from('?')]),
        { ...beyond, syscall: 'rbd_aio_writev' },
      ],
      'zeroes across it': [() => image.writeZeroes(end - 4, 5), { ...beyond, syscall: 'rbd_aio_write_zeroes' }],
      'the same across it': [
        () => image.writeSame(end - 4, 8, Buffer.from('lost')),
        { ...beyond, syscall: 'rbd_aio_writesame' },
      ],
      'a compareAndWrite across it': [
        () => image.compareAndWrite(end - 4, Buffer.from('last?'), Buffer.from('lost?')),
        { ...beyond, syscall: 'rbd_aio_compare_and_write' },
      ],
    })
    const buffers = [Buffer.alloc(3, '-'), Buffer.alloc(3, '-')]
    t.equal(await image.readv(end - 4, buffers), 4)
    t.equal(buffers.join(), 'las,t--', 'what there is nothing for stays as it is')
    t.equal((await image.read(end - 4, 4)).toString(), 'last', 'nothing was written')
    await image.resize(end + 4)
    await image.write(end - 4, Buffer.from('and more'))
    await image.resize(end, { allowShrink: true })
    await t.rejects(image.write(end, Buffer.from('x')), beyond)
  })

  await t.test('ends where somebody else has put the end', async t => {
    await image.write(8 * MiB - 1, Buffer.from('x'))
    await run('rbd', 'resize', '--no-progress', '--size', '16M', image.path)
    t.same(await image.read(12 * MiB, 4), Buffer.alloc(4))
    await image.write(12 * MiB, Buffer.from('more'))
    await run('rbd', 'resize', '--no-progress', '--allow-shrink', '--size', '8M', image.path)
    const beyond = { name: 'InvalidArgumentError', message: /the end of the image, which is 8388608/ }
    await t.rejects(image.write(12 * MiB, Buffer.from('lost')), beyond)
    await t.rejects(image.writev(12 * MiB, [Buffer.from('lost')]), beyond)
    await t.rejects(image.read(12 * MiB, 4), { name: 'InvalidArgumentError' })
    await image.resize(16 * MiB)
    t.same(await image.read(12 * MiB, 4), Buffer.alloc(4), 'what was there is gone')
  })

  await t.test('is several buffers in one stretch', async t => {
    await image.writev(MiB, [
      Buffer.from('one'),
      new Uint8Array(0),
      new Uint16Array([0x6f77, 0x7421]),
      Buffer.from('hree'),
    ])
    await image.flush()
    const script = `answer(rbd.Image(ioctx, 'disk', read_only=True).read(${MiB}, 12))`
    t.equal(await python(pool, script), 'onewo!three\0')
    const [a, b, c] = [Buffer.alloc(1), new DataView(new ArrayBuffer(4)), Buffer.alloc(6)]
    t.equal(await image.readv(MiB, [a, b, new Uint8Array(0), c]), 11)
    t.same([a, Buffer.from(b.buffer), c].join(), 'o,newo,!three')
    t.equal(await image.readv(MiB, []), 0)
    await image.writev(MiB, [])
    const many = Array.from({ length: 2000 }, (_, i) => Buffer.from([i % 251]))
    await image.writev(MiB, many)
    const parts = many.map(() => Buffer.alloc(1))
    t.equal(await image.readv(MiB, parts), 2000)
    t.same(Buffer.concat(parts), Buffer.concat(many), 'and of any number')
  })

  await t.test('is zeroed to the byte, with or without its space', async t => {
    const used = async () => (await rbdJson('du', image.path)).images[0].used_size
    await image.write(4 * MiB, Buffer.alloc(4 * MiB, 'x'))
    const before = await used()
    await image.writeZeroes(4 * MiB + 1, 1000)
    const around = await image.read(4 * MiB, 1002)
    t.equal(around.toString('latin1').replaceAll('\0', '0'), `x${'0'.repeat(1000)}x`)
    await image.writeZeroes(4 * MiB, 4 * MiB)
    t.equal(await used(), before - 4 * MiB)
    await image.writeZeroes(4 * MiB, 4 * MiB, { thickProvision: true })
    await image.writeZeroes(1, 0, { thickProvision: true })
    t.equal(await used(), before)
    t.same(await image.read(4 * MiB, 4 * MiB), Buffer.alloc(4 * MiB))
  })

  await t.test('is written again and again from the same', async t => {
    await image.write(2 * MiB, Buffer.alloc(8192, '-'))
    await image.writeSame(2 * MiB + 1, 3 * 1000, Buffer.from('abc'))
    await image.flush()
    const data: string = await python(pool, `answer(rbd.Image(ioctx, 'disk', read_only=True).read(${2 * MiB}, 3002))`)
    t.equal(data, `-${'abc'.repeat(1000)}-`)
    for (const length of [65_535, 65_538, 5 * MiB - 2]) {
      await image.write(MiB - 1, Buffer.alloc(length + 1, '-'))
      await image.writeSame(MiB - 1, length, Buffer.from('abc'))
      const written = await image.read(MiB - 1, length + 1)
      t.ok(written.equals(Buffer.concat([Buffer.alloc(length, 'abc'), Buffer.from('-')])), `${length} bytes`)
    }
  })

  await t.test('is written again and again in little memory', async t => {
    await pool.createImage('wide', { size: 256 * MiB })
    await using wide = await pool.openImage('wide')
    const before = process.memoryUsage.rss()
    let most = before
    const watching = setInterval(() => {
      most = Math.max(most, process.memoryUsage.rss())
    }, 5)
    try {
      await wide.writeSame(0, 3 * 2 ** 26, Buffer.from('abc'))
    } finally {
      clearInterval(watching)
    }
    t.ok(most - before < 500 * MiB, `${Math.round((most - before) / MiB)} MiB`)
    t.equal((await wide.read(3 * 2 ** 25, 6)).toString(), 'abcabc')
  })

  await t.test('is written if it is what was expected', async t => {
    const place = 5 * MiB + 512
    await image.write(place, Buffer.alloc(512, 'a'))
    await image.compareAndWrite(place, Buffer.alloc(512, 'a'), Buffer.alloc(512, 'b'))
    t.same(await image.read(place, 512), Buffer.alloc(512, 'b'))
    const expected = Buffer.alloc(300, 'b')
    expected[77] = 0
    const mismatch = {
      name: 'MismatchError',
      code: 'EILSEQ',
      syscall: 'rbd_aio_compare_and_write',
      resource: image.path,
      retryable: false,
      offset: place + 100 + 77,
    }
    await t.rejects(image.compareAndWrite(place + 100, expected, Buffer.alloc(300, 'c')), mismatch)
    t.same(await image.read(place, 512), Buffer.alloc(512, 'b'), 'and else not')
    const across = { name: 'InvalidArgumentError', message: /512 bytes/ }
    await t.rejects(image.compareAndWrite(place + 1, Buffer.alloc(512, 'b'), Buffer.alloc(512)), across)
    const racers = Array.from({ length: 10 }, (_, i) =>
      image.compareAndWrite(place, Buffer.alloc(512, 'b'), Buffer.alloc(512, `${i}`)),
    )
    const outcomes = await Promise.allSettled(racers)
    t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1, 'one wins')
  })

  await t.test('is where it did not match, in a striped image too', async t => {
    await pool.createImage('striped', { size: 8 * MiB, objectSize: MiB, stripeUnit: 4096, stripeCount: 4 })
    await using striped = await pool.openImage('striped')
    for (const place of [0, 4096, 5 * 4096 + 512, 4 * MiB + 7 * 4096 + 3 * 512]) {
      const expected = Buffer.alloc(512)
      expected[5] = 1
      const mismatch = { name: 'MismatchError', offset: place + 5 }
      await t.rejects(striped.compareAndWrite(place, expected, Buffer.alloc(512)), mismatch, `${place}`)
    }
  })

  await t.test('is compared within stripes, also small ones', async t => {
    await pool.createImage('fine', { size: 8 * MiB, objectSize: 4096, stripeUnit: 512, stripeCount: 2 })
    await using fine = await pool.openImage('fine')
    const expected = Buffer.alloc(256)
    expected[255] = 1
    const mismatch = { name: 'MismatchError', offset: 512 + 511 }
    await t.rejects(fine.compareAndWrite(512 + 256, expected, Buffer.alloc(256)), mismatch)
    await fine.compareAndWrite(512 + 256, Buffer.alloc(256), expected)
    const long = fine.compareAndWrite(512, Buffer.alloc(512), Buffer.alloc(512))
    await t.rejects(long, { name: 'NotSupportedError', message: /stripes of 512/ })
  })

  await t.test('is larger than 2 GiB', async t => {
    await pool.createImage('large', { size: 16 * GiB })
    await using large = await pool.openImage('large')
    await large.write(10 * GiB, Buffer.from('far away'))
    t.equal((await large.read(10 * GiB, 8)).toString(), 'far away')
    await large.writeZeroes(1, 12 * GiB)
    t.same(await large.read(10 * GiB, 8), Buffer.alloc(8))
    await large.write(10 * GiB, Buffer.from('far away'))
    await large.discard(0, 16 * GiB)
    t.equal((await rbdJson('du', large.path)).images[0].used_size, 0)
  })

  await t.test('is read anew when the cache is dropped', async t => {
    await image.write(0, Buffer.from('again'))
    await image.invalidateCache()
    t.equal((await image.read(0, 5)).toString(), 'again')
  })

  await t.test('is not written by who only reads', async t => {
    await using reader = await pool.openImage('disk', { readOnly: true })
    const readOnly = { name: 'ReadOnlyImageError', code: 'EROFS', retryable: false }
    await fails(t, {
      write: [() => reader.write(0, Buffer.from('x')), { ...readOnly, syscall: 'rbd_aio_write2' }],
      writev: [() => reader.writev(0, [Buffer.from('x')]), { ...readOnly, syscall: 'rbd_aio_writev' }],
      discard: [() => reader.discard(0, 4096), { ...readOnly, syscall: 'rbd_aio_discard' }],
      writeZeroes: [() => reader.writeZeroes(0, 4096), { ...readOnly, syscall: 'rbd_aio_write_zeroes' }],
      thick: [
        () => reader.writeZeroes(0, 4096, { thickProvision: true }),
        { ...readOnly, syscall: 'rbd_aio_write_zeroes' },
      ],
      'writeZeroes of nothing': [
        () => reader.writeZeroes(1, 0, { thickProvision: true }),
        { ...readOnly, syscall: 'rbd_aio_write_zeroes' },
      ],
      writeSame: [() => reader.writeSame(0, 4096, Buffer.from('x')), { ...readOnly, syscall: 'rbd_aio_writesame' }],
      compareAndWrite: [
        () => reader.compareAndWrite(0, Buffer.from('again'), Buffer.from('never')),
        { ...readOnly, syscall: 'rbd_aio_compare_and_write' },
      ],
    })
    await reader.flush()
    await reader.invalidateCache()
  })
})

t.test('a write whose caller aborts before it has begun is not done', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const before = Array.from({ length: 300 }, (_, i) => pool.createImage(`made-${i}`, { size: MiB }))
  // The first one has to learn the size of the image, which takes its turn among the calls that block.
  const controller = new AbortController()
  const writing = image.write(0, Buffer.from('data'), { signal: controller.signal })
  controller.abort()
  await t.rejects(writing, { name: 'AbortError' })
  await Promise.all(before)
  t.same(await image.read(0, 4), Buffer.alloc(4))
})

t.test('hints for the caches reach the OSD', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * MiB })
  await using image = await pool.openImage('disk')
  const setHistory = (...args: string[]) => run('ceph', 'tell', 'osd.0', 'config', ...args)
  await setHistory('set', 'osd_op_history_size', '10000')
  t.teardown(() => setHistory('unset', 'osd_op_history_size'))
  await image.write(0, Buffer.alloc(4096), { fadvise: ['dontneed'] })
  await image.read(512, 1024, { fadvise: ['random', 'nocache'] })
  await image.compareAndWrite(1024, Buffer.alloc(512), Buffer.alloc(512), { fadvise: ['sequential'] })
  await image.read(1536, 512)
  const { blockNamePrefix } = await image.stat()
  const described = async (): Promise<string[]> => {
    const { ops } = JSON.parse(await run('ceph', 'tell', 'osd.0', 'dump_historic_ops'))
    return ops.flatMap(({ description }: { description: string }) =>
      description.includes(blockNamePrefix) ? /\[(.*)\] snapc/.exec(description)?.slice(1) : [],
    )
  }
  t.ok(await until(async () => (await described()).length === 4, 10_000))
  t.match(await described(), [
    /write 0~4096 \[fadvise_dontneed\]$/,
    /^read 512~1024 \[fadvise_nocache\]$/,
    /write 1024~512 \[fadvise_sequential\]$/,
    /^read 1536~512$/,
  ])
})

t.test('an abort ends the waiting, not the write', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 16 * MiB })
  await using image = await pool.openImage('disk')
  await image.write(0, Buffer.from('knows the size'))
  const controller = new AbortController()
  const { signal } = controller
  const calls: Promise<unknown>[] = [
    image.write(0, Buffer.alloc(8 * MiB, 'x'), { signal }),
    image.writev(8 * MiB, [Buffer.alloc(4 * MiB, 'x'), Buffer.alloc(4 * MiB, 'x')], { signal }),
    image.read(0, Buffer.alloc(MiB), { signal }),
  ]
  controller.abort()
  for (const call of calls) await t.rejects(() => call, { name: 'AbortError' })
  await image.close()
  await using again = await pool.openImage('disk')
  t.same(await again.read(0, 16 * MiB), Buffer.alloc(16 * MiB, 'x'))
})
