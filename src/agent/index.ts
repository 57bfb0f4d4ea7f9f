/**
 * The storage agent: takes jobs from a broker, does them on a Ceph cluster, and answers.
 *
 * @example
 * const agent = createAgent({ config: readConfig(process.env) })
 * await agent.start()
 * process.once('SIGTERM', () => agent.stop())
 */
import { setTimeout as delay } from 'node:timers/promises'
import { checkKey, checkMembers, checkObject } from '../../lib/check.js'
import { AbortError, Cluster, MountedPath } from '../../lib/index.js'
import { Broker } from '../amqp/broker.js'
import { json } from '../amqp/publisher.js'
import { TenantBase } from '../cephfs/base.js'
import type { Config } from '../config.js'
import { Health, type Part } from '../http/health.js'
import { Probe } from '../http/probe.js'
import { HttpServer } from '../http/server.js'
import { collectInventory } from '../inventory/collect.js'
import { Telemetry } from '../inventory/telemetry.js'
import { TargetKeeper } from '../iscsi/keeper.js'
import { Recovery } from '../jobs/recovery.js'
import { JobRunner } from '../jobs/runner.js'
import { Instance } from '../journal/instance.js'
import { Journal } from '../journal/journal.js'
import { createLogger, type Logger } from '../log.js'
import { AgentMetrics } from '../metrics/agent.js'
import { MountHealth } from '../mount/health.js'
import { version } from '../version.js'
import { Upkeep } from '../volumes/upkeep.js'

export { type ImportCatalogImageOptions, importCatalogImage } from '../catalog.js'
export {
  InvalidTenantError,
  NotTenantError,
  TenantBeingDeletedError,
  TenantBlockedError,
  TenantHasSnapshotsError,
  TenantNotEmptyError,
  TenantNotFoundError,
} from '../cephfs/errors.js'
export type { Tenant } from '../cephfs/spec.js'
export {
  type DeleteTenantOptions,
  type DirectoryState,
  type EnsuredTenant,
  type Mended,
  Tenants,
  type TenantUsage,
} from '../cephfs/tenants.js'
export {
  type Config,
  ConfigError,
  type DashboardSettings,
  type LogSettings,
  type PortalAddress,
  readConfig,
} from '../config.js'
export { BlockedError, type Blocker, JobError } from '../errors.js'
export type { Inventory, InventoryCatalogImage, InventoryVolume } from '../inventory/collect.js'
export type { JobResult } from '../jobs/message.js'
export type { Leftover, Rollback } from '../jobs/saga.js'
export { InstanceLostError } from '../journal/instance.js'
export type { Logger } from '../log.js'

export interface AgentOptions {
  /** As `readConfig` gives it. */
  config: Config
  /** Default: standard output, as the configuration says. Another one has to keep secrets out by itself. */
  log?: Logger
}

/** How long a stop waits for jobs that run, in milliseconds. */
const stopLimitMs = 30_000

/**
 * An agent that has not been started.
 *
 * @throws {TypeError} no configuration: the codes are as with the library's own arguments
 */
export function createAgent(options: AgentOptions): Agent {
  checkMembers('the options of an agent', options, ['config', 'log'])
  const { config } = options
  checkObject('config', config)
  checkKey('config.agentId', config.agentId)
  return new Agent(config, options.log ?? createLogger(config))
}

export class Agent {
  readonly #config: Config
  readonly #log: Logger
  readonly #health = new Health()
  readonly #metrics = new AgentMetrics(this.#health)
  readonly #stopped = new AbortController()
  /** What takes down what `start` has set up, last first. */
  readonly #takeDown: (() => Promise<void>)[] = []
  #lose: (error: Error) => void = () => {}
  /**
   * Resolves, with an InstanceLostError, if the agent has been shut out of the cluster: it counted as gone, and others
   * may have its jobs. It stops by itself then. A new one can be started, best in a new process.
   */
  readonly lost = new Promise<Error>(resolve => {
    this.#lose = resolve
  })
  #httpUrl: string | undefined
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #unwinding = Promise.resolve()

  /** @internal */
  constructor(config: Config, log: Logger) {
    this.#config = config
    this.#log = log
  }

  /** Where `/healthz`, `/readyz` and `/metrics` are, such as `http://127.0.0.1:9283`; undefined before and after. */
  get httpUrl(): string | undefined {
    return this.#httpUrl
  }

  /**
   * Connects to the cluster and to the broker. Resolves when jobs can come; if the broker is away, it waits for it.
   *
   * @throws {CephError} the cluster cannot be reached, or has no such pool; nothing is left running then
   * @throws {Error} HTTP_PORT is in use, or HTTP_HOST is no address of this host
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
    const mount = this.#watchMount()
    await this.#listen(mount)
    const cluster = await this.#connect()
    const journal = await this.#openJournal(cluster)
    this.#watch(this.#health.cluster, () => cluster.stat())
    this.#watch(this.#health.journal, async () => {
      await journal.records.isOpen(config.agentId, '')
      journal.instance.checkWritable()
    })
    const targets = TargetKeeper.of({ config, cluster, log })
    const tenants = new TenantBase({ cluster, config, log })
    this.#takeDown.unshift(() => tenants.close())
    const telemetry: Telemetry = new Telemetry({
      config,
      log,
      mount,
      collect: signal => collectInventory({ cluster, config, log, signal, targets }),
      publish: (routingKey, message) =>
        broker.publish({
          exchange: config.broker.telemetryExchange,
          routingKey,
          content: json(message),
          options: { contentType: 'application/json', persistent: true },
        }),
    })
    const metrics = this.#metrics
    const runner = new JobRunner({ config, cluster, telemetry, journal, metrics, log, targets, tenants })
    const onConnected = () => {
      telemetry.connected()
      recovery.connected()
    }
    const onState = (trouble: string | undefined) => this.#health.broker.set(trouble)
    const broker = new Broker({ config, runner, metrics, log, onConnected, onState })
    const publish = broker.publishResult.bind(broker)
    const recovery: Recovery = new Recovery({ config, journal, runner, log, publish })
    const upkeep = new Upkeep({ config, cluster, journal, log })
    metrics.watch({
      jobsInHand: () => runner.inHand,
      messagesWaiting: () => broker.countWaiting(),
      openJobs: () => journal.records.listOpen(config.agentId),
      doneJobs: () => journal.records.listDone(config.agentId),
      abandonedJobs: () => journal.listAbandoned(),
    })
    this.#takeDown.unshift(() => broker.close())
    this.#takeDown.unshift(() => telemetry.stop())
    this.#takeDown.unshift(() => upkeep.stop())
    this.#takeDown.unshift(async () => targets?.stop())
    this.#takeDown.unshift(() => recovery.stop())
    this.#takeDown.unshift(() => this.#finish(runner, broker))
    this.#checkNotStopped()
    telemetry.start()
    targets?.start()
    // Before any message comes: what this agent had in hand when it died is in hand again then.
    await recovery.start()
    upkeep.start()
    await broker.start()
  }

  /** First of all and until the end: that something is not there yet, or not any more, is what it has to tell. */
  async #listen(mount: MountHealth | undefined): Promise<void> {
    const config = this.#config
    const log = this.#log
    const server = await HttpServer.listen({ config, health: this.#health, metrics: this.#metrics, mount, log })
    this.#httpUrl = server.url
    this.#takeDown.unshift(async () => {
      this.#httpUrl = undefined
      await server.close()
    })
    log.info({ url: server.url }, 'health and metrics over HTTP')
  }

  #watchMount(): MountHealth | undefined {
    if (this.#config.mount === null) return undefined
    const { path, probeIntervalMs, timeoutMs } = this.#config.mount
    const mount = new MountHealth(new MountedPath(path, { timeout: timeoutMs }), probeIntervalMs)
    this.#metrics.watchMount(mount)
    mount.onProbe(({ lastError }, hasChanged) => {
      if (!hasChanged) return
      if (mount.ok) this.#log.info({ path }, 'the mount can be used')
      else this.#log.error({ path, reason: lastError }, 'the mount cannot be used')
    })
    this.#takeDown.unshift(async () => mount.stop())
    mount.start()
    return mount
  }

  #watch(part: Part, ask: () => Promise<unknown>): void {
    const probe = new Probe(part, ask)
    this.#takeDown.unshift(async () => probe.stop())
  }

  async #openJournal(cluster: Cluster): Promise<Journal> {
    const {
      agentId,
      ceph,
      journal: { keepMs, takeover },
    } = this.#config
    const options = { cluster, poolName: ceph.volumePool, agentId, keepMs, takeover, log: this.#log }
    const journal = await Journal.open(options)
    this.#takeDown.unshift(() => journal.close())
    journal.lost.addEventListener('abort', () => this.#onLost(journal.lost.reason), { once: true })
    // At the very end, when the connection is closed: then nothing is under way, and whoever comes next need not wait.
    this.#takeDown.push(async () => Instance.forget(journal.instance.id))
    return journal
  }

  #onLost(error: Error): void {
    this.#log.fatal({ err: error }, 'this agent must not go on')
    this.#lose(error)
    void this.stop()
  }

  async #connect(): Promise<Cluster> {
    const { configFile, user, keyring, volumePool } = this.#config.ceph
    const cluster = await Cluster.connect({
      configFile,
      user,
      keyring,
      // A job that needs room fails where there is none, and one that makes room is done.
      whenFull: 'try',
      signal: this.#stopped.signal,
    })
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
    // A channel that cannot be drained is closed next, with what is in it.
    const finished = Promise.allSettled([runner.stop(), broker.drain()])
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
    this.#health.stopping = true
    // Whoever has called `start` hears of its failure; here it only has to be over.
    const started = this.#starting?.catch(() => {})
    this.#stopped.abort()
    await this.#unwind()
    await started
    this.#log.info('stopped')
  }

  /** One at a time, also if a start that fails and a stop do so at once. */
  #unwind(): Promise<void> {
    this.#unwinding = this.#unwinding.then(() => this.#takeAllDown())
    return this.#unwinding
  }

  async #takeAllDown(): Promise<void> {
    for (let takeDown = this.#takeDown.shift(); takeDown; takeDown = this.#takeDown.shift()) {
      try {
        await takeDown()
      } catch (error) {
        this.#log.error({ err: error }, 'taking down goes on after a failure')
      }
    }
  }
}
