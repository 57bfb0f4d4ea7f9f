/** The broker, as the agent's user has it. Nothing is declared, bound, published or consumed. */
import { type Channel, type ChannelModel, connect } from 'amqplib'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import { brokerAddress } from '../log.js'
import { shellWord } from './cluster.js'
import { type Examination, Trouble } from './examination.js'

/** Milliseconds for the connection to come about: amqplib counts the handshake, too. */
const connectTimeoutMs = 5_000

const accessRefused = 403

/** For a binding that does not exist. */
const noKey = 'cephkit-doctor'

export async function checkBroker(examination: Examination, config: Config): Promise<void> {
  const over = new AbortController()
  try {
    let connection: ChannelModel | undefined
    await examination.check('broker', async () => {
      connection = await connectTo(config, over.signal)
      const { product, version } = connection.connection.serverProperties
      return `${brokerAddress(config.broker.url)}, ${product} ${version}`
    })
    if (connection === undefined) return examination.skip(['permissions'], 'no connection to the broker')
    await checkPermissions(examination, connection, config)
  } finally {
    // Ends the socket, whatever the broker does.
    over.abort()
  }
}

async function connectTo({ broker }: Config, signal: AbortSignal): Promise<ChannelModel> {
  try {
    const clientProperties = { connection_name: 'cephkit doctor' }
    // For the socket, which amqplib gives its options to.
    const options = { timeout: connectTimeoutMs, signal, clientProperties }
    const connection = await connect(broker.url, options)
    connection.on('error', () => {}) // what is asked then rejects with it
    return connection
  } catch (error) {
    throw troubleOf(messageOf(error), broker.url, error)
  }
}

function troubleOf(reason: string, url: string, cause: unknown): Trouble {
  const user = userOf(url)
  const vhost = vhostOf(url)
  if (/ConnectionOpenOk/.test(reason)) {
    // amqplib does not say more.
    const says = `there is no virtual host ${vhost}, or not for ${user}`
    return new Trouble(
      says,
      `rabbitmqctl add_vhost ${vhost}; rabbitmqctl set_permissions -p ${vhost} ${user} '.*' '.*' '.*'`,
    )
  }
  const advice: [RegExp, string][] = [
    [/ACCESS.REFUSED/, `check user and password in BROKER_URL: rabbitmqctl authenticate_user ${user} PASSWORD`],
    [/ENOTFOUND|EAI_AGAIN/, 'check the host in BROKER_URL'],
    [/certificate|SSL|TLS/i, 'for a certificate of your own: NODE_EXTRA_CA_CERTS=FILE'],
  ]
  const found = advice.find(([pattern]) => pattern.test(reason))?.[1]
  return new Trouble(reason, found ?? `is the broker up, and is ${brokerAddress(url)} right?`, { cause })
}

/** As a word of a shell. */
function userOf(url: string): string {
  return shellWord(decodeURIComponent(new URL(url).username) || 'guest')
}

/** As a word of a shell. */
function vhostOf(url: string): string {
  return shellWord(decodeURIComponent(new URL(url).pathname.slice(1)) || '/')
}

type Verb = 'configure' | 'write' | 'read'

/** Something that the broker refuses in any case, but first if the user may not do it. */
interface Trial {
  needs: readonly [verb: Verb, name: string][]
  ask: (channel: Channel) => Promise<unknown>
}

async function checkPermissions(examination: Examination, connection: ChannelModel, config: Config): Promise<void> {
  await examination.check('permissions', async () => {
    const refusals = await Promise.all(trialsOf(config).map(({ ask }) => refusalOf(connection, ask)))
    const refused = refusals.filter(reason => reason !== undefined)
    if (refused.length > 0) throw new Trouble([...new Set(refused)].join('; '), permissionsLine(config))
    return 'all that the agent needs'
  })
}

function trialsOf({ broker }: Config): Trial[] {
  const { jobsExchange, resultsExchange, telemetryExchange, deadLetterExchange, taskQueue } = broker
  const exchange = (name: string, type: string): Trial => ({
    needs: [['configure', name]],
    // Either there is one, without that, or this is not how an exchange is named.
    ask: channel => channel.assertExchange(name, type, { durable: true, arguments: { 'alternate-exchange': 1 } }),
  })
  const queue = (name: string): Trial => ({
    needs: [['configure', name]],
    ask: channel => channel.assertQueue(name, { durable: true, arguments: { 'x-message-ttl': -1 } }),
  })
  const binding = (queueName: string, exchangeName: string): Trial => ({
    needs: [
      ['write', queueName],
      ['read', exchangeName],
    ],
    ask: channel => channel.unbindQueue(queueName, exchangeName, noKey),
  })
  const publish = (name: string): Trial => ({
    needs: [['write', name === '' ? 'amq.default' : name]],
    ask: async channel => {
      channel.publish(name, noKey, Buffer.alloc(0), { expiration: 'none' })
      // The broker has come to the message when it answers this.
      await channel.prefetch(1)
    },
  })
  const consume = (name: string): Trial => ({
    needs: [['read', name]],
    ask: channel => channel.consume(name, () => {}, { arguments: { 'x-priority': 'none' } }),
  })
  return [
    exchange(jobsExchange, 'direct'),
    ...[resultsExchange, telemetryExchange, deadLetterExchange].map(name => exchange(name, 'topic')),
    ...[taskQueue, deadLetterExchange].map(queue),
    binding(taskQueue, jobsExchange),
    binding(deadLetterExchange, deadLetterExchange),
    ...[resultsExchange, telemetryExchange, deadLetterExchange, ''].map(publish),
    consume(taskQueue),
  ]
}

/** What the broker says if the user may not. On a channel of its own: the broker closes it when it refuses. */
async function refusalOf(connection: ChannelModel, ask: Trial['ask']): Promise<string | undefined> {
  const channel = await connection.createChannel()
  const refused = new Promise<Error & { code?: unknown }>(resolve => channel.once('error', resolve))
  // What it rejects with is what the channel is closed with.
  const allowed = ask(channel).then(
    () => undefined,
    () => refused,
  )
  const error = await Promise.race([refused, allowed])
  if (error === undefined) await channel.close()
  return error?.code === accessRefused ? error.message.replace(/^.*ACCESS_REFUSED - /, '').replace(/"$/, '') : undefined
}

/** The command that gives the user just what the agent needs. */
function permissionsLine(config: Config): string {
  const needs = trialsOf(config).flatMap(trial => trial.needs)
  const pattern = (verb: Verb) => {
    const names = new Set(needs.flatMap(([needed, name]) => (needed === verb ? [name] : [])))
    return shellWord(`^(${[...names].map(name => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})$`)
  }
  const [vhost, user] = [vhostOf(config.broker.url), userOf(config.broker.url)]
  return `rabbitmqctl set_permissions -p ${vhost} ${user} ${pattern('configure')} ${pattern('write')} ${pattern('read')}`
}
