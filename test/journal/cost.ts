/** What the journal costs, in operations of the OSD. On a cluster of its own, where nobody else's are counted. */
import { randomUUID } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { operationsOf } from '../../scripts/bench/osd.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import type { Ledger } from '../../src/jobs/saga.js'
import { createVolume, planCreate } from '../../src/volumes/create.js'
import { TestSite } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { newRunner } from '../support/runner.js'

/** Three at once to begin with, one between two steps, the outcome, the lock given back, and the index at the end. */
const operationsOfCreate = 7

const jobs = 20

t.test('the journal of a storage.create is seven operations', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-own-'))
  t.teardown(() => stopStack(dir))
  const { BROKER_URL, ...env } = (await startStack({ dir })).env
  Object.assign(process.env, env)
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const { runner, config, cluster, telemetry, tenants, log } = await newRunner(t, site)
  await telemetry.stop() // an inventory after each change is none of the journal's
  const job = () => site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })

  const withJournal = async () => {
    const { answer, release } = runner.take(Buffer.from(JSON.stringify(job())))
    const { result, settle } = await answer
    await settle?.()
    release()
    t.ok(result.ok)
  }
  const { signal } = new AbortController()
  const begunAt = new Date().toISOString()
  const withImage = <T>(_image: string, work: () => Promise<T>) => work()
  const services = {
    config,
    cluster,
    tenants,
    telemetry,
    log,
    signal,
    interrupt: signal,
    begunAt,
    goesOn: false,
    withImage,
  }
  const withoutJournal = async () => {
    const message = {
      taskId: randomUUID(),
      tenantId: 'acme',
      agentId: site.agentId,
      action: 'storage.create',
      data: {},
    }
    const plan = planCreate(message, { name: 'web', imageId, sizeMB: 16 }, config)
    const ledger: Ledger = { isNew: true, progress: createVolume.begin(), write: async () => {} }
    await createVolume.run(services, plan, { ledger, log })
  }
  const costOf = async (work: () => Promise<void>) => {
    await work() // opens what is opened once
    const before = await operationsOf(site.cluster)
    for (let i = 0; i < jobs; i++) await work()
    return (await operationsOf(site.cluster)) - before
  }
  const bare = await costOf(withoutJournal)
  const all = await costOf(withJournal)
  t.comment(`${bare / jobs} operations for a volume, ${all / jobs} with the journal`)
  // The lease is renewed now and then, and RBD does not always need the same number.
  const perJob = (all - bare) / jobs
  t.ok(perJob > operationsOfCreate - 1 && perJob < operationsOfCreate + 1, `${perJob} for a job`)
})
