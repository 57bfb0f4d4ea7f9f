import { hostname } from 'node:os'
import { z } from 'zod'
import { coalesced } from '../concurrency.js'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import type { Logger } from '../log.js'
import type { MountHealth } from '../mount/health.js'
import { version } from '../version.js'
import type { Inventory } from './collect.js'

export const heartbeatSchema = z.object({
  agentId: z.string(),
  version: z.string(),
  capabilities: z.array(z.string()),
  host: z.string(),
  ts: z.iso.datetime(),
})

export const mountEventSchema = z.object({
  agentId: z.string(),
  host: z.string(),
  path: z.string(),
  mounted: z.boolean(),
  writable: z.boolean(),
  lastProbeAt: z.iso.datetime(),
  latencyMs: z.number().nullable(),
  lastError: z.string().optional(),
  ts: z.iso.datetime(),
})

interface Source {
  config: Config
  log: Logger
  collect: (signal: AbortSignal) => Promise<Inventory>
  /** Undefined: no mount is configured. */
  mount?: MountHealth | undefined
  /** Sends a message to the telemetry exchange; rejects when the broker is away or does not take it. */
  publish: (routingKey: string, message: object) => Promise<void>
}

/**
 * For how long changes are gathered before they are told: in milliseconds, and in times what the last inventory took, so that
 * an agent with many volumes and many jobs is not busy with inventories.
 */
const changeDelayMs = 1_000
const changeDelayFactor = 9

/**
 * Heartbeats and inventories. They are for whoever watches: one that cannot be sent is logged and not sent later, for the
 * next will say more, and it fails no job.
 */
export class Telemetry {
  readonly #source: Source
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #collectAndPublish: () => Promise<Inventory>
  readonly #stopped = new AbortController()
  #change: NodeJS.Timeout | undefined
  /** How long the last inventory took, in milliseconds. */
  #tookMs = 0
  #collecting: Promise<void> | undefined

  constructor(source: Source) {
    this.#source = source
    this.#collectAndPublish = coalesced(async () => {
      const begunAt = performance.now()
      const inventory = await source.collect(this.#stopped.signal)
      this.#tookMs = performance.now() - begunAt
      // Not waited for: the broker may take it late, and jobs and the next inventory wait for this one.
      void this.#publish(source.config.broker.inventoryRoutingKey, {
        storageId: source.config.agentId,
        ts: new Date().toISOString(),
        inventory,
      })
      return inventory
    })
  }

  /** From now on a heartbeat and an inventory come at every interval. */
  start(): void {
    const { heartbeatIntervalMs, inventoryIntervalMs } = this.#source.config
    this.#timers.add(setInterval(() => this.#heartbeat(), heartbeatIntervalMs))
    this.#timers.add(setInterval(() => this.#inventory(), inventoryIntervalMs))
    this.#source.mount?.onProbe((_, hasChanged) => {
      if (hasChanged) this.#mount()
    })
  }

  /** The broker is there, for the first time or again. */
  connected(): void {
    if (this.#stopped.signal.aborted) return
    this.#heartbeat()
    this.#inventory()
    // What has changed while the broker was away is not sent later.
    this.#mount()
  }

  /** A volume has come, gone or changed. */
  changed(): void {
    if (this.#stopped.signal.aborted) return
    const pauseMs = Math.max(changeDelayMs, this.#tookMs * changeDelayFactor)
    this.#change ??= setTimeout(() => {
      this.#change = undefined
      this.#inventory()
    }, pauseMs)
  }

  /** An inventory that was begun after the call. It is published too. */
  refresh(): Promise<Inventory> {
    return this.#collectAndPublish()
  }

  /** Ends the inventory that is being collected. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    for (const timer of this.#timers) clearInterval(timer)
    clearTimeout(this.#change)
    await this.#collecting
  }

  #heartbeat(): void {
    const { agentId } = this.#source.config
    void this.#publish(`heartbeat.${agentId}`, {
      agentId,
      version,
      capabilities: ['storage', 'inventory'],
      host: hostname(),
      ts: new Date().toISOString(),
    } satisfies z.output<typeof heartbeatSchema>)
  }

  #mount(): void {
    const { config, mount } = this.#source
    if (!mount || this.#stopped.signal.aborted) return
    const { lastProbeAt, ...report } = mount.report
    if (lastProbeAt === null) return
    void this.#publish(`mount.${config.agentId}`, {
      agentId: config.agentId,
      host: hostname(),
      path: mount.path,
      lastProbeAt,
      ...report,
      ts: new Date().toISOString(),
    } satisfies z.output<typeof mountEventSchema>)
  }

  #inventory(): void {
    this.#collecting = this.#collectAndPublish().then(
      () => {},
      error => {
        if (!this.#stopped.signal.aborted) this.#source.log.warn({ err: error }, 'no inventory')
      },
    )
  }

  async #publish(routingKey: string, message: object): Promise<void> {
    try {
      await this.#source.publish(routingKey, message)
    } catch (error) {
      this.#source.log.warn({ routingKey, reason: messageOf(error) }, 'telemetry not sent')
    }
  }
}
