/**
 * The storage agent: takes jobs from a broker, does them on a Ceph cluster, and answers.
 *
 * @example
 * const agent = createAgent({ config: readConfig(process.env) })
 * await agent.start()
 * process.once('SIGTERM', () => agent.stop())
 */
import { setTimeout as delay } from 'node:timers/promises'
import { AbortError, Cluster } from '../../lib/index.js'
import { Broker } from '../amqp/broker.js'
import { json } from '../amqp/publisher.js'
import type { Config } from '../config.js'
import { collectInventory } from '../inventory/collect.js'
import { Telemetry } from '../inventory/telemetry.js'
import { JobRunner } from '../jobs/runner.js'
import { createLogger, type Logger } from '../log.js'
import { version } from '../version.js'

export { importCatalogImage } from '../catalog.js'
export { type Config, ConfigError, readConfig } from '../config.js'
export type { Inventory, InventoryCatalogImage, InventoryVolume } from '../inventory/collect.js'
export type { JobResult } from '../jobs/message.js'
export type { Leftover, Rollback } from '../jobs/saga.js'

export interface AgentOptions {
  /** As `readConfig` gives it. */
  config: Config
  /** Default: standard output, as the configuration says. Another one has to keep secrets out by itself. */
  log?: Logger
}

/** How long a stop waits for jobs that run, in milliseconds. */
const stopLimitMs = 30_000

/** An agent that has not been started. */
export function createAgent({ config, log = createLogger(config) }: AgentOptions): Agent {
  return new Agent(config, log)
}

export class Agent {
  readonly #config: Config
  readonly #log: Logger
  readonly #stopped = new AbortController()
  /** What takes down what `start` has set up, last first. */
  readonly #takeDown: (() => Promise<void>)[] = []
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  /** @internal */
  constructor(config: Config, log: Logger) {
    this.#config = config
    this.#log = log
  }

  /**
   * Connects to the cluster and to the broker. Resolves when jobs can come; if the broker is away, it waits for it.
   *
   * @throws {CephError} the cluster cannot be reached, or has no such pool; nothing is left running then
   * @throws {AbortError} stopped meanwhile
   */
  start(): Promise<void> {
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    try {
      await this.#setUp()
      this.#checkNotStopped()
    } catch (error) {
      await this.#unwind()
      throw error
    }
  }

  async #setUp(): Promise<void> {
    const config = this.#config
    const log = this.#log
    log.info({ version, agentId: config.agentId }, 'starting')
    const cluster = await this.#connect()
    const telemetry: Telemetry = new Telemetry({
      config,
      log,
      collect: signal => collectInventory({ cluster, config, log, signal }),
      publish: (routingKey, message) =>
        broker.publish({
          exchange: config.broker.telemetryExchange,
          routingKey,
          content: json(message),
          options: { contentType: 'application/json', persistent: true },
        }),
    })
    const runner = new JobRunner({ config, cluster, telemetry, log })
    const broker = new Broker({ config, runner, log, onConnected: () => telemetry.connected() })
    this.#takeDown.unshift(() => broker.close())
    this.#takeDown.unshift(() => telemetry.stop())
    this.#takeDown.unshift(() => this.#finish(runner, broker))
    this.#checkNotStopped()
    telemetry.start()
    await broker.start()
  }

  async #connect(): Promise<Cluster> {
    const { configFile, user, keyring, volumePool } = this.#config.ceph
    const cluster = await Cluster.connect({ configFile, user, keyring, signal: this.#stopped.signal })
    this.#takeDown.unshift(() => cluster.close())
    // A pool that does not exist is better said now than by every job.
    await (await cluster.openPool(volumePool)).close()
    return cluster
  }

  #checkNotStopped(): void {
    if (this.#stopped.signal.aborted) throw new AbortError({ cause: 'the agent was stopped' })
  }

  /** Lets the jobs that run come to their end. What has not begun, or takes too long, stays in the queue. */
  async #finish(runner: JobRunner, broker: Broker): Promise<void> {
    const finished = Promise.all([runner.stop(), broker.drain()])
    const tooLong = delay(stopLimitMs, 'too long', { ref: false })
    if ((await Promise.race([finished, tooLong])) === 'too long') {
      this.#log.warn({ ms: stopLimitMs }, 'jobs are not done in time and stay in the queue')
      runner.giveUp()
    }
  }

  /**
   * Takes no further jobs, waits for those that run, up to 30 seconds, and closes everything. What was not done stays in
   * the queue. Calls that a cluster does not answer are waited for until they time out. Safe to call again.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#log.info('stopping')
    this.#stopped.abort()
    await this.#unwind()
    // Whoever has called `start` hears of its failure; here it only has to be over.
    await this.#starting?.catch(() => {})
    this.#log.info('stopped')
  }

  async #unwind(): Promise<void> {
    for (let takeDown = this.#takeDown.shift(); takeDown; takeDown = this.#takeDown.shift()) {
      try {
        await takeDown()
      } catch (error) {
        this.#log.error({ err: error }, 'taking down goes on after a failure')
      }
    }
  }
}
