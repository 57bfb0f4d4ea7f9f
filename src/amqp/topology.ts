/**
 * What the agent needs on the broker. What is there already under the same name with other settings belongs to whoever
 * made it, and is used as it is.
 */
import type { Channel, ChannelModel } from 'amqplib'
import { agentQueue, type Config } from '../config.js'
import { messageOf } from '../errors.js'
import type { Logger } from '../log.js'

/**
 * How often a job may come back unanswered before it is put aside. This is for a message that the agent dies of, time and
 * again; one that comes back because the broker was lost for the twentieth time has to be done all the same.
 */
const deliveryLimit = 100

const preconditionFailed = 406

export async function declareTopology(
  connection: ChannelModel,
  { broker, agentId }: Config,
  log: Logger,
): Promise<void> {
  const declare = (what: string, assert: (channel: Channel) => Promise<unknown>) =>
    assertOnce(connection, assert, error => log.warn({ reason: messageOf(error) }, `${what} is used as it is`))
  const exchange = (name: string, type: 'direct' | 'topic') =>
    declare(`exchange ${name}`, channel => channel.assertExchange(name, type, { durable: true }))
  const queue = (name: string, args: object) =>
    declare(`queue ${name}`, channel => channel.assertQueue(name, { durable: true, arguments: args }))

  // At the same time: a broker that is far away, or busy, takes its time for each.
  await Promise.all([
    exchange(broker.jobsExchange, 'direct'),
    exchange(broker.resultsExchange, 'topic'),
    exchange(broker.telemetryExchange, 'topic'),
    exchange(broker.deadLetterExchange, 'topic'),
    // Without a queue the dead letters would be gone.
    queue(broker.deadLetterExchange, {}),
    queue(broker.taskQueue, isSharedQueue(broker.taskQueue, agentId) ? {} : taskQueueArguments(broker)),
  ])
  await assertOnce(connection, async channel => {
    await channel.bindQueue(broker.deadLetterExchange, broker.deadLetterExchange, '#')
    await channel.bindQueue(broker.taskQueue, broker.jobsExchange, agentId)
  })
}

function taskQueueArguments({ deadLetterExchange }: Config['broker']): object {
  return {
    'x-queue-type': 'quorum',
    'x-delivery-limit': deliveryLimit,
    'x-dead-letter-exchange': deadLetterExchange,
  }
}

/**
 * The control plane declares this one too, before it publishes, as a plain durable queue: with any arguments of ours its
 * declaration would fail.
 */
function isSharedQueue(queue: string, agentId: string): boolean {
  return queue === agentQueue(agentId)
}

/** On a channel of its own: the broker closes it when it refuses. */
async function assertOnce(
  connection: ChannelModel,
  assert: (channel: Channel) => Promise<unknown>,
  onOtherSettings?: (error: unknown) => void,
): Promise<void> {
  const channel = await connection.createChannel()
  // What it emits here is what `assert` rejects with.
  channel.on('error', () => {})
  try {
    await assert(channel)
  } catch (error) {
    if (onOtherSettings === undefined || (error as { code?: unknown }).code !== preconditionFailed) throw error
    return onOtherSettings(error)
  }
  await channel.close()
}
