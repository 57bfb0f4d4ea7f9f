import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import { type JobResult, NotAJobError } from '../jobs/message.js'
import { type JobRunner, NotBegunError } from '../jobs/runner.js'
import type { Logger } from '../log.js'
import { json, type Outgoing, Publisher } from './publisher.js'
import { declareTopology } from './topology.js'

interface Surroundings {
  config: Config
  runner: JobRunner
  log: Logger
}

/** Milliseconds to reach the broker in. */
const connectTimeoutMs = 10_000

/** Milliseconds to have everything declared in. */
const setUpTimeoutMs = 30_000

/** Milliseconds for the broker to agree that the connection is closed. */
const closeTimeoutMs = 5_000

/**
 * One connection to the broker with its two channels: one consumes, the other publishes. They live and die together: when
 * one of them goes, the session ends, and what was delivered in it and not acknowledged comes again in the next.
 */
export class Session implements AsyncDisposable {
  /** Resolves with the reason. */
  readonly ended: Promise<Error>
  readonly #closed: Promise<void>
  readonly #connection: ChannelModel
  readonly #surroundings: Surroundings
  readonly #over = new AbortController()
  readonly #inHand = new Set<Promise<void>>()
  #end: (reason: Error) => void = () => {}
  #consumer: { channel: Channel; tag: string } | undefined
  #publisher: Publisher | undefined

  private constructor(connection: ChannelModel, surroundings: Surroundings) {
    this.#connection = connection
    this.#surroundings = surroundings
    // Each message that cannot be published at the moment waits with one.
    setMaxListeners(0, this.#over.signal)
    this.ended = new Promise(resolve => {
      this.#end = reason => {
        this.#over.abort(reason)
        resolve(reason)
      }
    })
    connection.on('error', error => this.#end(error))
    this.#closed = new Promise(resolve => {
      connection.on('close', error => {
        this.#end(error ?? new Error('the connection was closed'))
        resolve()
      })
    })
    connection.on('blocked', reason => surroundings.log.warn({ reason }, 'the broker takes nothing at the moment'))
    connection.on('unblocked', () => surroundings.log.info('the broker takes messages again'))
  }

  /** Resolves when jobs can come. */
  static async open(surroundings: Surroundings): Promise<Session> {
    const { broker, serviceName, agentId } = surroundings.config
    const connection = await connect(broker.url, {
      timeout: connectTimeoutMs,
      noDelay: true,
      clientProperties: { connection_name: `${serviceName} ${agentId}` },
    })
    const session = new Session(connection, surroundings)
    const tooLong = setTimeout(() => session.#end(new Error('the broker takes too long')), setUpTimeoutMs)
    try {
      // Some calls of amqplib's never settle when the connection is lost at that moment.
      await Promise.race([session.#setUp(), session.ended.then(throwIt)])
      return session
    } catch (error) {
      await session.close()
      throw error
    } finally {
      clearTimeout(tooLong)
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

  get #isOver(): boolean {
    return this.#over.signal.aborted
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
    const { runner, log } = this.#surroundings
    try {
      const { job, result } = runner.take(message.content)
      const published = await this.#publishAtLast(this.#resultMessage(job.action, await result))
      if (!published) return
      runner.forget(job.taskId)
    } catch (error) {
      if (error instanceof NotBegunError) return // stays in the queue
      if (!(error instanceof NotAJobError)) throw error
      log.warn({ reason: error.message }, 'not a job: dead-lettered')
      const published = await this.#publishAtLast(this.#deadLetter(message, error.message))
      if (!published) return
    }
    if (!this.#isOver) channel.ack(message)
  }

  #resultMessage(action: string, result: JobResult): Outgoing {
    return {
      exchange: this.#surroundings.config.broker.resultsExchange,
      routingKey: `task.${action}`,
      content: json(result),
      options: {
        contentType: 'application/json',
        correlationId: result.taskId,
        persistent: true,
        // Somebody has sent the job, so somebody is to get its result.
        mandatory: true,
      },
    }
  }

  #deadLetter({ content, fields, properties }: ConsumeMessage, reason: string): Outgoing {
    return {
      exchange: this.#surroundings.config.broker.deadLetterExchange,
      routingKey: fields.routingKey,
      content,
      options: {
        contentType: properties.contentType,
        contentEncoding: properties.contentEncoding,
        correlationId: properties.correlationId,
        headers: {
          'x-cephkit-reason': reason,
          'x-cephkit-agent': this.#surroundings.config.agentId,
          'x-cephkit-exchange': fields.exchange,
        },
        persistent: true,
        mandatory: true,
      },
    }
  }

  /**
   * Tries until the broker has the message. Returns false if the session ended first: then what it was about is delivered
   * again.
   */
  async #publishAtLast(message: Outgoing): Promise<boolean> {
    const { config, log } = this.#surroundings
    while (!this.#isOver) {
      try {
        await this.publish(message)
        return true
      } catch (error) {
        if (this.#isOver) break
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

  /** Takes no further messages, and resolves when the broker knows that those in hand are answered. */
  async drain(): Promise<void> {
    if (!this.#consumer) return
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
    // It rejects when the connection is closed already, and never settles when that happens meanwhile.
    const closing = this.#connection.close().catch(() => {})
    await Promise.race([closing, this.#closed, delay(closeTimeoutMs, undefined, { ref: false })])
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

function throwIt(error: Error): never {
  throw error
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
