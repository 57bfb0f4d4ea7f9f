import t from 'tap'
import { MiB } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

t.test('an image is opened', async t => {
  const pool = await testPool(t)
  await run('rbd', 'create', '--size', '8M', `${pool.path}/disk`)
  const { id } = await rbdJson('info', `${pool.path}/disk`)
  const watchers = async () => (await rbdJson('status', `${pool.path}/disk`)).watchers.length

  await t.test('by its name, for writing', async t => {
    await using image = await pool.openImage('disk')
    t.match(image, { name: 'disk', path: `${pool.path}/disk`, snapshotName: null, readOnly: false, closed: false })
    t.equal(await image.size(), 8 * MiB)
    t.equal(await watchers(), 1)
    await image.close()
    t.equal(await watchers(), 0)
    t.ok(image.closed)
  })

  await t.test('to be read only, which nobody notices', async t => {
    await using image = await pool.openImage('disk', { readOnly: true })
    t.equal(image.readOnly, true)
    t.equal(await watchers(), 0)
    t.equal((await image.read(0, 10)).length, 10)
  })

  await t.test('by its id, whatever it is called by now', async t => {
    await using image = await pool.openImageById(id)
    t.match(image, { name: 'disk', path: `${pool.path}/disk` })
    await image.close()
    await run('rbd', 'rename', `${pool.path}/disk`, `${pool.path}/renamed`)
    await using renamed = await pool.openImageById(id, { readOnly: true })
    t.match(renamed, { name: 'renamed', readOnly: true })
    await renamed.close()
    await run('rbd', 'rename', `${pool.path}/renamed`, `${pool.path}/disk`)
  })

  await t.test('by its id, in the trash', async t => {
    await run('rbd', 'trash', 'mv', `${pool.path}/disk`)
    await using image = await pool.openImageById(id)
    t.equal(await image.size(), 8 * MiB)
    await image.close()
    await run('rbd', 'trash', 'restore', `${pool.path}/${id}`)
  })

  await t.test('as it was at a snapshot', async t => {
    await python(
      pool,
      `
with rbd.Image(ioctx, 'disk') as image:
    image.write(b'then', 0)
    image.create_snap('then')
    image.write(b'now!', 0)
    image.resize(16 << 20)
`,
    )
    for (const open of [pool.openImage('disk', { snapshot: 'then' }), pool.openImageById(id, { snapshot: 'then' })]) {
      await using image = await open
      t.match(image, { name: 'disk', path: `${pool.path}/disk@then`, snapshotName: 'then', readOnly: true })
      t.equal((await image.read(0, 4)).toString(), 'then')
      t.equal(await image.size(), 8 * MiB)
      await t.rejects(image.write(0, Buffer.from('x')), { name: 'ReadOnlyImageError' })
    }
    await using now = await pool.openImage('disk')
    t.equal((await now.read(0, 4)).toString(), 'now!')
  })

  await t.test('several times, by several clients', async t => {
    const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
    await using first = await pool.openImage('disk')
    await using second = await pool.openImage('disk')
    await using third = await other.openImage('disk')
    await second.close()
    await first.write(0, Buffer.from('ours'))
    t.equal((await third.read(0, 4)).toString(), 'ours')
  })

  await t.test('unless it is not there', async t => {
    const missing = { name: 'ImageNotFoundError', code: 'ENOENT', retryable: false }
    const at = { snapshot: 'missing' }
    const noSnapshot = {
      ...missing,
      name: 'SnapshotNotFoundError',
      message: /^ENOENT: snapshot not found, rbd_aio_open/,
    }
    await fails(t, {
      'the name': [() => pool.openImage('no'), { ...missing, syscall: 'rbd_aio_open', resource: `${pool.path}/no` }],
      'the id': [() => pool.openImageById('no'), { ...missing, resource: `${pool.path}/id no` }],
      'the snapshot': [() => pool.openImage('disk', at), { ...noSnapshot, resource: `${pool.path}/disk@missing` }],
      'the snapshot, by id': [() => pool.openImageById(id, at), noSnapshot],
      'the image, at a snapshot': [() => pool.openImage('no', at), missing],
    })
    t.equal(await watchers(), 0, 'and what was opened on the way is closed')
  })
})
