/** The control plane's side, for one job. */
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import { type JobMessage, type JobResult, resultSchema } from '../jobs/message.js'
import { brokerAddress } from '../log.js'
import { json, Publisher, UnroutableError } from './publisher.js'

const connectTimeoutMs = 10_000

/**
 * Publishes a job, and resolves with its result.
 *
 * @throws {Error} the broker cannot be reached, or has no queue for that agent, or no such exchanges; or the signal's reason:
 *   the job goes on, and `cephkit jobs show` tells what becomes of it
 */
export async function submitJob({ broker }: Config, job: JobMessage, signal: AbortSignal): Promise<JobResult> {
  const connection = await connect(broker.url, { timeout: connectTimeoutMs, noDelay: true }).catch(error => {
    throw notPublished(`no connection to ${at(broker)} (BROKER_URL): ${messageOf(error)}: see cephkit doctor`, error)
  })
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
  listening.on('error', () => {}) // what is asked rejects with it
  let refusal: unknown
  publishing.on('error', error => {
    refusal = error
  })
  const result = await listen(listening, broker, job).catch(error => {
    throw refused(error, broker, 'RESULTS_EXCHANGE', broker.resultsExchange)
  })
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
    if (!(error instanceof UnroutableError))
      throw refused(refusal ?? error, broker, 'JOBS_EXCHANGE', broker.jobsExchange)
    const { agentId } = job
    const why = `no queue takes jobs for agent ${agentId} from the exchange ${broker.jobsExchange} of ${at(broker)}`
    throw notPublished(
      `${why}: its agent makes it when it starts; has it ever run there? --agent chooses another`,
      error,
    )
  }
  return await result()
}

const [accessRefused, notFound] = [403, 404]

function refused(error: unknown, broker: Config['broker'], setting: string, exchange: string): unknown {
  const { code } = error as { code?: unknown }
  if (code === notFound) {
    const why = `${at(broker)} has no exchange ${exchange} (${setting})`
    return notPublished(`${why}: an agent makes it when it starts; has one ever run there with these settings?`, error)
  }
  if (code !== accessRefused) return error
  return notPublished(`${at(broker)} refuses: ${messageOf(error)}: cephkit doctor names the permissions`, error)
}

function notPublished(why: string, cause: unknown): Error {
  return new Error(`the job is not published: ${why}`, { cause })
}

function at({ url }: Config['broker']): string {
  return `the broker at ${brokerAddress(url)}`
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
