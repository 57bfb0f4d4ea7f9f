/** The part of an agent that does jobs, without its broker. */
import { pino } from 'pino'
import type { Test } from 'tap'
import { readConfig } from '../../src/agent/index.js'
import { TenantBase } from '../../src/cephfs/base.js'
import { Health } from '../../src/http/health.js'
import { collectInventory } from '../../src/inventory/collect.js'
import { Telemetry } from '../../src/inventory/telemetry.js'
import type { JobResult } from '../../src/jobs/message.js'
import { JobRunner, type Taken } from '../../src/jobs/runner.js'
import { Instance } from '../../src/journal/instance.js'
import { Journal } from '../../src/journal/journal.js'
import { AgentMetrics } from '../../src/metrics/agent.js'
import type { Job, TestSite } from './broker.js'
import { testCluster } from './cluster.js'

/** It has a connection of its own, as an agent has. `die` ends it as if its process had died. */
export async function newRunner(t: Test, { environment }: TestSite) {
  const config = readConfig(environment)
  const log = pino({ enabled: false })
  const cluster = await testCluster(t)
  const journal = await Journal.open({
    cluster,
    poolName: config.ceph.volumePool,
    agentId: config.agentId,
    takeover: config.journal.takeover,
    log,
  })
  let isDead = false
  t.teardown(() => isDead || journal.close())
  const collect = (signal: AbortSignal) => collectInventory({ cluster, config, log, signal })
  const telemetry = new Telemetry({ config, log, collect, publish: async () => {} })
  const metrics = new AgentMetrics(new Health())
  const tenants = new TenantBase({ cluster, config, log })
  t.teardown(() => tenants.close())
  const die = async () => {
    isDead = true
    await journal.instance.stop()
    await cluster.close()
    Instance.forget(journal.instance.id)
  }
  return {
    config,
    log,
    telemetry,
    tenants,
    journal,
    metrics,
    cluster,
    runner: new JobRunner({ config, cluster, telemetry, journal, metrics, log, tenants }),
    die,
  }
}

export function take(runner: JobRunner, job: Job): Taken {
  return runner.take(Buffer.from(JSON.stringify(job)))
}

export async function resultOf({ answer, release }: Taken): Promise<JobResult> {
  const { result, settle } = await answer
  await settle?.()
  release()
  return result
}
