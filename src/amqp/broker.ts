import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import type { JobResult } from '../jobs/message.js'
import type { JobRunner } from '../jobs/runner.js'
import { brokerAddress, type Logger } from '../log.js'
import type { AgentMetrics } from '../metrics/agent.js'
import type { Outgoing } from './publisher.js'
import { Session } from './session.js'

interface Surroundings {
  config: Config
  runner: JobRunner
  metrics: AgentMetrics
  log: Logger
  /** Called when jobs can come: at first, and after each loss of the broker. */
  onConnected: () => void
  /** Told when the broker cannot be used, with the reason, and when it can: undefined. */
  onState: (trouble: string | undefined) => void
  /** Milliseconds for which a message without an answer is kept. Default: 20 minutes. */
  holdMs?: number
}

/** The longest pause before the broker is tried again, in milliseconds, unless the first is longer. */
const longestDelayMs = 60_000

/**
 * Keeps a session with the broker: when it ends, or cannot be opened, another is tried after a pause that grows with each
 * failure. The pauses are spread, so that the agents that have lost one broker do not all come back at once.
 */
export class Broker {
  readonly #surroundings: Surroundings
  readonly #stopping = new AbortController()
  readonly #stopped = new Promise<undefined>(resolve => {
    this.#stopping.signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
  #session: Session | undefined
  #loop: Promise<void> | undefined

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings
  }

  /** Resolves when jobs can come, however long the broker is away; or when it is closed before that. */
  start(): Promise<void> {
    return new Promise(resolve => {
      this.#loop = this.#stayConnected(resolve).finally(resolve)
    })
  }

  async #stayConnected(onFirst: () => void): Promise<void> {
    const { config, metrics, log, onConnected, onState } = this.#surroundings
    let sessions = 0
    const address = brokerAddress(config.broker.url)
    const { signal } = this.#stopping
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await using session = await Session.open(this.#surroundings, signal)
        this.#session = session
        failures = 0
        log.info({ broker: address, queue: config.broker.taskQueue }, 'connected to the broker')
        if (sessions++ > 0) metrics.reconnected()
        onState(undefined)
        onFirst()
        onConnected()
        const reason = await Promise.race([session.ended, this.#stopped])
        if (reason) log.warn({ broker: address, reason: reason.message }, 'lost the broker')
        onState(reason?.message ?? 'closed')
      } catch (error) {
        if (!signal.aborted) log.warn({ broker: address, reason: messageOf(error) }, 'no connection to the broker')
        onState(messageOf(error))
      }
      this.#session = undefined
      await this.#pause(failures)
    }
  }

  async #pause(failures: number): Promise<void> {
    const { reconnectDelayMs } = this.#surroundings.config.broker
    const longest = Math.max(longestDelayMs, reconnectDelayMs)
    const full = Math.min(reconnectDelayMs * 2 ** failures, longest)
    const { signal } = this.#stopping
    await delay(full * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {})
  }

  /**
   * Rejects when there is no broker, or it takes nothing at the moment. What is sent before it has said so waits with the
   * broker until it does, or is gone.
   */
  async publish(message: Outgoing): Promise<void> {
    if (!this.#session) throw new Error('not connected to the broker')
    if (this.#session.isBlocked) throw new Error('the broker takes nothing at the moment')
    await this.#session.publish(message)
  }

  /** Has the broker take a result that no message waits for. Returns false if the broker is away. */
  async publishResult(action: string, result: JobResult): Promise<boolean> {
    return (await this.#session?.publishResult(action, result)) ?? false
  }

  /** How many messages of the task queue nobody has in hand. Rejects if the broker is away. */
  async countWaiting(): Promise<number> {
    if (!this.#session) throw new Error('not connected to the broker')
    return this.#session.countWaiting()
  }

  /** Takes no further messages. Resolves when those in hand are answered, or belong to no session any more. */
  async drain(): Promise<void> {
    await this.#session?.drain()
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }
}
