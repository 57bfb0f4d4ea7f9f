/** What the owner of the exclusive lock does for another client, which must hear of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Image, MiB, type Pool } from '../../lib/index.js'
import { byLockOwner } from '../../lib/rbd/lock-owner.js'
import { testCluster, testPool } from '../support/cluster.js'
import { until } from '../support/process.js'

t.setTimeout(240_000)
// They wait, most of the time.
t.jobs = 4

/** After so much silence the lock is moved. */
const silenceMs = 45_000

/** The same image, opened by who asks; and what another client opens it by. */
async function asker(t: Test): Promise<{ image: Image; other: Pool }> {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  await pool.createImage('disk', { size: 8 * MiB })
  return { image: await pool.openImage('disk'), other }
}

t.test('the owner says nothing', async t => {
  const { image, other } = await asker(t)
  await using owner = await other.openImage('disk')
  await owner.write(0, Buffer.from('data'))
  const isOwner = () => owner.exclusiveLock.isOwner()
  /** As librbd's own: it comes back when the owner changes. */
  const fakeUnansweredRequest = async (report: (done: number, total: number) => void) => {
    await sleep(10_000)
    report(1, 2)
    const heardAt = performance.now()
    const hasMoved = await until(async () => !(await isOwner()), 100_000)
    return { hasMoved, silentMs: performance.now() - heardAt }
  }
  const reports: number[] = []
  const { hasMoved, silentMs } = await byLockOwner(image, done => reports.push(done), fakeUnansweredRequest)
  t.ok(hasMoved && silentMs >= silenceMs - 10, `the lock is moved after ${silentMs.toFixed(0)} ms without progress`)
  t.same(reports, [1])
  await t.resolves(owner.write(0, Buffer.from('more')))
  t.ok(await isOwner(), 'and is free again')
})

t.test('the owner keeps the lock for itself', async t => {
  const { image, other } = await asker(t)
  const owner = await other.openImage('disk')
  await owner.exclusiveLock.acquire()
  await byLockOwner(image, null, () => sleep(silenceMs + 5000))
  t.ok(await owner.exclusiveLock.isOwner(), 'it has been asked for it, and no more')
  await image.resize(16 * MiB)
  t.equal(await owner.size(), 16 * MiB)
})

t.test('the image has no such lock', async t => {
  const { image, other } = await asker(t)
  await image.disableFeatures(['fast-diff', 'object-map', 'exclusive-lock'])
  await byLockOwner(image, null, () => sleep(silenceMs + 5000))
  await using another = await other.openImage('disk')
  t.same((await another.watchers()).length, 2, 'and nothing is left open')
})

t.test('the owner announces itself in the moment that it is asked', async t => {
  const { image, other } = await asker(t)
  const begunAt = performance.now()
  let tries = 0
  let longestMs = 0
  for (; longestMs < silenceMs && performance.now() - begunAt < 60_000; tries++) {
    await using owner = await other.openImage('disk')
    const write = (_: unknown, i: number) => owner.write(i * 65_536, Buffer.alloc(8192, i))
    const writes = Array.from({ length: 20 }, write)
    const askedAt = performance.now()
    const change = tries % 2 ? image.resize(8 * MiB + tries * 4096) : image.metadata.set('key', `${tries}`)
    const changed = change.then(() => performance.now() - askedAt)
    await Promise.all([...writes, ...Array.from({ length: 20 }, write)])
    longestMs = Math.max(longestMs, await changed)
  }
  t.ok(longestMs < 2 * silenceMs, `${tries} changes, of which one took ${longestMs.toFixed(0)} ms`)
})
