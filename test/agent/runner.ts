import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Pool } from '../../lib/index.js'
import { TestSite } from '../support/broker.js'
import { newRunner, resultOf, take } from '../support/runner.js'

t.test('a job', async t => {
  const site = await TestSite.open(t)
  const { runner } = await newRunner(t, site)
  const create = () => site.job('storage.create', { name: 'web', sizeMB: 1 })

  await t.test('that comes again while it is in hand has a share in the one answer', async t => {
    const job = create()
    const [first, second] = [take(runner, job), take(runner, job)]
    t.equal(first.answer, second.answer)
    await resultOf(first)
    t.ok(runner.has(job), 'as long as a message waits')
    await resultOf(second)
    t.notOk(runner.has(job))
  })

  await t.test('that comes again later has the same result from the journal', async t => {
    const job = create()
    const first = await resultOf(take(runner, job))
    t.ok(first.ok)
    t.same(await resultOf(take(runner, job)), first)
  })

  await t.test('that failed has the same result, too, and does nothing again', async t => {
    const job = site.job('storage.create', { name: 'web', imageId: 'missing', sizeMB: 1 })
    const first = await resultOf(take(runner, job))
    t.match(first, { ok: false, code: 'IMAGE_NOT_FOUND' })
    t.same(await resultOf(take(runner, job)), first)
  })

  await t.test('that only looks looks again', async t => {
    const job = site.job('inventory.refresh', {})
    const first = (await resultOf(take(runner, job))).result as { inventory: { volumes: object[] } }
    await resultOf(take(runner, create()))
    const second = (await resultOf(take(runner, job))).result as { inventory: { volumes: object[] } }
    t.equal(second.inventory.volumes.length, first.inventory.volumes.length + 1)
  })
})

/** Fills it with so many objects that to remove them takes a while. */
async function fill(pool: Pool, name: string): Promise<void> {
  await using image = await pool.openImage(name)
  const { objects, objectSize } = await image.stat()
  await Promise.all(Array.from({ length: objects }, (_, i) => image.write(i * objectSize, Buffer.alloc(512, 1))))
}

t.test('a removal that a stop cannot wait for ends, has no result, and is finished by the next runner', async t => {
  const site = await TestSite.open(t)
  const pool = await site.volumePool()
  const first = await newRunner(t, site)
  const create = site.job('storage.create', { name: 'web', sizeMB: 8192 })
  const { disk } = (await resultOf(take(first.runner, create))).result as { disk: { name: string; id: string } }
  await fill(pool, disk.name)
  const job = site.job('storage.delete', { refId: disk.name })
  const removing = take(first.runner, job).answer
  const isListed = async () => (await site.imageNames()).includes(disk.name)
  while (!(await isBeingRemoved(pool, disk.id))) await delay(1)
  first.runner.giveUp()
  await t.rejects(removing, { name: 'NotDoneError' })
  t.equal(await isListed(), true, 'RBD still lists it')
  await first.die()

  const { runner } = await newRunner(t, site)
  const result = await resultOf(take(runner, job))
  t.match(result, { ok: true, result: { deletedDisks: [{ image: disk.name }] } })
  t.equal(await isListed(), false)
})

function isBeingRemoved(pool: Pool, id: string): Promise<boolean> {
  return pool.trash.get(id).then(
    () => true,
    () => false,
  )
}
