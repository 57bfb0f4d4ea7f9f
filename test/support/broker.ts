/**
 * An agent on the real broker and cluster, and the control plane that it works for: exchanges, queues and pools are the
 * test's own. The broker is the one that BROKER_URL names.
 */
import { randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage, connect } from 'amqplib'
import type { Test } from 'tap'
import { Cluster, type Pool } from '../../lib/index.js'
import { type Agent, createAgent, type Inventory, type JobResult, readConfig } from '../../src/agent/index.js'
import { createLogger } from '../../src/log.js'
import './stack.js'

let sites = 0

export interface LogLine {
  level: number
  msg: string
  job?: string
  [field: string]: unknown
}

export interface Received<T> {
  routingKey: string
  properties: ConsumeMessage['properties']
  content: Buffer
  body: T
}

export interface Job {
  taskId: string
  agentId: string
  tenantId?: string | undefined
  action: string
  data: unknown
}

const pollMs = 10
const patienceMs = 30_000

/** Waits for something to become true, and gives it. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  limitMs = patienceMs,
): Promise<T> {
  for (const giveUpAt = Date.now() + limitMs; Date.now() < giveUpAt; await delay(pollMs)) {
    const found = await look()
    if (found !== undefined && found !== false) return found
  }
  throw new Error(`waited ${limitMs} ms for ${what}`)
}

/** Pools, exchanges and queues for one test, removed after it. */
export class TestSite {
  readonly id: string
  readonly cluster: Cluster
  readonly environment: Record<string, string>
  readonly results: Received<JobResult>[] = []
  readonly deadLetters: Received<unknown>[] = []
  readonly telemetry: Received<{ inventory?: Inventory; agentId?: string }>[] = []
  readonly logs: LogLine[] = []
  readonly logText: string[] = []
  /** Called at each line of the log, before the agent goes on. */
  onLog: (line: LogLine) => void = () => {}
  /** How long a result may take. */
  patienceMs = patienceMs
  readonly #connection: ChannelModel
  readonly #publishing: ConfirmChannel
  readonly #consuming: Channel
  readonly #agents: Agent[] = []

  private constructor(
    id: string,
    cluster: Cluster,
    connection: ChannelModel,
    channels: { publishing: ConfirmChannel; consuming: Channel },
    environment: Record<string, string>,
  ) {
    this.id = id
    this.cluster = cluster
    this.#connection = connection
    this.#publishing = channels.publishing
    this.#consuming = channels.consuming
    this.environment = environment
  }

  static async open(t: Test, settings: Record<string, string> = {}): Promise<TestSite> {
    const id = `${basename(process.argv[1] ?? 'test', '.js')}-${process.pid}-${++sites}`
    const environment = { ...process.env, ...settingsOf(id), ...settings } as Record<string, string>
    if (!environment.BROKER_URL) throw new Error('BROKER_URL is not set: which broker is to be tested against?')
    const cluster = await Cluster.connect()
    const connection = await connect(environment.BROKER_URL)
    const publishing = await connection.createConfirmChannel()
    const consuming = await connection.createChannel()
    const site = new TestSite(id, cluster, connection, { publishing, consuming }, environment)
    t.teardown(() => site.close())
    for (const pool of [site.#setting('CEPH_DEFAULT_POOL'), site.#setting('CEPH_CATALOG_POOL')]) {
      await cluster.createPool(pool)
      const opened = await cluster.openPool(pool)
      await opened.initialize()
      await opened.close()
    }
    await site.listen('RESULTS_EXCHANGE', 'results', site.results)
    await site.listen('TELEMETRY_EXCHANGE', 'telemetry', site.telemetry)
    await site.listen('DEAD_LETTER_EXCHANGE', 'dead', site.deadLetters)
    return site
  }

  #setting(name: string): string {
    const value = this.environment[name]
    if (value === undefined) throw new Error(`${name} is not set`)
    return value
  }

  get agentId(): string {
    return this.#setting('STORAGE_CONTROLLER_AGENT_ID')
  }

  get taskQueue(): string {
    return this.#setting('TASK_QUEUE')
  }

  volumePool(): Promise<Pool> {
    return this.cluster.openPool(this.#setting('CEPH_DEFAULT_POOL'))
  }

  catalogPool(): Promise<Pool> {
    return this.cluster.openPool(this.#setting('CEPH_CATALOG_POOL'))
  }

  /** Collects what is published to the exchange. */
  async listen<T>(exchangeSetting: string, queue: string, into: Received<T>[]): Promise<void> {
    const exchange = this.#setting(exchangeSetting)
    await this.#consuming.assertExchange(exchange, 'topic', { durable: true })
    await this.#consuming.assertQueue(`${this.id}.${queue}`, { durable: true })
    await this.#consuming.bindQueue(`${this.id}.${queue}`, exchange, '#')
    await this.#consuming.consume(
      `${this.id}.${queue}`,
      message => {
        if (message === null) return
        const { content, fields, properties } = message
        into.push({ content, properties, routingKey: fields.routingKey, body: parsed(content) as T })
      },
      { noAck: true },
    )
  }

  /** The broker, with its answers; what it refuses rejects. Made anew for each use, as a refusal closes it. */
  async onBroker<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await this.#connection.createChannel()
    channel.on('error', () => {}) // `work` rejects with it
    const result = await work(channel)
    await channel.close()
    return result
  }

  /** Starts an agent, and waits until it takes jobs. */
  async startAgent(settings: Record<string, string> = {}): Promise<Agent> {
    const agent = this.newAgent(settings)
    await agent.start()
    return agent
  }

  newAgent(settings: Record<string, string> = {}): Agent {
    const config = readConfig({ ...this.environment, ...settings })
    const write = (line: string) => {
      this.logText.push(line)
      const parsedLine = JSON.parse(line) as LogLine
      this.logs.push(parsedLine)
      this.onLog(parsedLine)
    }
    const agent = createAgent({ config, log: createLogger(config, { write }) })
    this.#agents.push(agent)
    return agent
  }

  job(action: string, data: unknown, rest: Partial<Job> = {}): Job {
    return { taskId: randomUUID(), agentId: this.agentId, tenantId: 'acme', action, data, ...rest }
  }

  /** Publishes a job, or what is to be taken for one. */
  async publish(message: object | Buffer): Promise<void> {
    const content = Buffer.isBuffer(message) ? message : Buffer.from(JSON.stringify(message))
    this.#publishing.publish(this.#setting('JOBS_EXCHANGE'), this.agentId, content, { persistent: true })
    await this.#publishing.waitForConfirms()
  }

  /** When each heartbeat was sent that has come, in milliseconds since 1970. */
  heartbeatTimes(): number[] {
    const heartbeats = this.telemetry.filter(({ routingKey }) => routingKey.startsWith('heartbeat.'))
    return heartbeats.map(({ body }) => Date.parse((body as { ts?: string }).ts ?? ''))
  }

  resultsOf(job: Job): JobResult[] {
    return this.results.map(({ body }) => body).filter(({ taskId }) => taskId === job.taskId)
  }

  /** Publishes a job and waits for its next result. */
  async perform(job: Job): Promise<JobResult> {
    const before = this.resultsOf(job).length
    await this.publish(job)
    return until(`the result of ${job.action}`, () => this.resultsOf(job)[before], this.patienceMs)
  }

  /** Publishes a job that is to succeed. */
  // biome-ignore lint/suspicious/noExplicitAny: the shape is the action's
  async succeed(job: Job): Promise<any> {
    const { ok, result, error } = await this.perform(job)
    if (!ok) throw new Error(`${job.action} failed: ${error}`)
    return result
  }

  async imageNames(): Promise<string[]> {
    const pool = await this.volumePool()
    const images = await pool.listImages()
    await pool.close()
    return images.map(({ name }) => name)
  }

  async stopAgents(): Promise<void> {
    await Promise.all(this.#agents.map(agent => agent.stop()))
  }

  async close(): Promise<void> {
    await this.stopAgents()
    for (const queue of ['results', 'telemetry', 'dead'].map(name => `${this.id}.${name}`)) {
      await this.#publishing.deleteQueue(queue)
    }
    await this.#publishing.deleteQueue(this.taskQueue)
    await this.#publishing.deleteQueue(this.#setting('DEAD_LETTER_EXCHANGE'))
    for (const setting of ['JOBS_EXCHANGE', 'RESULTS_EXCHANGE', 'TELEMETRY_EXCHANGE', 'DEAD_LETTER_EXCHANGE']) {
      await this.#publishing.deleteExchange(this.#setting(setting))
    }
    await this.#connection.close()
    await this.cluster.deletePool(this.#setting('CEPH_DEFAULT_POOL'))
    await this.cluster.deletePool(this.#setting('CEPH_CATALOG_POOL'))
    await this.cluster.close()
  }
}

function settingsOf(id: string): Record<string, string> {
  return {
    JOBS_EXCHANGE: `${id}.jobs`,
    RESULTS_EXCHANGE: `${id}.results`,
    TELEMETRY_EXCHANGE: `${id}.telemetry-out`,
    DEAD_LETTER_EXCHANGE: `${id}.dead-out`,
    TASK_QUEUE: `${id}.tasks`,
    STORAGE_CONTROLLER_AGENT_ID: `agent-${id}`,
    CEPH_DEFAULT_POOL: `${id}.volumes`,
    CEPH_CATALOG_POOL: `${id}.catalog`,
    CEPHFS_TENANT_BASE: `/${id}/tenants`,
    BROKER_RECONNECT_DELAY_MS: '50',
    HTTP_PORT: '0',
    LOG_LEVEL: 'debug',
    LOG_JSON: '1',
  }
}

function parsed(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString())
  } catch {
    return undefined // a dead letter need not be JSON
  }
}
