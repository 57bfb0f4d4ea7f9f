import { mock } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Pool } from '../../lib/index.js'
import type { JobResult } from '../../src/jobs/message.js'
import type { JobRunner } from '../../src/jobs/runner.js'
import { type Job, TestSite } from '../support/broker.js'
import { newRunner } from '../support/runner.js'

function take(runner: JobRunner, job: Job): Promise<JobResult> {
  return runner.take(Buffer.from(JSON.stringify(job))).result
}

t.test('a result', async t => {
  const site = await TestSite.open(t)
  const refresh = () => site.job('inventory.refresh', {})

  await t.test('is kept until it is published, however long that takes', async t => {
    const { runner } = newRunner(site)
    const job = refresh()
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => mock.timers.reset())
    const first = take(runner, job)
    t.ok((await first).ok)
    mock.timers.tick(7 * 24 * 3600 * 1000)
    t.equal(take(runner, job), first)
    runner.forget(job.taskId, first)
    t.not(take(runner, job), first, 'then the job is done anew')
  })

  await t.test('that has been published is forgotten, and not the one of a later run', async t => {
    const { runner } = newRunner(site)
    const job = refresh()
    const [first, shared] = [take(runner, job), take(runner, job)]
    t.equal(shared, first)
    await first
    runner.forget(job.taskId, first)
    const second = take(runner, job)
    runner.forget(job.taskId, shared)
    t.equal(take(runner, job), second)
    await second
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
  const { runner: first } = newRunner(site)
  const { disk } = (await take(first, site.job('storage.create', { name: 'web', sizeMB: 8192 }))).result as {
    disk: { name: string; id: string }
  }
  await fill(pool, disk.name)
  const job = site.job('storage.delete', { refId: disk.name })
  const removing = take(first, job)
  const isListed = async () => (await site.imageNames()).includes(disk.name)
  while (!(await isBeingRemoved(pool, disk.id))) await delay(1)
  first.giveUp()
  await t.rejects(removing, { message: 'given up' })
  t.equal(await isListed(), true, 'RBD still lists it')

  const { runner: next } = newRunner(site)
  const result = await take(next, job)
  t.match(result, { ok: true, result: { deletedDisks: [{ image: disk.name }] } })
  t.equal(await isListed(), false)
})

function isBeingRemoved(pool: Pool, id: string): Promise<boolean> {
  return pool.trash.get(id).then(
    () => true,
    () => false,
  )
}
