/** A pool of volumes that is as full as its quota lets it be: the journal is in it, too. */
import { appendFile, copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { testFolder } from '../support/golden.js'

t.setTimeout(120_000)

t.test('an agent whose pool is full', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  // So that it gives up sooner.
  const CEPH_CONF = join(await testFolder(t), 'ceph.conf')
  await copyFile(process.env.CEPH_CONF ?? '', CEPH_CONF)
  await appendFile(CEPH_CONF, '\n[client]\nrados osd op timeout = 3\n')
  const agent = await site.startAgent({ CEPH_CONF })
  const { disk } = await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }))
  const setQuota = (bytes: number) => run('ceph', 'osd', 'pool', 'set-quota', poolName, 'max_bytes', String(bytes))
  const journal = async () => {
    const health = (await (await fetch(`${agent.httpUrl}/readyz`)).json()) as Record<
      string,
      { ok: boolean; reason?: string }
    >
    return health.journal
  }
  t.match(await journal(), { ok: true })
  const pool = await site.volumePool()
  await using image = await pool.openImage(disk.name)
  await image.write(0, Buffer.alloc(2 ** 20, 1))
  await image.close()
  await pool.close()
  await setQuota(1)

  await t.test('says that nothing can be written', async t => {
    const told = await until('the trouble', async () => ((await journal())?.ok ? undefined : await journal()))
    t.match(told, { ok: false, reason: /nothing can be written, so no job can begin or end: / })
  })

  await t.test('does what has come meanwhile when there is room again, each once', async t => {
    const jobs = [
      site.job('storage.create', { name: 'late', sizeMB: 8 }),
      site.job('storage.delete', { refId: disk.name }),
    ]
    for (const job of jobs) await site.publish(job)
    await until('them to wait', () => site.logs.some(({ msg }) => /journal cannot be reached/.test(msg)))
    for (const job of jobs) t.same(site.resultsOf(job), [])
    await setQuota(0)
    for (const job of jobs) t.match(await until('its result', () => site.resultsOf(job)[0]), { ok: true })
    t.equal((await site.imageNames()).length, 1)
    await until('the journal to be well', async () => (await journal())?.ok)
  })
})
