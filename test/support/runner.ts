/** The part of an agent that does jobs, without its broker. */
import { pino } from 'pino'
import { readConfig } from '../../src/agent/index.js'
import { collectInventory } from '../../src/inventory/collect.js'
import { Telemetry } from '../../src/inventory/telemetry.js'
import { JobRunner } from '../../src/jobs/runner.js'
import type { TestSite } from './broker.js'

export function newRunner({ environment, cluster }: TestSite) {
  const config = readConfig(environment)
  const log = pino({ enabled: false })
  const collect = (signal: AbortSignal) => collectInventory({ cluster, config, log, signal })
  const telemetry = new Telemetry({ config, log, collect, publish: async () => {} })
  return { config, log, telemetry, runner: new JobRunner({ config, cluster, telemetry, log }) }
}
