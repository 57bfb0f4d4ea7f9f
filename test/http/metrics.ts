import t from 'tap'
import { type Job, TestSite, until } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { get, metricsOf } from '../support/metrics.js'

/** As `site.publish`, but at some time. */
async function publishAt(site: TestSite, timestamp: number, job: Job): Promise<void> {
  await site.onBroker(async channel => {
    const content = Buffer.from(JSON.stringify(job))
    channel.publish(`${site.environment.JOBS_EXCHANGE}`, site.agentId, content, { timestamp })
  })
  await until('the result', () => site.resultsOf(job)[0])
}

t.test('metrics', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const agent = await site.startAgent()
  t.equal((await get(agent, '/metrics')).type, 'text/plain; version=0.0.4; charset=utf-8')

  await t.test('count jobs by action and outcome, whatever the messages say', async t => {
    await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 16 }))
    await site.perform(site.job('storage.create', { name: 'web', imageId: 'none', sizeMB: 16 }))
    await site.succeed(site.job('inventory.refresh', {}))
    await site.perform(site.job('made.up', {}))
    await site.perform(site.job('made.up.too', {}))
    const metrics = await metricsOf(agent)
    const jobs = (action: string, outcome: string) =>
      metrics.get(`cephkit_jobs_total{action="${action}",outcome="${outcome}"}`)
    t.equal(jobs('storage.create', 'ok'), 1)
    t.equal(jobs('storage.create', 'IMAGE_NOT_FOUND'), 1)
    t.equal(jobs('inventory.refresh', 'ok'), 1)
    t.equal(jobs('unknown', 'INVALID_JOB'), 2)
    t.equal(metrics.get('cephkit_job_duration_seconds_count{action="storage.create"}'), 2)
  })

  await t.test('have how long each step took', async t => {
    const metrics = await metricsOf(agent)
    const steps = [...metrics].filter(([name]) => name.startsWith('cephkit_job_step_duration_seconds_count{'))
    const made = steps.filter(([name]) => /action="storage.create",step="\w+",verb="make"/.test(name))
    t.ok(made.length > 1, `${made.length} steps of a create`)
    t.ok(made.every(([, count]) => count >= 1))
    const sum = [...metrics].find(([name]) => /step_duration_seconds_sum\{.*verb="make"/.test(name))
    t.ok(sum && sum[1] > 0)
  })

  await t.test('a job that is answered again is not counted again', async t => {
    const job = site.job('storage.create', { name: 'again', imageId, sizeMB: 16 })
    await site.succeed(job)
    const before = (await metricsOf(agent)).get('cephkit_jobs_total{action="storage.create",outcome="ok"}')
    await site.succeed(job)
    t.equal((await metricsOf(agent)).get('cephkit_jobs_total{action="storage.create",outcome="ok"}'), before)
  })

  await t.test('tell how old a job was when it was begun, if it says so', async t => {
    const count = async () => (await metricsOf(agent)).get('cephkit_queue_lag_seconds_count')
    const sum = async () => (await metricsOf(agent)).get('cephkit_queue_lag_seconds_sum') ?? 0
    t.equal(await count(), 0, 'none of those before did')
    await publishAt(site, Math.floor(Date.now() / 1000) - 100, site.job('inventory.refresh', {}))
    t.equal(await count(), 1)
    const first = await sum()
    t.ok(first >= 100 && first < 130, `${first} s`)
    await publishAt(site, Date.now() - 50_000, site.job('inventory.refresh', {}))
    const second = (await sum()) - first
    t.ok(second >= 50 && second < 80, `${second} s, of a time stamp in milliseconds`)
  })

  await t.test('have the journal and the queue', async t => {
    const metrics = await until('the results to be settled', async () => {
      const found = await metricsOf(agent)
      return found.get('cephkit_journal_open_jobs') === 0 && found
    })
    t.equal(metrics.get('cephkit_queue_messages'), 0)
    t.equal(metrics.get('cephkit_jobs_in_hand'), 0)
    t.ok(metrics.has('cephkit_journal_done_jobs'))
    for (const part of ['broker', 'cluster', 'journal']) t.equal(metrics.get(`cephkit_ready{part="${part}"}`), 1)
  })

  await t.test('count the calls of the library, and why they failed', async t => {
    const pool = await site.volumePool()
    await t.rejects(pool.openImage('none'))
    await pool.close()
    const metrics = await metricsOf(agent)
    t.ok((metrics.get('cephkit_library_calls_total{operation="poolCloneImage"}') ?? 0) >= 2)
    t.ok((metrics.get('cephkit_library_call_seconds_total{operation="poolCloneImage"}') ?? 0) > 0)
    const errors = [...metrics.keys()].filter(name => name.startsWith('cephkit_library_errors_total'))
    const expected = 'cephkit_library_errors_total{operation="imageOpen",syscall="rbd_aio_open",code="ENOENT"}'
    t.ok(errors.includes(expected), errors.join('\n'))
  })

  await t.test('have the threads that calls wait for', async t => {
    const pool = await site.volumePool()
    let goesOn = true
    const calls = Array.from({ length: 20 }, async () => {
      while (goesOn) await pool.listImages()
    })
    const busy = async () => (await metricsOf(agent)).get('cephkit_workers{state="busy"}') ?? 0
    await until('a thread to be busy', async () => (await busy()) > 0)
    goesOn = false
    await Promise.all(calls)
    t.equal((await metricsOf(agent)).get('cephkit_workers{state="queued"}'), 0)
    await pool.close()
  })

  await t.test('have the process and its event loop', async t => {
    const metrics = await metricsOf(agent)
    for (const name of ['process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds']) t.ok(metrics.has(name))
    t.ok([...metrics.keys()].some(name => /^cephkit_info\{version="\d/.test(name)))
  })
})
