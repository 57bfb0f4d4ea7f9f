import t from 'tap'
import { MiB } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
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

  await t.test('is discarded', async t => {
    await image.discard(4 * MiB, 100 * MiB)
    t.ok((await image.read(4 * MiB, MiB)).equals(Buffer.alloc(MiB)))
    await image.discard(0, 0)
    t.equal((await image.read(0, 6)).toString(), 'buffer')
  })

  await t.test('ends where the image ends', async t => {
    const end = 8 * MiB
    await image.write(end - 4, Buffer.from('last'))
    t.equal((await image.read(end - 4, 100)).toString(), 'last')
    t.equal((await image.read(0, 0)).length, 0)
    const beyond = { name: 'InvalidArgumentError', code: 'EINVAL' }
    await fails(t, {
      'a read behind it': [() => image.read(end, 1), { ...beyond, syscall: 'rbd_aio_read2' }],
      'a write behind it': [() => image.write(end, Buffer.alloc(1)), { ...beyond, syscall: 'rbd_write2' }],
      'a write across it': [
        () => image.write(end - 4, Buffer.from('lost?')),
        { ...beyond, message: /the end of the image, which is 8388608/ },
      ],
      'a discard behind it': [() => image.discard(end, 1), { ...beyond, syscall: 'rbd_aio_discard' }],
    })
    t.equal((await image.read(end - 4, 4)).toString(), 'last', 'nothing was written')
    await image.resize(end + 4)
    await image.write(end - 4, Buffer.from('and more'))
    await image.resize(end, { allowShrink: true })
    await t.rejects(image.write(end, Buffer.from('x')), beyond)
    await run('rbd', 'resize', '--no-progress', '--size', '16M', image.path)
    await t.resolves(image.write(end, Buffer.from('x')), 'until it is made larger, by whomever')
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
      write: [() => reader.write(0, Buffer.from('x')), { ...readOnly, syscall: 'rbd_write2' }],
      discard: [() => reader.discard(0, 4096), { ...readOnly, syscall: 'rbd_aio_discard' }],
    })
    await reader.flush()
    await reader.invalidateCache()
  })
})
