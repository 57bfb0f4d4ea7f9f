import { readFile } from 'node:fs/promises'
import t from 'tap'
import { Cluster, type ConnectOptions } from '../../lib/index.js'
import { run, testCluster } from '../support/cluster.js'
import { fails } from '../support/failures.js'

/** What `ceph` says, parsed. */
// biome-ignore lint/suspicious/noExplicitAny: the shape is each command's own
const ceph = async (...args: string[]): Promise<any> => JSON.parse(await run('ceph', '--format', 'json', ...args))

const confFile = process.env.CEPH_CONF ?? ''
const setting = async (name: string) => new RegExp(`^${name} = (.*)$`, 'm').exec(await readFile(confFile, 'utf8'))?.[1]

t.test('tells what ceph tells of the cluster', async t => {
  const cluster = await testCluster(t)
  t.match(Cluster.libraryVersion, /^\d+\.\d+\.\d+$/)
  t.equal(await cluster.fsid(), (await ceph('fsid')).fsid)
  const [stat, df] = await Promise.all([cluster.stat(), ceph('df')])
  t.equal(stat.totalBytes, Math.floor(df.stats.total_bytes / 1024) * 1024)
  t.ok(stat.usedBytes > 0 && stat.usedBytes + stat.availableBytes <= stat.totalBytes)
  t.type(stat.objects, 'number')
  t.type(await cluster.instanceId(), 'bigint')
  t.match(await cluster.addresses(), /^127\.0\.0\.1:0\/\d+$/)
  await t.resolves(cluster.waitForLatestOsdmap())
})

t.test('sends commands as objects, and answers objects', async t => {
  const cluster = await testCluster(t)
  const size = await cluster.monCommand<{ size: number }>({ prefix: 'osd pool get', pool: 'rbd', var: 'size' })
  t.equal(size.size, (await ceph('osd', 'pool', 'get', 'rbd', 'size')).size)
  t.match(await cluster.monCommand({ prefix: 'status', format: 'plain' }), /health:/, 'text where the format is plain')
  t.match(await cluster.mgrCommand({ prefix: 'pg dump', dumpcontents: ['pools'] }), {
    pool_stats: [{ poolid: Number }],
  })
  t.match(await cluster.osdCommand(0, { prefix: 'version' }), { version: /^\d+\.\d+/ })
  const pg = `${await cluster.poolId('rbd')}.0`
  t.match(await cluster.pgCommand(pg, { prefix: 'query', pgid: pg, cmd: 'query' }), { state: /active/ })

  await cluster.monCommand({ prefix: 'config-key set', key: 'cephkit/test' }, { input: 'ein Wört' })
  t.equal(await run('ceph', 'config-key', 'get', 'cephkit/test'), 'ein Wört', 'with what the command reads')
  await cluster.monCommand({ prefix: 'config-key rm', key: 'cephkit/test' })

  const unknown = { name: 'InvalidArgumentError', code: 'EINVAL' }
  const missing = { name: 'NotFoundError', code: 'ENOENT' }
  await fails(t, {
    'unknown to a monitor': [
      () => cluster.monCommand({ prefix: 'no such' }),
      { ...unknown, message: /command not known/ },
    ],
    'unknown to a manager': [() => cluster.mgrCommand({ prefix: 'no' }), { ...unknown, message: /No handler found/ }],
    'unknown to an OSD': [() => cluster.osdCommand(0, { prefix: 'no' }), { ...unknown, message: /unknown command/ }],
    'no placement group': [() => cluster.pgCommand('?', { prefix: 'query' }), { ...unknown, resource: 'pg ?: query' }],
    'no pool': [() => cluster.pgCommand('9999.0', { prefix: 'query' }), { ...missing, message: /pool dne/ }],
    'no OSD': [() => cluster.osdCommand(999, { prefix: 'version' }), { ...missing, syscall: 'rados_osd_command' }],
    'refused by a monitor': [
      () => cluster.monCommand({ prefix: 'osd pool get', pool: 'no-such-pool', var: 'size' }),
      { ...missing, message: /unrecognized pool 'no-such-pool'/ },
    ],
  })
})

t.test('makes, names and deletes pools', async t => {
  const cluster = await testCluster(t)
  const name = `cephkit-cluster-${process.pid}`
  await cluster.createPool(name)
  t.ok((await cluster.listPools()).includes(name))
  t.ok((await ceph('osd', 'pool', 'ls')).includes(name))
  const id = await cluster.poolId(name)
  t.equal(id, (await ceph('osd', 'pool', 'stats', name))[0].pool_id)
  t.equal(await cluster.poolName(id), name)
  await fails(t, {
    'there already': [() => cluster.createPool(name), { name: 'PoolExistsError', code: 'EEXIST', resource: name }],
  })
  await cluster.deletePool(name)
  t.notOk((await ceph('osd', 'pool', 'ls')).includes(name))

  const gone = { name: 'PoolNotFoundError', code: 'ENOENT' }
  await fails(t, {
    'deleted twice': [() => cluster.deletePool(name), gone],
    'no id': [() => cluster.poolId(name), gone],
    'no name': [() => cluster.poolName(id), gone],
    'not to be opened': [() => cluster.openPool(name), { ...gone, syscall: 'rados_ioctx_create', resource: name }],
  })
})

t.test('reads and changes the options of the connection', async t => {
  const cluster = await testCluster(t, { options: { rbd_default_order: '20', log_to_stderr: 'false' } })
  t.equal(await cluster.getOption('rbd_default_order'), '20')
  await cluster.setOption('rbd_default_order', '21')
  t.equal(await cluster.getOption('rbd_default_order'), '21')
  const missing = { name: 'NotFoundError', code: 'ENOENT', resource: 'no_such' }
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL' }
  await fails(t, {
    'none to read': [() => cluster.getOption('no_such'), { ...missing, syscall: 'rados_conf_get' }],
    'none to change': [() => cluster.setOption('no_such', '1'), { ...missing, syscall: 'rados_conf_set' }],
    'no such value': [() => cluster.setOption('rbd_default_order', 'much'), invalid],
    'too late': [() => cluster.setOption('mon_host', '10.0.0.1'), { name: 'NotSupportedError', code: 'EPERM' }],
  })
})

t.test('bounds its waiting by timeouts', async t => {
  const names = ['client_mount_timeout', 'rados_mon_op_timeout', 'rados_osd_op_timeout']
  const timeouts = async (options: ConnectOptions) => {
    const cluster = await testCluster(t, options)
    return Promise.all(names.map(async name => Number(await cluster.getOption(name))))
  }
  t.same(await timeouts({}), [30, 30, 30], '30 s by default')
  t.same(await timeouts({ timeout: 1500 }), [2, 2, 2], 'in whole seconds')
  t.same(await timeouts({ options: { rados_osd_op_timeout: '7' } }), [30, 30, 7], 'except those given by name')
  t.same(await timeouts({ timeout: 5000, options: { rados_osd_op_timeout: '7' } }), [5, 5, 7])
})

t.test('connects without a configuration file', async t => {
  const options = { mon_host: (await setting('mon host')) ?? '' }
  const cluster = await testCluster(t, { configFile: null, keyring: (await setting('keyring')) ?? '', options })
  t.equal(await cluster.fsid(), (await ceph('fsid')).fsid)
})

t.test('connects as another user, who may do less', async t => {
  const admin = await (await testCluster(t)).openPool('rbd')
  const caps = ['mon', 'allow r', 'osd', 'profile rbd-read-only pool=rbd']
  const [{ key }] = await ceph('auth', 'get-or-create', 'client.cephkit-reader', ...caps)
  t.teardown(() => run('ceph', 'auth', 'rm', 'client.cephkit-reader'))
  const name = `cephkit-${process.pid}`
  await admin.cluster.createPool(name)
  const reader = await testCluster(t, { user: 'cephkit-reader', options: { key } })
  const pool = await reader.openPool('rbd')
  await admin.createImage(name, { size: 4096 })
  await using image = await pool.openImage(name, { readOnly: true })
  t.equal(await image.size(), 4096)
  const denied = { name: 'PermissionError', retryable: false }
  await fails(t, {
    'opening for writing': [() => pool.openImage(name), { ...denied, syscall: 'rbd_aio_open' }],
    'creating an image': [() => pool.createImage('mine', { size: 1 }), denied],
    'writing an object': [() => pool.object('mine').writeFull(''), denied],
    'creating a pool': [() => reader.createPool('mine'), denied],
    'deleting a pool': [() => reader.deletePool(name), denied],
  })
  await image.close()
  await admin.removeImage(name)
  await admin.cluster.deletePool(name)
})

t.test('says why it does not connect', async t => {
  const dir = t.testdir({
    conf: 'not a [configuration\n = ',
    wrong: '[client.admin]\n\tkey = AQBSdEJjAAAAABAAlmEZf2QG8A2aFKrMAZAwYg==\n',
    malformed: '[client.admin]\n\tkey = nonsense\n',
    empty: '',
  })
  const denied = { name: 'PermissionError', syscall: 'rados_connect' }
  const notFound = { name: 'NotFoundError', code: 'ENOENT' }
  const invalid = { name: 'InvalidArgumentError', code: 'EINVAL' }
  const connect = (options: ConnectOptions) => () => Cluster.connect(options)
  const nobody = { options: { mon_host: 'v2:127.0.0.1:1' }, timeout: 1000 }
  await fails(t, {
    'no configuration file': [connect({ configFile: '/no' }), { ...notFound, syscall: 'rados_conf_read_file' }],
    'a malformed one': [connect({ configFile: `${dir}/conf` }), { ...invalid, syscall: 'rados_conf_read_file' }],
    'one without monitors': [connect({ configFile: `${dir}/empty` }), { ...notFound, syscall: 'rados_connect' }],
    'no such user': [connect({ user: 'nobody' }), { ...denied, code: 'EACCES' }],
    'no keyring': [connect({ keyring: '/no' }), { ...denied, code: 'EACCES', message: /keyring: \/no\)/ }],
    'a wrong key': [connect({ keyring: `${dir}/wrong` }), { ...denied, code: 'EACCES' }],
    'a malformed key': [connect({ keyring: `${dir}/malformed` }), { ...denied, code: 'EIO', message: /malformed/ }],
    'no such option': [connect({ options: { no_such: '1' } }), { ...notFound, resource: 'no_such' }],
    'no such value': [connect({ options: { rbd_cache: 'maybe' } }), { ...invalid, syscall: 'rados_conf_set' }],
    'no such address': [connect({ options: { mon_host: 'no!' } }), { ...invalid, syscall: 'rados_connect' }],
    'nobody there': [connect(nobody), { name: 'TimeoutError', code: 'ETIMEDOUT', retryable: true }],
  })
})

t.test('shuts a client out', async t => {
  const [cluster, victim] = [await testCluster(t), await testCluster(t)]
  const pool = await victim.openPool('rbd')
  await pool.listImages()
  const address = await victim.addresses()
  await cluster.blocklist(address, { duration: 60_000 })
  const listed = (await run('ceph', 'osd', 'blocklist', 'ls')).split('\n')
  const until = listed.find(line => line.startsWith(`${address} `))?.split(' ')[1] ?? 'never'
  t.ok(Math.abs(Date.parse(until.replace('+0000', 'Z')) - Date.now() - 60_000) < 50_000, `for a minute: ${until}`)
  t.teardown(() => run('ceph', 'osd', 'blocklist', 'rm', address))
  await victim.waitForLatestOsdmap()
  await fails(t, {
    'the client': [() => pool.listImages(), { name: 'BlocklistedError', code: 'ESHUTDOWN', retryable: false }],
    'no client': [() => cluster.blocklist('nowhere'), { name: 'InvalidArgumentError', resource: 'nowhere' }],
  })
})
