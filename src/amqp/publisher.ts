import { randomUUID } from 'node:crypto'
import { type ConfirmChannel, IllegalOperationError, type Message, type Options } from 'amqplib'

export interface Outgoing {
  exchange: string
  routingKey: string
  content: Buffer
  options: Options.Publish
}

/** The broker has no queue for the message. */
export class UnroutableError extends Error {
  constructor({ exchange, routingKey }: Outgoing) {
    super(`no queue is bound to exchange ${exchange} for ${routingKey}`)
    this.name = 'UnroutableError'
  }
}

/** There is no way to write the message's properties: what can be read cannot always be written. */
export class UnwritableError extends Error {
  constructor(options: ErrorOptions) {
    super('the properties of the message cannot be written', options)
    this.name = 'UnwritableError'
  }
}

/** By which a message that comes back is known. Its own id is the sender's. */
const publishId = 'x-cephkit-publish-id'

/** Publishes on a channel of its own, where each message is confirmed by the broker. */
export class Publisher {
  readonly #channel: ConfirmChannel
  /** Of messages that came back. The broker returns one before it confirms it. */
  readonly #returned = new Set<string>()

  constructor(channel: ConfirmChannel) {
    this.#channel = channel
    channel.on('return', (message: Message) => this.#returned.add(message.properties.headers?.[publishId]))
  }

  /**
   * Resolves when the broker has taken the message over: as late as it likes to, or the channel is closed.
   *
   * @throws {UnroutableError} the message is `mandatory`, and has nowhere to go
   * @throws {UnwritableError} nothing was sent
   */
  publish(message: Outgoing): Promise<void> {
    const id = randomUUID()
    const { exchange, routingKey, content } = message
    const options = { ...message.options, headers: { ...message.options.headers, [publishId]: id } }
    return new Promise((resolve, reject) => {
      const onConfirm = (error: Error | null) => {
        const returned = this.#returned.delete(id)
        if (error) reject(error)
        else if (returned) reject(new UnroutableError(message))
        else resolve()
      }
      try {
        this.#channel.publish(exchange, routingKey, content, options, onConfirm)
      } catch (error) {
        reject(error instanceof IllegalOperationError ? error : new UnwritableError({ cause: error }))
      }
    })
  }
}

export function json(message: object): Buffer {
  return Buffer.from(JSON.stringify(message))
}
