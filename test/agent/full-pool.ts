/** A pool of volumes that has reached its quota, by objects and by bytes: the journal is in it, too. */
import t, { type Test } from 'tap'
import { MiB } from '../../lib/index.js'
import type { Agent, JobResult } from '../../src/agent/index.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { fill, isFull, type Quota, untilRoom } from '../support/full-pool.js'

t.setTimeout(240_000)

/** Of data in the volume that is deleted, in objects of `dataBytes`; the quotas lie between that and what the journal takes. */
const dataObjects = 80
const dataBytes = 8192
const quotas = { max_objects: 70, max_bytes: 400_000 } as const

interface Filled {
  site: TestSite
  agent: Agent
  poolName: string
  big: string
  clone: string
}

/** A volume with a snapshot and a clone, as large as the quota. */
async function filled(t: Test, quota: Quota, settings: Record<string, string>): Promise<Filled> {
  const site = await TestSite.open(t)
  // Less than the 30 seconds that the library waits for an OSD.
  site.patienceMs = 20_000
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  const agent = await site.startAgent(settings)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'big', sizeMB: dataObjects * 4 }))
  const pool = await site.volumePool()
  const image = await pool.openImage(disk.name)
  for (let i = 0; i < dataObjects; i++) await image.write(i * 4 * MiB, Buffer.alloc(dataBytes, 1))
  await image.close()
  await pool.close()
  await site.succeed(site.job('storage.snapshot.create', { refId: disk.name, snapshot: 'before' }))
  const cloned = await site.succeed(site.job('storage.clone', { refId: disk.name, name: 'clone' }))
  await fill(poolName, quota, quotas[quota])
  return { site, agent, poolName, big: disk.name, clone: cloned.disk.name }
}

const refused = {
  ok: false,
  code: 'QUOTA_EXCEEDED',
  retryable: true,
  rollback: { complete: true, leftovers: [] },
}

async function readiness(agent: Agent) {
  const answer = await fetch(`${agent.httpUrl}/readyz`)
  return { status: answer.status, ...((await answer.json()) as object) }
}

for (const quota of ['max_objects', 'max_bytes'] as const) {
  t.test(`an agent whose pool is at its quota of ${quota}`, async t => {
    const { site, agent, poolName, big, clone } = await filled(t, quota, { TRASH_DELAY_MS: '0' })

    await t.test('says what needs room that there is none, and nothing is left of it', async t => {
      const before = await stateOf(site, big)
      const jobs: Job[] = [
        site.job('storage.create', { name: 'new', sizeMB: 8 }),
        site.job('storage.clone', { refId: big, name: 'new' }),
        site.job('storage.clone', { refId: big, name: 'new', snapshot: 'before' }),
        site.job('storage.snapshot.create', { refId: big, snapshot: 'new' }),
        site.job('storage.resize', { refId: big, sizeMB: 100_000 }),
        site.job('storage.flatten', { refId: clone }),
      ]
      for (const job of jobs) {
        const result: JobResult = await site.perform(job)
        t.match(result, refused, `${job.action}: ${JSON.stringify(result)}`)
      }
      t.same(await stateOf(site, big), before)
    })

    await t.test('is ready, as it can make room', async t => {
      t.match(await readiness(agent), { status: 200, ready: true, journal: { ok: true } })
    })

    await t.test('starts', async t => {
      await agent.stop()
      const again = await site.startAgent({ TRASH_DELAY_MS: '0' })
      await until('it to be ready', async () => (await readiness(again)).status === 200)
      t.match(await site.perform(site.job('storage.create', { name: 'new', sizeMB: 8 })), refused)
    })

    await t.test('makes room, and has it', async t => {
      t.ok(await isFull(poolName))
      await site.succeed(site.job('storage.snapshot.delete', { refId: big, snapshot: 'before' }))
      const gone = await site.succeed(site.job('storage.delete', { refId: clone }))
      t.same(gone.deletedDisks, [{ pool: poolName, image: clone }])
      t.ok(await isFull(poolName), 'not enough yet')
      const deleted = await site.succeed(site.job('storage.delete', { refId: big }))
      t.same(deleted.deletedDisks, [{ pool: poolName, image: big }])
      t.same(await site.imageNames(), [])
      await untilRoom(poolName)
      await site.succeed(site.job('storage.create', { name: 'new', sizeMB: 8 }))
    })
  })
}

t.test('a pool at its quota is made room in by what goes from the trash in its time', async t => {
  const { site, poolName, big, clone } = await filled(t, 'max_bytes', { TRASH_DELAY_MS: '1000' })
  const pool = await site.volumePool()
  t.teardown(() => pool.close())
  // A clone keeps its parent, from the trash, too.
  for (const refId of [clone, big]) {
    t.ok(await isFull(poolName))
    await site.succeed(site.job('storage.delete', { refId }))
    await until('the trash to be empty', async () => (await pool.trash.list()).length === 0)
  }
  await untilRoom(poolName)
})

/** What jobs could change. */
async function stateOf(site: TestSite, volume: string) {
  const pool = await site.volumePool()
  const image = await pool.openImage(volume, { readOnly: true })
  const { size, flags } = await image.stat()
  const snapshots = (await image.listSnapshots()).map(({ name, namespace }) => `${namespace} ${name}`)
  const metadata = await image.metadata.list()
  await image.close()
  const objects: string[] = []
  for await (const { name } of pool.listObjects()) objects.push(name)
  await pool.close()
  return { images: await site.imageNames(), size, flags, snapshots, metadata, objects: objects.sort() }
}
