import t, { type Test } from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { until } from '../support/process.js'

t.test('is seen through a namespace', async t => {
  const pool = await testPool(t)
  t.equal(pool.path, `rbd/${pool.namespace}`)
  t.equal(pool.id, await pool.cluster.poolId('rbd'))
  t.equal(pool.closed, false)
  const whole = await pool.cluster.openPool('rbd')
  t.equal(whole.path, 'rbd')

  await pool.object('here').writeFull('x')
  t.match(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls'), /^here$/m)
  await t.rejects(whole.object('here').stat(), { name: 'ObjectNotFoundError' }, 'and not through another')
})

t.test('has namespaces for images', async t => {
  const pool = await testPool(t)
  const whole = await pool.cluster.openPool('rbd')
  const name = `${pool.namespace}-more`
  await whole.createNamespace(name)
  t.ok(await whole.namespaceExists(name))
  t.notOk(await whole.namespaceExists(`${name}-not`))
  t.same((await whole.listNamespaces()).filter(each => each.startsWith(pool.namespace)).sort(), [pool.namespace, name])
  t.ok((await rbdJson('namespace', 'ls', 'rbd')).some((each: { name: string }) => each.name === name))
  t.ok(await pool.namespaceExists(name), 'they do not nest: seen through any, they are the same')

  await pool.createImage('disk', { size: 1 })
  await fails(t, {
    'there already': [() => whole.createNamespace(name), { name: 'ExistsError', resource: `rbd/${name}` }],
    'with an image in it': [() => whole.removeNamespace(pool.namespace), { name: 'BusyError', code: 'EBUSY' }],
    'not there': [() => whole.removeNamespace(`${name}-not`), { name: 'NotFoundError', code: 'ENOENT' }],
    'too long for an OSD': [() => whole.createNamespace('n'.repeat(300)), { name: 'InvalidArgumentError' }],
  })
  await pool.trash.move('disk')
  await fails(t, { 'with trash in it': [() => whole.removeNamespace(pool.namespace), { name: 'BusyError' }] })
  await whole.removeNamespace(name)
  t.notOk(await whole.namespaceExists(name))
})

/** A pool of its own, deleted in the end. */
async function ownPool(t: Test, name: string): Promise<Pool> {
  const cluster = await testCluster(t)
  await cluster.createPool(name)
  t.teardown(() => cluster.deletePool(name).catch(() => {}))
  return cluster.openPool(name)
}

t.test('says what it is for', async t => {
  const pool = await ownPool(t, `cephkit-pool-${process.pid}`)
  t.same(await pool.listApplications(), [])
  await pool.initialize()
  await pool.initialize()
  t.same(await pool.listApplications(), ['rbd'])
  t.same(JSON.parse(await run('ceph', 'osd', 'pool', 'application', 'get', pool.name)), { rbd: {} })
  await pool.enableApplication('rbd')
  await fails(t, {
    'another one': [() => pool.enableApplication('cephfs'), { name: 'BusyError', syscall: 'rados_application_enable' }],
  })
  await pool.enableApplication('cephfs', { force: true })
  t.same((await pool.listApplications()).sort(), ['cephfs', 'rbd'])
})

t.test('that is for something else is made one for RBD by force only', async t => {
  const pool = await ownPool(t, `cephkit-other-${process.pid}`)
  await pool.enableApplication('rgw')
  await fails(t, { unforced: [() => pool.initialize(), { name: 'BusyError', syscall: 'rbd_pool_init' }] })
  await pool.initialize({ force: true })
  t.same((await pool.listApplications()).sort(), ['rbd', 'rgw'])
})

t.test('tells what it holds, as rados df does', async t => {
  const pool = await ownPool(t, `cephkit-stat-${process.pid}`)
  await Promise.all(['a', 'b', 'c'].map(name => pool.object(name).writeFull(Buffer.alloc(1000))))
  await pool.object('a').read()
  const isReported = async () => {
    const { objects, reads } = await pool.stat()
    return objects === 3 && reads > 0
  }
  t.ok(await until(isReported, 60_000), 'the OSDs have reported')
  const { pools } = JSON.parse(await run('rados', 'df', '--pool', pool.name, '--format', 'json'))
  const [df] = pools
  t.match(await pool.stat(), {
    bytes: Number(df.size_bytes),
    objects: Number(df.num_objects),
    reads: Number(df.read_ops),
    writes: Number(df.write_ops),
    writtenBytes: Number(df.write_bytes),
    userBytes: Number,
  })
  t.equal(Number(df.num_objects), 3)
})

t.test('that was deleted is not an empty one', async t => {
  const pool = await ownPool(t, `cephkit-gone-${process.pid}`)
  await pool.initialize()
  await pool.createImage('disk', { size: MiB })
  await pool.cluster.deletePool(pool.name)
  const gone = { name: 'PoolNotFoundError', code: 'ENOENT' }
  await fails(t, {
    images: [() => pool.listImages(), gone],
    namespaces: [() => pool.listNamespaces(), gone],
    trash: [() => pool.trash.list(), gone],
    'its stat': [() => pool.stat(), gone],
    'what its images add up to': [() => pool.imageStats(), gone],
    'an image to create': [() => pool.createImage('disk', { size: MiB }), { ...gone, syscall: 'rbd_create4' }],
    'an object to write': [() => pool.object('object').writeFull(''), { name: 'ObjectNotFoundError', code: 'ENOENT' }],
  })
})
