import t from 'tap'
import { run, testPool } from '../support/cluster.js'
import { python } from '../support/python.js'

t.test('attributes', async t => {
  const pool = await testPool(t)
  const object = pool.object('object')

  await t.test('are set and removed, and rados sees them', async t => {
    await object.setXattr('owner', 'Jürgen')
    await object.setXattr('bytes', Buffer.from([0, 255, 0]))
    await object.setXattr('empty', '')
    t.equal(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'getxattr', 'object', 'owner'), 'Jürgen')
    await object.removeXattr('bytes')
    await object.removeXattr('not there')
    t.same(
      [...(await object.getXattrs())],
      [
        ['empty', Buffer.alloc(0)],
        ['owner', Buffer.from('Jürgen')],
      ],
    )
  })

  await t.test('of python-rados are the same here', async t => {
    await python(pool, `ioctx.write_full('theirs', b''); ioctx.set_xattr('theirs', 'key', bytes([0, 1, 255]))`)
    t.same([...(await pool.object('theirs').getXattrs())], [['key', Buffer.from([0, 1, 255])]])
  })
})

const readOmap = `
with rados.ReadOpCtx() as op:
    entries, _ = ioctx.get_omap_vals(op, '', '', 100)
    ioctx.operate_read_op(op, 'object')
    answer([[key, list(value or b'')] for key, value in entries])
`
const writeOmap = `
with rados.WriteOpCtx() as op:
    ioctx.set_omap(op, ('b', 'a'), (b'\\x00\\xff', b''))
    ioctx.operate_write_op(op, 'theirs')
`

t.test('the omap', async t => {
  const pool = await testPool(t)
  const object = pool.object('object')
  const listed = async (options = {}) => {
    const keys: string[] = []
    for await (const [key] of object.listOmap(options)) keys.push(key)
    return keys
  }

  await t.test('is set and removed by key, and python-rados sees it', async t => {
    await object.setOmap({ one: '1', two: Buffer.from([0, 255]), three: '' })
    await object.setOmap({})
    await object.removeOmap(['one', 'not there'])
    await object.removeOmap([])
    t.same(await python(pool, readOmap), [
      ['three', []],
      ['two', [0, 255]],
    ])
    await object.setOmap(new Map([['two', '2']]))
    const { entries, version } = await object.getOmap(['two', 'three', 'not there'])
    t.same(
      [...entries],
      [
        ['three', Buffer.alloc(0)],
        ['two', Buffer.from('2')],
      ],
    )
    t.equal(version, (await object.stat()).version)
    t.equal((await object.getOmap([])).entries.size, 0)
  })

  await t.test('of python-rados is the same here, in the order of the keys', async t => {
    await python(pool, writeOmap)
    t.same(
      [...(await pool.object('theirs').getOmapPage()).entries],
      [
        ['a', Buffer.alloc(0)],
        ['b', Buffer.from([0, 255])],
      ],
    )
  })

  await t.test('is read page by page', async t => {
    const keys = Array.from({ length: 1500 }, (_, i) => `key-${String(i).padStart(4, '0')}`)
    await object.setOmap(keys.map(key => [key, key] as const))
    const page = await object.getOmapPage({ prefix: 'key-', limit: 3 })
    t.same([...page.entries.keys()], keys.slice(0, 3))
    t.equal(page.more, true)
    const last = await object.getOmapPage({ prefix: 'key-', after: 'key-1497', limit: 10 })
    t.same([...last.entries.keys()], ['key-1498', 'key-1499'])
    t.equal(last.more, false)
    t.same(await listed({ prefix: 'key-' }), keys)
    t.same(await listed(), [...keys, 'three', 'two'])
    t.same(await listed({ prefix: 'none' }), [])
  })

  await t.test('takes long keys and values', async t => {
    const key = 'ü'.repeat(5000)
    await object.setOmap([[key, Buffer.alloc(100_000, 7)]])
    t.ok((await object.getOmap([key])).entries.get(key)?.equals(Buffer.alloc(100_000, 7)))
  })
})
