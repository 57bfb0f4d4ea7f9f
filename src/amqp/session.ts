import { once, setMaxListeners } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import { type JobMessage, type JobResult, NotAJobError } from '../jobs/message.js'
import { type Answer, type JobRunner, NotDoneError } from '../jobs/runner.js'
import { InterruptedError } from '../jobs/saga.js'
import type { Logger } from '../log.js'
import type { AgentMetrics } from '../metrics/agent.js'
import { bareLetter, deadLetter, resultMessage, toDeadLetterQueue } from './outgoing.js'
import { type Outgoing, Publisher, UnroutableError, UnwritableError } from './publisher.js'
import { declareTopology } from './topology.js'
import { readDespiteHeaders } from './unreadable.js'

interface Surroundings {
  config: Config
  runner: JobRunner
  metrics: AgentMetrics
  log: Logger
  /** Told when the broker cannot be used, with the reason, and when it can: undefined. */
  onState: (trouble: string | undefined) => void
  /** Milliseconds for which a message without an answer is kept. Default: 20 minutes. */
  holdMs?: number
}

/** RabbitMQ closes the channel of whoever keeps a message for longer than its consumer_timeout: 30 minutes by default. */
const defaultHoldMs = 1_200_000

/** Milliseconds to reach the broker in. */
const connectTimeoutMs = 10_000

/** Milliseconds to have everything declared in. */
const setUpTimeoutMs = 30_000

/** Milliseconds for the broker to agree that the connection is closed. */
const closeTimeoutMs = 5_000

/** How often what nobody takes is tried. Whoever takes results may just be about to start. */
const unroutableTries = 5

/** What becomes of a message: the queue need not keep it, or is to deliver it again, at once or in the next session. */
type Fate = 'done' | 'again' | 'left'

/**
 * One connection to the broker with its two channels: one consumes, the other publishes. They live and die together: when
 * one of them goes, the session ends, and what was delivered in it and not acknowledged comes again in the next.
 */
export class Session implements AsyncDisposable {
  /** Resolves with the reason. */
  readonly ended: Promise<Error>
  /** Resolves when the socket is closed. */
  readonly #closed: Promise<void>
  readonly #connection: ChannelModel
  readonly #surroundings: Surroundings
  readonly #over = new AbortController()
  readonly #inHand = new Set<Promise<void>>()
  #end: (reason: Error) => void = () => {}
  #consumer: { channel: Channel; tag: string } | undefined
  #publisher: Publisher | undefined
  #blocked = false

  private constructor(connection: ChannelModel, surroundings: Surroundings) {
    this.#connection = connection
    this.#surroundings = surroundings
    readDespiteHeaders(connection, surroundings.log)
    // Each message that cannot be published at the moment waits with one.
    setMaxListeners(0, this.#over.signal)
    this.ended = new Promise(resolve => {
      this.#end = reason => {
        this.#over.abort(reason)
        resolve(reason)
      }
    })
    this.#closed = new Promise(resolve => socketOf(connection).once('close', () => resolve()))
    connection.on('error', error => this.#end(error))
    connection.on('close', error => this.#end(error ?? new Error('the connection was closed')))
    connection.on('blocked', reason => {
      this.#blocked = true
      surroundings.log.warn({ reason }, 'the broker takes nothing at the moment')
      surroundings.onState(`it takes nothing at the moment: ${reason}`)
    })
    connection.on('unblocked', () => {
      this.#blocked = false
      surroundings.log.info('the broker takes messages again')
      surroundings.onState(undefined)
    })
  }

  /** Resolves when jobs can come. Rejects when `stop` is aborted before that, and leaves nothing behind. */
  static async open(surroundings: Surroundings, stop: AbortSignal): Promise<Session> {
    const session = new Session(await connectTo(surroundings.config, stop), surroundings)
    const tooLong = setTimeout(() => session.#end(new Error('the broker takes too long')), setUpTimeoutMs)
    const onStop = () => session.#end(new Error('stopped'))
    stop.addEventListener('abort', onStop)
    try {
      stop.throwIfAborted()
      await session.#unlessOver(() => session.#setUp())
      return session
    } catch (error) {
      await session.close()
      throw error
    } finally {
      clearTimeout(tooLong)
      stop.removeEventListener('abort', onStop)
    }
  }

  async #setUp(): Promise<void> {
    const { config, log } = this.#surroundings
    const publishing = await this.#connection.createConfirmChannel()
    this.#endWith(publishing)
    this.#publisher = new Publisher(publishing)
    const consuming = await this.#connection.createChannel()
    this.#endWith(consuming)
    await consuming.prefetch(config.broker.prefetch)
    await declareTopology(this.#connection, config, log)
    await this.#consume(consuming)
  }

  #endWith(channel: Channel): void {
    channel.on('error', error => this.#end(error))
    channel.on('close', () => this.#end(new Error('a channel was closed')))
  }

  /**
   * Rejects with why the session has ended, if that comes first: some calls of amqplib's never settle when the connection is
   * lost at that moment. Nothing of it stays with a session that goes on.
   */
  async #unlessOver<T>(work: () => Promise<T>): Promise<T> {
    const { signal } = this.#over
    signal.throwIfAborted()
    const done = new AbortController()
    const over = once(signal, 'abort', { signal: done.signal }).then(() => Promise.reject(signal.reason))
    try {
      return await Promise.race([work(), over])
    } finally {
      done.abort()
    }
  }

  get #isOver(): boolean {
    return this.#over.signal.aborted
  }

  /** The broker is short of memory or disk space, and reads nothing from this connection, acknowledgements included. */
  get isBlocked(): boolean {
    return this.#blocked
  }

  async #consume(channel: Channel): Promise<void> {
    const { consumerTag } = await channel.consume(this.#surroundings.config.broker.taskQueue, message => {
      if (message === null) void this.#consumeAgain(channel)
      else this.#receive(channel, message)
    })
    this.#consumer = { channel, tag: consumerTag }
  }

  /** The broker has cancelled the consumer: the queue was deleted, or has moved. */
  async #consumeAgain(channel: Channel): Promise<void> {
    const { config, log } = this.#surroundings
    log.warn('the broker has cancelled the consumer')
    try {
      await declareTopology(this.#connection, config, log)
      await this.#consume(channel)
      log.info('consuming again')
    } catch (error) {
      this.#end(toError(error))
    }
  }

  #receive(channel: Channel, message: ConsumeMessage): void {
    if (this.#isOver) return
    const work = this.#process(channel, message).catch(error => this.#end(toError(error)))
    this.#inHand.add(work)
    void work.then(() => this.#inHand.delete(work))
  }

  async #process(channel: Channel, message: ConsumeMessage): Promise<void> {
    const fate = await this.#fateOf(message)
    if (this.#isOver) return
    if (fate === 'done') channel.ack(message)
    if (fate === 'again') channel.nack(message, false, true)
  }

  async #fateOf(message: ConsumeMessage): Promise<Fate> {
    try {
      return await this.#answer(message)
    } catch (error) {
      if (!(error instanceof NotAJobError)) throw error
      this.#surroundings.log.warn({ reason: error.message }, 'not a job: dead-lettered')
      return (await this.#putAside(message, error.message)) ? 'done' : 'left'
    }
  }

  /**
   * Has the job done, and the result published.
   *
   * @throws {NotAJobError}
   */
  async #answer(message: ConsumeMessage): Promise<Fate> {
    const { runner, metrics } = this.#surroundings
    const onBegin = () => metrics.jobBegun(message.properties.timestamp)
    const { job, answer, release } = runner.take(message.content, onBegin)
    try {
      const answered = await this.#unlessTooLong(answer)
      if (answered !== undefined) return (await this.#tell(job, answered)) ? 'done' : 'left'
      this.#logOf(job.action, job).debug('takes long: its message goes back to the queue meanwhile')
      return 'again'
    } catch (error) {
      if (!(error instanceof NotDoneError || error instanceof InterruptedError)) throw error
      // Where this process goes on, somebody else has the job by now: it is waited for when the message comes again.
      return runner.isEnding ? 'left' : 'again'
    } finally {
      release()
    }
  }

  /**
   * Undefined: the broker would not wait much longer. The message then comes again, and has a share in the one answer. It is
   * not acknowledged instead, as it limits how many jobs are in hand, and a job that waits for its image is nowhere else.
   */
  async #unlessTooLong(answer: Promise<Answer>): Promise<Answer | undefined> {
    let timer: NodeJS.Timeout | undefined
    const tooLong = new Promise<undefined>(resolve => {
      timer = setTimeout(resolve, this.#surroundings.holdMs ?? defaultHoldMs, undefined)
    })
    try {
      return await Promise.race([answer, tooLong])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Returns false if the session ended before the broker had the result. */
  async #tell({ action }: JobMessage, { result, settle }: Answer): Promise<boolean> {
    if (settle === undefined) return this.publishResult(action, result)
    const log = this.#logOf(action, result)
    try {
      if (!(await this.#publishAtLast(resultMessage(this.#surroundings.config, action, result), log, 1))) return false
    } catch (error) {
      if (!(error instanceof UnroutableError)) throw error
      log.warn({ reason: error.message }, 'nobody takes the result: it waits in the journal')
      return true
    }
    await settle()
    return true
  }

  /** Returns false if the session has ended first. */
  async #putAside(message: ConsumeMessage, reason: string): Promise<boolean> {
    const { config, log } = this.#surroundings
    try {
      return await this.#handOver(deadLetter(config, message, reason), log)
    } catch (error) {
      if (!(error instanceof UnwritableError)) throw error
      return await this.#handOver(bareLetter(config, message, reason), log)
    }
  }

  /** Returns false if the session has ended first. */
  publishResult(action: string, result: JobResult): Promise<boolean> {
    const message = resultMessage(this.#surroundings.config, action, result)
    return this.#handOver(message, this.#logOf(action, result))
  }

  #logOf(action: string, { taskId }: Pick<JobResult, 'taskId'>): Logger {
    return this.#surroundings.log.child({ job: taskId, action })
  }

  /**
   * Has the broker take the message over: for the dead-letter queue, if it has no other, so that it neither is lost nor
   * keeps others from being handled. Returns false if the session ended first: then what it was about is delivered again.
   *
   * @throws {UnroutableError} not even that queue is there: a new session makes it anew
   * @throws {UnwritableError}
   */
  async #handOver(message: Outgoing, log: Logger): Promise<boolean> {
    try {
      return await this.#publishAtLast(message, log)
    } catch (error) {
      if (!(error instanceof UnroutableError)) throw error
      log.error({ reason: error.message }, 'nobody takes it: dead-lettered')
      return await this.#publishAtLast(toDeadLetterQueue(this.#surroundings.config, message, error.message), log)
    }
  }

  /**
   * Tries until the broker has the message, or the session is over: then it returns false.
   *
   * @throws {UnroutableError} it has come back each time
   * @throws {UnwritableError}
   */
  async #publishAtLast(message: Outgoing, log: Logger, tries = unroutableTries): Promise<boolean> {
    const { config } = this.#surroundings
    for (let returned = 0; !this.#isOver; ) {
      try {
        await this.publish(message)
        return true
      } catch (error) {
        if (this.#isOver) break
        if (error instanceof UnwritableError) throw error
        if (error instanceof UnroutableError && ++returned === tries) throw error
        log.error({ routingKey: message.routingKey, reason: messageOf(error) }, 'not published, trying again')
      }
      await delay(config.broker.reconnectDelayMs, undefined, { signal: this.#over.signal }).catch(() => {})
    }
    return false
  }

  /** Resolves when the broker has the message. */
  async publish(message: Outgoing): Promise<void> {
    if (!this.#publisher || this.#isOver) throw new Error('not connected to the broker')
    await this.#publisher.publish(message)
  }

  /** How many messages of the task queue nobody has in hand. */
  async countWaiting(): Promise<number> {
    // On a channel of its own: the broker closes it if there is no such queue.
    const counting = async () => {
      const channel = await this.#connection.createChannel()
      channel.on('error', () => {}) // what was asked rejects with it
      const { messageCount } = await channel.checkQueue(this.#surroundings.config.broker.taskQueue)
      await channel.close()
      return messageCount
    }
    return this.#unlessOver(counting)
  }

  /** Takes no further messages, and resolves when the broker knows that those in hand are answered. */
  async drain(): Promise<void> {
    if (!this.#consumer) return
    // There is nothing to answer, and the broker would not read that no more is to come.
    if (this.#blocked && this.#inHand.size === 0) return
    const { channel, tag } = this.#consumer
    try {
      await channel.cancel(tag)
      await Promise.all(this.#inHand)
      // The broker drops acknowledgements that it has not come to when the connection closes. It comes to them in order.
      await channel.checkQueue(this.#surroundings.config.broker.taskQueue)
    } catch (error) {
      if (!this.#isOver) throw error // else what is in hand is delivered again
    }
  }

  /** Closes the connection. What is not acknowledged stays in the queue. */
  async close(): Promise<void> {
    this.#end(new Error('closed'))
    this.#connection.close().catch(() => {}) // closed already
    await Promise.race([this.#closed, delay(closeTimeoutMs, undefined, { ref: false })])
    // amqplib only ends the socket, which a broker that hangs would keep open, and this process running.
    socketOf(this.#connection).destroy(new Error('the broker does not close the connection'))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** amqplib gives its options to the socket, so `stop` can end that too; but from then on it is for the session to close. */
async function connectTo({ broker, serviceName, agentId }: Config, stop: AbortSignal): Promise<ChannelModel> {
  const connecting = new AbortController()
  const onStop = () => connecting.abort(stop.reason)
  stop.addEventListener('abort', onStop)
  try {
    stop.throwIfAborted()
    const options = {
      timeout: connectTimeoutMs,
      noDelay: true,
      clientProperties: { connection_name: `${serviceName} ${agentId}` },
      signal: connecting.signal,
    }
    return await connect(broker.url, options)
  } finally {
    stop.removeEventListener('abort', onStop)
  }
}

/** amqplib's types do not have it. */
function socketOf({ connection }: ChannelModel): Socket {
  return (connection as unknown as { stream: Socket }).stream
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
