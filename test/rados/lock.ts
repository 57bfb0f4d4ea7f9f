import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { RadosObject } from '../../lib/index.js'
import { run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { until } from '../support/process.js'
import { python } from '../support/python.js'

/** An object, and the same as another client has it. */
async function twoClients(t: Test): Promise<[RadosObject, RadosObject, name: string]> {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  return [pool.object('object'), other.object('object'), `client.${await pool.cluster.instanceId()}`]
}

/** What `rados` says of a lock. */
const info = async ({ pool, name }: RadosObject, lock: string) =>
  JSON.parse(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'lock', 'info', name, lock))

const busy = { name: 'LockBusyError', code: 'EBUSY', retryable: true }
const notHeld = { name: 'NotFoundError', code: 'ENOENT' }

t.test('an exclusive lock', async t => {
  const [ours, theirs, us] = await twoClients(t)
  t.same(await ours.listLockers('lock'), { exclusive: false, tag: '', lockers: [] }, 'is nobody’s at first')
  await ours.lockExclusive('lock', { cookie: 'one', description: 'for a test' })
  const { exclusive, lockers } = await theirs.listLockers('lock')
  t.ok(exclusive)
  t.match(lockers, [{ client: us, cookie: 'one', address: /127\.0\.0\.1:0\/\d+/ }])
  t.match(await info(ours, 'lock'), {
    type: 'exclusive',
    lockers: [{ name: us, cookie: 'one', description: 'for a test' }],
  })

  await fails(t, {
    'is not for others': [() => theirs.lockExclusive('lock', { cookie: 'one' }), busy],
    'to share': [() => theirs.lockShared('lock', 'tag'), busy],
    'or for another cookie': [() => ours.lockExclusive('lock'), busy],
    'or twice': [() => ours.lockExclusive('lock', { cookie: 'one' }), { name: 'ExistsError', code: 'EEXIST' }],
    'or to be unlocked by others': [() => theirs.unlock('lock', { cookie: 'one' }), notHeld],
    'or with another cookie': [() => ours.unlock('lock'), notHeld],
  })
  await theirs.lockExclusive('another lock')
  await ours.unlock('lock', { cookie: 'one' })
  t.same(await theirs.listLockers('lock'), { exclusive: false, tag: '', lockers: [] }, 'and nobody’s in the end')
  await t.resolves(theirs.lockExclusive('lock'))
})

t.test('a shared lock', async t => {
  const [ours, theirs] = await twoClients(t)
  await ours.lockShared('lock', 'tag', { cookie: 'one', description: 'for a test' })
  await theirs.lockShared('lock', 'tag', { cookie: 'two' })
  const { exclusive, tag, lockers } = await ours.listLockers('lock')
  t.match({ exclusive, tag }, { exclusive: false, tag: 'tag' })
  t.same(lockers.map(({ cookie }) => cookie).sort(), ['one', 'two'])
  t.match(await info(ours, 'lock'), { type: 'shared', tag: 'tag' })
  await fails(t, {
    'needs the same tag': [() => theirs.lockShared('lock', 'another', { cookie: 'three' }), busy],
    'keeps out who wants it alone': [() => theirs.lockExclusive('lock'), busy],
    'cannot be taken twice': [() => ours.lockShared('lock', 'tag', { cookie: 'one' }), { name: 'ExistsError' }],
    'is not renewed by who has it not': [() => ours.lockShared('lock', 'tag', { renew: 'must' }), notHeld],
  })
  await ours.unlock('lock', { cookie: 'one' })
  t.equal((await ours.listLockers('lock')).lockers.length, 1)
})

t.test('a lock with a duration', async t => {
  const [ours, theirs] = await twoClients(t)
  await ours.lockExclusive('lock', { duration: 1500 })
  const renewed = Date.now()
  await ours.lockExclusive('lock', { duration: 6000, renew: 'must' })
  await sleep(1800)
  await fails(t, { 'is still held when renewed': [() => theirs.lockExclusive('lock'), busy] })
  t.ok(await until(async () => (await theirs.listLockers('lock')).lockers.length === 0, 10_000), 'and then ends')
  t.ok(Date.now() - renewed > 5500, 'by itself, in time')
  await fails(t, { 'after which it cannot be renewed': [() => ours.lockExclusive('lock', { renew: 'must' }), notHeld] })
  await ours.lockExclusive('lock', { duration: 60_000, renew: 'may' })
  await ours.lockExclusive('lock', { duration: 60_000, renew: 'may' })
  await t.rejects(theirs.lockExclusive('lock'), busy)

  await ours.lockExclusive('long', { duration: 2 ** 31 * 1000 })
  await t.rejects(theirs.lockExclusive('long'), busy, 'the longest one is not over at once')
})

t.test('a lock can be broken', async t => {
  const [ours, theirs] = await twoClients(t)
  await ours.lockExclusive('lock', { cookie: 'one' })
  const [locker] = (await theirs.listLockers('lock')).lockers
  const { client = '' } = locker ?? {}
  await fails(t, {
    'of its holder only': [() => theirs.breakLock('lock', 'client.1', 'one'), notHeld],
    'with its cookie': [() => theirs.breakLock('lock', client, 'two'), notHeld],
    'by the name of a client': [() => theirs.breakLock('lock', 'somebody', 'one'), { name: 'InvalidArgumentError' }],
    'where there is an object': [() => theirs.pool.object('missing').breakLock('lock', client, ''), notHeld],
  })
  await theirs.breakLock('lock', client, 'one')
  await t.resolves(theirs.lockExclusive('lock'))
  await t.resolves(ours.setXattr('still', 'here'), 'and its holder is not shut out')
})

t.test('a lock of python-rados is one here', async t => {
  const [ours] = await twoClients(t)
  await python(ours.pool, `ioctx.lock_exclusive('object', 'lock', 'theirs', 'of python', 3600)`)
  t.match(await ours.listLockers('lock'), { exclusive: true, lockers: [{ cookie: 'theirs' }] })
  await t.rejects(ours.lockExclusive('lock'), busy)
  const [{ client, cookie } = { client: '', cookie: '' }] = (await ours.listLockers('lock')).lockers
  await ours.breakLock('lock', client, cookie)
  await ours.lockExclusive('lock', { cookie: 'ours' })
  const refused = `
try:
    ioctx.lock_exclusive('object', 'lock', 'theirs')
    answer('locked')
except rados.ObjectBusy:
    answer('busy')
`
  t.equal(await python(ours.pool, refused), 'busy')
})

t.test('the name of a lock is bounded by the OSD', async t => {
  const [ours] = await twoClients(t)
  const refused = { name: 'InvalidArgumentError', code: 'ENAMETOOLONG' }
  await fails(t, { 'too long': [() => ours.lockExclusive('n'.repeat(10_000)), refused] })
})
