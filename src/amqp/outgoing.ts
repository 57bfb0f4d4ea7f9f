/** What the agent has to say about the messages that it takes from its queue. */
import type { ConsumeMessage } from 'amqplib'
import type { Config } from '../config.js'
import type { JobResult } from '../jobs/message.js'
import { json, type Outgoing } from './publisher.js'

/** In bytes as JSON. All headers together are to fit into the 64 KiB that amqplib has for them. */
const longestHeaders = 32 * 1024

export function resultMessage({ broker }: Config, action: string, result: JobResult): Outgoing {
  return {
    exchange: broker.resultsExchange,
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

/**
 * The message as it was, with the reason. Without its expiration, though, which would remove it from the dead-letter queue
 * too; and without its user id, which the broker takes from that user alone.
 */
export function deadLetter({ broker, agentId }: Config, message: ConsumeMessage, reason: string): Outgoing {
  const { content, fields, properties } = message
  const { expiration, userId, deliveryMode, headers, ...kept } = properties
  return {
    exchange: broker.deadLetterExchange,
    routingKey: fields.routingKey,
    content,
    options: {
      ...kept,
      headers: {
        ...headersToKeep(headers),
        'x-cephkit-reason': reason,
        'x-cephkit-agent': agentId,
        'x-cephkit-exchange': fields.exchange,
      },
      persistent: true,
      mandatory: true,
    },
  }
}

/** The same without any properties and headers of its own. */
export function bareLetter(config: Config, message: ConsumeMessage, reason: string): Outgoing {
  return deadLetter(config, { ...message, properties: {} as ConsumeMessage['properties'] }, reason)
}

/** CC and BCC are more routing keys, and not for the exchange that this goes to: there they would be obeyed again. */
function headersToKeep(headers: ConsumeMessage['properties']['headers']): object {
  const { CC, BCC, ...kept } = headers ?? {}
  return lengthOf(kept) <= longestHeaders ? kept : {}
}

function lengthOf(headers: object): number {
  try {
    return Buffer.byteLength(JSON.stringify(headers))
  } catch {
    // They are nested too deep; or one is called __proto__, and amqplib has made it that.
    return Number.POSITIVE_INFINITY
  }
}

/** What no queue is bound for, by way of the default exchange, which needs no binding. */
export function toDeadLetterQueue({ broker, agentId }: Config, message: Outgoing, reason: string): Outgoing {
  return {
    ...message,
    exchange: '',
    routingKey: broker.deadLetterExchange,
    options: {
      ...message.options,
      headers: {
        'x-cephkit-reason': reason,
        'x-cephkit-agent': agentId,
        'x-cephkit-exchange': message.exchange,
        'x-cephkit-routing-key': message.routingKey,
        // A dead letter has its own.
        ...message.options.headers,
      },
    },
  }
}
