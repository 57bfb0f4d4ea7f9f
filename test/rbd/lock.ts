/** Two connections are two clients. */
import t, { type Test } from 'tap'
import { type Image, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

/** An image, opened by two clients. */
async function twoClients(t: Test, features?: 'layering'): Promise<[Image, Image, Pool]> {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  await pool.createImage('disk', { size: MiB, ...(features && { features: [features] }) })
  return [await pool.openImage('disk'), await other.openImage('disk'), pool]
}

/** Lets a client that a test has shut out be forgotten. */
async function unblock(image: Image): Promise<void> {
  await run('ceph', 'osd', 'blocklist', 'rm', await image.pool.cluster.addresses())
}

const notKept = { name: 'ReadOnlyImageError', code: 'EROFS', message: /another client keeps/ }

t.test('the exclusive lock goes to who writes', async t => {
  const [ours, theirs] = await twoClients(t)
  t.same(await ours.exclusiveLock.owners(), { mode: 'exclusive', owners: [] })
  await ours.write(0, Buffer.from('ours'))
  t.same([await ours.exclusiveLock.isOwner(), await theirs.exclusiveLock.isOwner()], [true, false])
  t.same(await theirs.exclusiveLock.owners(), { mode: 'exclusive', owners: [await ours.pool.cluster.addresses()] })
  t.match(await rbdJson('lock', 'ls', ours.path), [{ locker: `client.${await ours.pool.cluster.instanceId()}` }])
  await theirs.write(0, Buffer.from('theirs'))
  t.same([await ours.exclusiveLock.isOwner(), await theirs.exclusiveLock.isOwner()], [false, true])
})

t.test('the exclusive lock is kept by who has acquired it', async t => {
  const [ours, theirs] = await twoClients(t)
  await ours.exclusiveLock.acquire()
  await ours.exclusiveLock.acquire()
  await ours.write(0, Buffer.from('ours'))
  await using third = await theirs.pool.openImage('disk')
  const write = () => third.write(0, Buffer.from('theirs'))
  const kept = { name: 'ImageBusyError', code: 'EROFS', syscall: 'rbd_lock_acquire', retryable: true }
  await fails(t, {
    'another cannot have it': [() => theirs.exclusiveLock.acquire(), kept],
    'nor write': [write, notKept],
    'nor discard': [() => third.discard(0, 4096), notKept],
    'nor release it': [() => theirs.exclusiveLock.release(), { name: 'InvalidArgumentError', message: /not held/ }],
  })
  await theirs.resize(2 * MiB)
  t.equal(await ours.size(), 2 * MiB, 'what is no I/O is done by who has it')

  await ours.exclusiveLock.release()
  await t.resolves(write(), 'then another can')
  await fails(t, {
    'who has released it does not take it by writing': [() => ours.write(0, Buffer.from('ours')), notKept],
    'nor does who has tried to acquire it': [() => theirs.write(0, Buffer.from('theirs')), notKept],
    'nor release it twice': [() => ours.exclusiveLock.release(), { name: 'InvalidArgumentError', code: 'EINVAL' }],
  })
  await ours.exclusiveLock.acquire()
  await t.resolves(ours.write(0, Buffer.from('ours')))
})

t.test('the exclusive lock is broken, and its owner shut out', async t => {
  const [ours, theirs, pool] = await twoClients(t)
  t.teardown(() => unblock(theirs))
  await theirs.exclusiveLock.acquire()
  const [owner = ''] = (await ours.exclusiveLock.owners()).owners
  await using reader = await pool.openImage('disk', { readOnly: true })
  await fails(t, {
    'not that of another': [
      () => ours.exclusiveLock.break('127.0.0.1:0/1'),
      { name: 'ImageBusyError', code: 'EBUSY', syscall: 'rbd_lock_break' },
    ],
    'not by who only reads': [() => reader.exclusiveLock.break(owner), { name: 'ReadOnlyImageError', code: 'EROFS' }],
  })
  await ours.exclusiveLock.break(owner)
  await fails(t, { 'nor twice': [() => ours.exclusiveLock.break(owner), { name: 'NotFoundError', message: /nobody/ }] })
  await ours.exclusiveLock.acquire()
  const shutOut = { name: 'BlocklistedError', code: 'ESHUTDOWN', retryable: false }
  await fails(t, {
    'a write of its': [() => theirs.write(0, Buffer.from('late')), shutOut],
    'and all else': [() => theirs.pool.openImage('disk'), shutOut],
  })
  await t.resolves(theirs.close(), 'what it has open can be closed')
})

t.test('an image without the feature has no exclusive lock', async t => {
  const [ours, , pool] = await twoClients(t, 'layering')
  await using reader = await (await twoClients(t))[2].openImage('disk', { readOnly: true })
  t.notOk(pool.closed)
  const none = { name: 'InvalidArgumentError', code: 'EINVAL', message: /without the feature exclusive-lock/ }
  t.equal(await ours.exclusiveLock.isOwner(), false)
  await fails(t, {
    acquire: [() => ours.exclusiveLock.acquire(), none],
    owners: [() => ours.exclusiveLock.owners(), none],
    break: [() => ours.exclusiveLock.break('127.0.0.1:0/1'), none],
    'nor has one that is only read': [() => reader.exclusiveLock.acquire(), none],
    'or its owners': [() => reader.exclusiveLock.owners(), none],
  })
})

const busy = { name: 'LockBusyError', code: 'EBUSY', retryable: true }
const notHeld = { name: 'NotFoundError', code: 'ENOENT', message: /not held/ }

t.test('the advisory lock is for one', async t => {
  const [ours, theirs] = await twoClients(t, 'layering')
  t.same(await ours.advisoryLock.list(), { exclusive: false, tag: '', lockers: [] })
  await ours.advisoryLock.acquire('one')
  const client = `client.${await ours.pool.cluster.instanceId()}`
  const address = await ours.pool.cluster.addresses()
  t.same(await theirs.advisoryLock.list(), { exclusive: true, tag: '', lockers: [{ client, cookie: 'one', address }] })
  t.same(await rbdJson('lock', 'ls', ours.path), [{ id: 'one', locker: client, address }])
  await fails(t, {
    twice: [() => ours.advisoryLock.acquire('one'), { name: 'ExistsError', code: 'EEXIST' }],
    'with another cookie': [() => ours.advisoryLock.acquire('two'), busy],
    'by another': [() => theirs.advisoryLock.acquire('one'), busy],
    'to share': [() => theirs.advisoryLock.acquire('one', { shared: 'tag' }), busy],
    'released by another': [() => theirs.advisoryLock.release('one'), notHeld],
  })
  await t.resolves(theirs.write(0, Buffer.from('x')), 'it keeps nobody from writing')
  await ours.advisoryLock.release('one')
  t.same((await theirs.advisoryLock.list()).lockers, [])
})

t.test('the advisory lock is shared by a tag', async t => {
  const [ours, theirs] = await twoClients(t, 'layering')
  await ours.advisoryLock.acquire('one', { shared: 'tag' })
  await theirs.advisoryLock.acquire('two', { shared: 'tag' })
  const { exclusive, tag, lockers } = await ours.advisoryLock.list()
  t.same([exclusive, tag, lockers.length], [false, 'tag', 2])
  await fails(t, {
    'another tag': [() => ours.advisoryLock.acquire('three', { shared: 'other' }), busy],
    'no tag': [() => ours.advisoryLock.acquire('three'), busy],
  })
})

t.test('the advisory lock of rbd is one here, and is broken', async t => {
  const [ours, theirs] = await twoClients(t, 'layering')
  await run('rbd', 'lock', 'add', ours.path, 'of rbd')
  const [{ client, cookie } = { client: '', cookie: '' }] = (await ours.advisoryLock.list()).lockers
  t.equal(cookie, 'of rbd')
  await fails(t, {
    'not with another cookie': [() => ours.advisoryLock.break(client, 'no'), notHeld],
    'nor of another': [() => ours.advisoryLock.break('client.1', cookie), notHeld],
    'nor of nobody': [() => ours.advisoryLock.break('nobody', cookie), { name: 'InvalidArgumentError' }],
  })
  await ours.advisoryLock.break(client, cookie)
  await theirs.advisoryLock.acquire('held')
  t.teardown(() => unblock(theirs))
  await ours.advisoryLock.break(`client.${await theirs.pool.cluster.instanceId()}`, 'held')
  await t.rejects(theirs.write(0, Buffer.from('late')), { name: 'BlocklistedError' }, 'its holder is shut out')
})
