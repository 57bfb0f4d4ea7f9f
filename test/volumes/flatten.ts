import t from 'tap'
import type { Pool } from '../../lib/index.js'
import type { JobRunner } from '../../src/jobs/runner.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { golden } from '../support/golden.js'
import { newRunner, resultOf, take } from '../support/runner.js'

t.test('storage.flatten', async t => {
  const site = await TestSite.open(t)
  const { name: imageId, content } = await golden(t, site)
  const poolName = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()
  const pool = await site.volumePool()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 8 }, { tenantId }))).disk
  const flatten = (refId: string) => site.job('storage.flatten', { refId })

  await t.test('makes a volume independent of what it is a clone of', async t => {
    const { name, refId } = await newVolume()
    const job = flatten(refId)
    const answers = await Promise.all([site.succeed(job), site.succeed(job)])
    answers.push(await site.succeed(job))
    for (const answer of answers) t.same(answer, { refId, flattened: true }, 'however often the job comes')
    await using image = await pool.openImage(name, { readOnly: true })
    t.equal(await image.parent(), null)
    t.ok((await image.read(0, content.length)).equals(content))
    t.same(await site.succeed(flatten(name)), { refId: name, flattened: false }, 'another job has nothing to do')
  })

  await t.test('refuses', async t => {
    const other = await newVolume('umbrella')
    await run('rbd', 'clone', `${site.environment.CEPH_CATALOG_POOL}/${imageId}@base`, `${poolName}/theirs`)
    t.match(await site.perform(flatten('missing')), { ok: false, code: 'IMAGE_NOT_FOUND' })
    t.match(await site.perform(site.job('storage.flatten', {})), { ok: false, code: 'INVALID_JOB' })
    for (const name of ['theirs', other.name]) {
      t.match(await site.perform(flatten(name)), { ok: false, code: 'IMAGE_NOT_OURS' })
      await using image = await pool.openImage(name, { readOnly: true })
      t.ok(await image.parent())
    }
  })
})

/** A volume that takes a while to flatten: a clone of many objects. */
async function largeClone(site: TestSite, runner: JobRunner, pool: Pool): Promise<string> {
  const source = await diskOf(runner, site.job('storage.create', { name: 'large', sizeMB: 4096 }))
  await using image = await pool.openImage(source)
  const { objects, objectSize } = await image.stat()
  await Promise.all(Array.from({ length: objects }, (_, i) => image.write(i * objectSize, Buffer.alloc(512, 1))))
  await image.close()
  return diskOf(runner, site.job('storage.clone', { refId: source, name: 'copy' }))
}

async function diskOf(runner: JobRunner, job: Job): Promise<string> {
  const result = await resultOf(take(runner, job))
  if (!result.ok) throw new Error(result.error)
  return (result.result as { disk: { name: string } }).disk.name
}

/** One object at a time, so that there is a middle of it, however busy the machine is. */
const slowly = ['rbd_concurrent_management_ops', '1'] as const

/** Waits until some of the clone's data is its own. */
function untilBegun(pool: Pool, name: string): Promise<boolean> {
  return until('the flatten to begin', async () => {
    await using image = await pool.openImage(name, { readOnly: true })
    return (await image.usedBytes()) > 0
  })
}

async function isClone(pool: Pool, name: string): Promise<boolean> {
  await using image = await pool.openImage(name, { readOnly: true })
  return (await image.parent()) !== null
}

t.test('a storage.flatten that is cut short', async t => {
  const site = await TestSite.open(t)
  const pool = await site.volumePool()

  await t.test('by the end of the agent is finished by the next one', async t => {
    const first = await newRunner(t, site)
    const name = await largeClone(site, first.runner, pool)
    await first.cluster.setOption(...slowly)
    const job = site.job('storage.flatten', { refId: name })
    const flattening = take(first.runner, job).answer
    await untilBegun(pool, name)
    first.runner.giveUp()
    await t.rejects(flattening, { name: 'NotDoneError' })
    t.ok(await isClone(pool, name))
    await first.die()
    const { runner } = await newRunner(t, site)
    t.match(await resultOf(take(runner, job)), { ok: true, result: { refId: name, flattened: true } })
    t.notOk(await isClone(pool, name))
  })

  await t.test('by somebody who cancels it has failed, and another job goes on with it', async t => {
    const { runner, journal, cluster } = await newRunner(t, site)
    const name = await largeClone(site, runner, pool)
    await cluster.setOption(...slowly)
    const job = site.job('storage.flatten', { refId: name })
    const flattening = take(runner, job)
    await untilBegun(pool, name)
    await journal.records.cancel(job.agentId, job.taskId)
    t.match(await resultOf(flattening), { ok: false, code: 'CANCELLED', rollback: { complete: true } })
    t.ok(await isClone(pool, name))
    const again = site.job('storage.flatten', { refId: name })
    t.match(await resultOf(take(runner, again)), { ok: true, result: { flattened: true } })
    t.notOk(await isClone(pool, name))
  })
})
