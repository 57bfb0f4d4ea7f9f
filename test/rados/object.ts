import t from 'tap'
import { MiB, type RadosObject, WriteOperation } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

/** Larger than what one read fetches before it knows the size. */
const large = Buffer.from(Array.from({ length: 5 * MiB }, (_, i) => i % 251))

t.test('the data of an object', async t => {
  const pool = await testPool(t)
  const object = pool.object('object')
  t.equal(object.path, `${pool.path}/object`)
  const text = async (options = {}) => (await object.read(options)).toString()

  await t.test('is written, appended and cut, and rados reads it', async t => {
    await object.writeFull('a long beginning')
    await object.writeFull('begin')
    await object.write('N', 4)
    await object.append(Buffer.from('-end'))
    await object.write(new Uint8Array([33, 33]), 10)
    t.equal(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'get', 'object', '-'), 'begiN-end\0!!')
    await object.truncate(5)
    t.equal(await text(), 'begiN')
    await object.operate(new WriteOperation().zero(1, 2).truncate(6))
    t.equal(await text(), 'b\0\0iN\0')
    await object.operate(new WriteOperation().zero(4, 100))
    t.equal(await text(), 'b\0\0i', 'zeroes at the end are cut off')
  })

  await t.test('is read in part', async t => {
    await object.writeFull('0123456789')
    t.equal(await text({ offset: 3 }), '3456789')
    t.equal(await text({ offset: 3, length: 2 }), '34')
    t.equal(await text({ length: 0 }), '')
    t.equal(await text({ offset: 8, length: 100 }), '89', 'less where it ends')
    t.equal(await text({ offset: 100 }), '', 'and nothing beyond')
    t.equal(await text({ offset: Number.MAX_SAFE_INTEGER }), '')
    t.equal(await text({ length: Number.MAX_SAFE_INTEGER }), '0123456789')
  })

  await t.test('may be large', async t => {
    await object.writeFull(large)
    t.ok((await object.read()).equals(large))
    t.ok((await object.read({ offset: 1000, length: 4.5 * MiB })).equals(large.subarray(1000, 1000 + 4.5 * MiB)))
  })

  await t.test('is read as of one moment, whoever writes', async t => {
    let writing = true
    const writer = (async () => {
      for (let i = 0; writing; i++) await object.writeFull(Buffer.alloc((1 + (i % 3)) * 100_000, i))
    })()
    for (let i = 0; i < 20; i++) {
      const data = await object.read()
      if (!data.equals(Buffer.alloc(data.length, data[0])) || data.length % 100_000) t.fail('parts of two versions')
    }
    writing = false
    await writer
    t.pass()
  })

  await t.test('made by python-rados is the same here', async t => {
    await python(pool, `ioctx.write_full('theirs', bytes(range(256)) * 512)`)
    const theirs = await pool.object('theirs').read()
    t.ok(theirs.equals(Buffer.from(Array.from({ length: 256 * 512 }, (_, i) => i % 256))))
  })
})

t.test('an object has a size, a time and a version that grows', async t => {
  const object = (await testPool(t)).object('object')
  await object.writeFull('12345')
  const first = await object.stat()
  t.equal(first.size, 5)
  t.ok(Math.abs(Date.now() - first.modifiedAt.getTime()) < 60_000)
  const version = await object.operate(new WriteOperation().append('6'))
  t.match(await object.stat(), { size: 6, version })
  t.ok(version > first.version)
})

t.test('an object that is not there', async t => {
  const pool = await testPool(t)
  const object = pool.object('missing')
  const missing = { name: 'ObjectNotFoundError', code: 'ENOENT', resource: object.path, retryable: false }
  const calls: Record<string, (object: RadosObject) => Promise<unknown>> = {
    stat: o => o.stat(),
    read: o => o.read(),
    'read of nothing': o => o.read({ length: 0 }),
    remove: o => o.remove(),
    getXattrs: o => o.getXattrs(),
    removeXattr: o => o.removeXattr('a'),
    getOmap: o => o.getOmap(['a']),
    getOmapPage: o => o.getOmapPage(),
    listOmap: o => o.listOmap().next(),
    removeOmap: o => o.removeOmap(['a']),
    watch: o => o.watch(() => {}),
    notify: o => o.notify(),
  }
  await fails(t, Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, [() => call(object), missing]])))
  await object.truncate(10)
  await fails(t, { 'and truncate makes none': [() => object.stat(), missing] })

  const makers: Record<string, (object: RadosObject) => Promise<unknown>> = {
    write: o => o.write('x'),
    append: o => o.append('x'),
    setXattr: o => o.setXattr('a', 'x'),
    setOmap: o => o.setOmap({ a: 'x' }),
    lockExclusive: o => o.lockExclusive('lock'),
    lockShared: o => o.lockShared('lock', 'tag'),
  }
  for (const [name, call] of Object.entries(makers)) {
    await call(pool.object(name))
    await t.resolves(pool.object(name).stat(), `is made by ${name}`)
  }
  await pool.object('write').remove()
  await fails(t, { removed: [() => pool.object('write').stat(), { name: 'ObjectNotFoundError' }] })
})

t.test('an OSD refuses what is too large', async t => {
  const object = (await testPool(t)).object('object')
  await object.writeFull('')
  const refused = { name: 'InvalidArgumentError', syscall: 'rados_aio_write_op_operate' }
  await fails(t, {
    'an offset': [() => object.write('x', Number.MAX_SAFE_INTEGER), { ...refused, code: 'EFBIG' }],
    'a size': [() => object.truncate(2 ** 40), { ...refused, code: 'EFBIG' }],
    'data at once': [() => object.writeFull(Buffer.alloc(91 * MiB)), { ...refused, code: 'EMSGSIZE' }],
    'a name of an attribute': [() => object.setXattr('n'.repeat(300), ''), { ...refused, code: 'ENAMETOOLONG' }],
    'no steps at all': [() => object.operate(new WriteOperation()), { ...refused, code: 'EINVAL' }],
  })
})
