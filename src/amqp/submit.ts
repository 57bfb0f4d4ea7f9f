/** The control plane's side, for one job. */
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import type { Config } from '../config.js'
import { type JobMessage, type JobResult, resultSchema } from '../jobs/message.js'
import { json, Publisher, UnroutableError } from './publisher.js'

const connectTimeoutMs = 10_000

/**
 * Publishes a job, and resolves with its result.
 *
 * @throws {Error} no agent of that id has a queue on the broker; or the signal's reason: the job goes on, and `cephkit jobs
 *   show` tells what becomes of it
 */
export async function submitJob({ broker }: Config, job: JobMessage, signal: AbortSignal): Promise<JobResult> {
  const connection = await connect(broker.url, { timeout: connectTimeoutMs, noDelay: true })
  // What goes wrong with the connection ends the calls on it, too.
  const failed = new Promise<never>((_resolve, reject) => {
    connection.on('error', reject)
    connection.on('close', () => reject(new Error('the broker has closed the connection')))
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  failed.catch(() => {})
  try {
    signal.throwIfAborted()
    return await Promise.race([publishAndWait(connection, broker, job), failed])
  } finally {
    await connection.close().catch(() => {}) // lost already
  }
}

async function publishAndWait(connection: ChannelModel, broker: Config['broker'], job: JobMessage): Promise<JobResult> {
  const listening = await connection.createChannel()
  const publishing = await connection.createConfirmChannel()
  const result = await listen(listening, broker, job)
  const message = {
    exchange: broker.jobsExchange,
    routingKey: job.agentId,
    content: json(job),
    options: {
      contentType: 'application/json',
      persistent: true,
      mandatory: true,
      timestamp: Math.floor(Date.now() / 1000),
    },
  }
  try {
    await new Publisher(publishing).publish(message)
  } catch (error) {
    if (!(error instanceof UnroutableError)) throw error
    throw new Error(`no queue takes jobs for agent ${job.agentId}: has it ever run with this broker?`, { cause: error })
  }
  return await result()
}

/** From before the job is published, on a queue of its own. What it returns waits for the result. */
async function listen(
  channel: Channel,
  { resultsExchange }: Config['broker'],
  { taskId, action }: JobMessage,
): Promise<() => Promise<JobResult>> {
  const { queue } = await channel.assertQueue('', { exclusive: true, autoDelete: true })
  await channel.bindQueue(queue, resultsExchange, `task.${action}`)
  let settle: (message: ConsumeMessage) => void = () => {}
  const found = new Promise<ConsumeMessage>(resolve => {
    settle = resolve
  })
  const onMessage = (message: ConsumeMessage | null) => {
    if (message?.properties.correlationId === taskId) settle(message)
  }
  await channel.consume(queue, onMessage, { noAck: true })
  return async () => resultSchema.parse(JSON.parse((await found).content.toString())) as JobResult
}
