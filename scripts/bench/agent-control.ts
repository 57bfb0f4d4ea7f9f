/** What a control plane does: sends jobs to one agent, and waits for their results. */
import { randomUUID } from 'node:crypto'
import { type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage, connect } from 'amqplib'
import type { JobResult } from '../../src/agent/index.js'

/** Milliseconds without any result, after which there is none to wait for. */
const patienceMs = 60_000

interface Channels {
  publishing: ConfirmChannel
  consuming: Channel
}

export class ControlPlane implements AsyncDisposable {
  /** Of the agent, as far as they are of the broker. */
  readonly settings: Readonly<Record<string, string>>
  readonly #connection: ChannelModel
  readonly #channels: Channels
  /** What goes wrong with the connection. */
  readonly #failed: Promise<never>
  #onResult: (result: JobResult) => void = () => {}

  private constructor(settings: Record<string, string>, connection: ChannelModel, channels: Channels) {
    this.settings = settings
    this.#connection = connection
    this.#channels = channels
    this.#failed = new Promise((_resolve, reject) => {
      connection.on('error', reject)
      connection.on('close', () => reject(new Error('the broker has closed the connection')))
    })
    this.#failed.catch(() => {}) // whoever waits for results hears of it
  }

  /** Of an agent that exposes nothing. @param id - In the names of all that it has on the broker. */
  static async open(brokerUrl: string, id: string): Promise<ControlPlane> {
    const settings = {
      BROKER_URL: brokerUrl,
      STORAGE_CONTROLLER_AGENT_ID: id,
      JOBS_EXCHANGE: `${id}.jobs`,
      RESULTS_EXCHANGE: `${id}.results`,
      TELEMETRY_EXCHANGE: `${id}.telemetry`,
      DEAD_LETTER_EXCHANGE: `${id}.dead`,
      TASK_QUEUE: `${id}.tasks`,
      ISCSI_DRIVER: 'none',
    }
    const connection = await connect(brokerUrl, { noDelay: true })
    try {
      const publishing = await connection.createConfirmChannel()
      const consuming = await connection.createChannel()
      const control = new ControlPlane(settings, connection, { publishing, consuming })
      await control.#listen(settings.RESULTS_EXCHANGE)
      return control
    } catch (error) {
      await connection.close()
      throw error
    }
  }

  async #listen(exchange: string): Promise<void> {
    const { consuming } = this.#channels
    await consuming.assertExchange(exchange, 'topic', { durable: true })
    await consuming.assertQueue(exchange, { durable: true })
    await consuming.bindQueue(exchange, exchange, '#')
    await consuming.consume(exchange, message => {
      if (message !== null) this.#receive(message)
    })
  }

  #receive(message: ConsumeMessage): void {
    this.#channels.consuming.ack(message)
    this.#onResult(JSON.parse(message.content.toString()))
  }

  /**
   * Sends as many jobs, all at once.
   *
   * @returns How many milliseconds it took from the first being published to the last result.
   */
  async perform(action: string, data: object, count: number, signal: AbortSignal): Promise<number> {
    return (await this.#perform(action, data, count, signal)).elapsedMs
  }

  /**
   * Sends one job.
   *
   * @returns Its result, and how many milliseconds that took to come.
   */
  async performOne<T>(action: string, data: object, signal: AbortSignal): Promise<{ result: T; elapsedMs: number }> {
    const { result, elapsedMs } = await this.#perform(action, data, 1, signal)
    return { result: result as T, elapsedMs }
  }

  async #perform(action: string, data: object, count: number, signal: AbortSignal) {
    const agentId = this.settings.STORAGE_CONTROLLER_AGENT_ID
    const jobs = Array.from({ length: count }, () => ({
      taskId: randomUUID(),
      tenantId: 'acme',
      agentId,
      action,
      data,
    }))
    const last = this.#resultsOf(new Set(jobs.map(({ taskId }) => taskId)), signal)
    const begunAt = performance.now()
    for (const job of jobs) this.#publish(job)
    const { result, endedAt } = await Promise.race([last, this.#failed])
    await this.#channels.publishing.waitForConfirms()
    return { result, elapsedMs: endedAt - begunAt }
  }

  #publish(job: { agentId: string | undefined }): void {
    const { JOBS_EXCHANGE = '' } = this.settings
    const options = { persistent: true, contentType: 'application/json' }
    this.#channels.publishing.publish(JOBS_EXCHANGE, job.agentId ?? '', Buffer.from(JSON.stringify(job)), options)
  }

  /** Resolves with the last, and when it came. */
  #resultsOf(missing: Set<string>, signal: AbortSignal): Promise<{ result: unknown; endedAt: number }> {
    return new Promise((resolve, reject) => {
      const giveUp = setTimeout(() => reject(new Error(`no result for ${patienceMs / 1000} s`)), patienceMs)
      const onAbort = () => settle(() => reject(signal.reason))
      const settle = (how: () => void) => {
        clearTimeout(giveUp)
        signal.removeEventListener('abort', onAbort)
        how()
      }
      signal.addEventListener('abort', onAbort)
      this.#onResult = ({ taskId, ok, error, result }) => {
        giveUp.refresh()
        if (!ok) settle(() => reject(new Error(`a job has failed: ${error}`)))
        missing.delete(taskId)
        if (missing.size === 0) settle(() => resolve({ result, endedAt: performance.now() }))
      }
    })
  }

  /** When the agent has ended: nothing of it stays on the broker. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { RESULTS_EXCHANGE = '', DEAD_LETTER_EXCHANGE = '', TASK_QUEUE = '', ...others } = this.settings
    const { JOBS_EXCHANGE = '', TELEMETRY_EXCHANGE = '' } = others
    const { publishing } = this.#channels
    for (const queue of [TASK_QUEUE, RESULTS_EXCHANGE, DEAD_LETTER_EXCHANGE]) await publishing.deleteQueue(queue)
    const exchanges = [JOBS_EXCHANGE, RESULTS_EXCHANGE, TELEMETRY_EXCHANGE, DEAD_LETTER_EXCHANGE]
    for (const exchange of exchanges) await publishing.deleteExchange(exchange)
    await this.#connection.close()
  }
}
