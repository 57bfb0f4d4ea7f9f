/** An agent in a process of its own, what was sent to it, and what became of each. */
import { createHash } from 'node:crypto'
import type { Test } from 'tap'
import type { JobResult } from '../../src/agent/index.js'
import { type AgentProcess, startAgentProcess } from './agent-process.js'
import { RawPublisher } from './amqp-frames.js'
import { type LogLine, type Received, TestSite, until } from './broker.js'
import type { Mutation } from './mutation.js'

/** Messages of the same content. */
interface Sent {
  mutations: Mutation[]
  letters: Received<unknown>[]
}

/** Lines of the log from this level on are of faults. */
const errorLevel = 50

/** Of the agent's log, if a message has not come to its end. */
const linesShown = 100

export class Trial {
  readonly site: TestSite
  readonly agent: AgentProcess
  readonly #publisher: RawPublisher
  readonly #sent = new Map<string, Sent>()
  #count = 0
  #lettersSeen = 0
  /** Tasks of jobs that nothing is wrong with. */
  readonly #proper = new Set<string>()

  private constructor(site: TestSite, agent: AgentProcess, publisher: RawPublisher) {
    this.site = site
    this.agent = agent
    this.#publisher = publisher
  }

  static async begin(t: Test): Promise<Trial> {
    const site = await TestSite.open(t)
    const agent = await startAgentProcess(t, { ...site.environment, PREFETCH_COUNT: '64' })
    const publisher = await RawPublisher.connect(site.environment.BROKER_URL ?? '')
    t.teardown(() => publisher.close())
    return new Trial(site, agent, publisher)
  }

  /** Does a job that nothing is wrong with, which has to succeed in time. */
  // biome-ignore lint/suspicious/noExplicitAny: the shape is the action's
  succeed(action: string, data: object): Promise<any> {
    const job = this.site.job(action, data)
    this.#proper.add(job.taskId)
    return this.site.succeed(job)
  }

  isProper(task: string): boolean {
    return this.#proper.has(task)
  }

  /** Sends them all at once, and behind them a job that nothing is wrong with. Resolves when all have come to their ends. */
  async send(mutations: readonly Mutation[]): Promise<void> {
    const { JOBS_EXCHANGE = '' } = this.site.environment
    for (const mutation of mutations) {
      const key = keyOf(mutation.content)
      const sent = this.#sent.get(key) ?? { mutations: [], letters: [] }
      sent.mutations.push(mutation)
      this.#sent.set(key, sent)
      this.#publisher.publish(JOBS_EXCHANGE, this.site.agentId, mutation.properties, mutation.content)
    }
    this.#count += mutations.length
    await this.#publisher.confirmed()
    try {
      await this.succeed('storage.delete', { refId: 'never-was' })
      const { results, deadLetters } = this.site
      await until('the ends', () => results.length - this.#proper.size + deadLetters.length >= this.#count)
    } catch (error) {
      const lines = this.agent.output().split('\n').slice(-linesShown)
      const said = ['of these, not all have come to their ends:', ...this.#unended(), 'the agent said last:', ...lines]
      throw new Error(said.join('\n'), { cause: error })
    }
  }

  /** What there are results of, and how many. */
  #resultsByTask(): Map<string, JobResult[]> {
    const byTask = new Map<string, JobResult[]>()
    for (const { body } of this.site.results) byTask.set(body.taskId, [...(byTask.get(body.taskId) ?? []), body])
    return byTask
  }

  #sortLetters(): void {
    for (const letter of this.site.deadLetters.slice(this.#lettersSeen)) {
      const sent = this.#sent.get(keyOf(letter.content))
      if (sent === undefined) throw new Error(`a dead letter of what was never sent: ${shown(letter.content)}`)
      sent.letters.push(letter)
    }
    this.#lettersSeen = this.site.deadLetters.length
  }

  #unended(): string[] {
    this.#sortLetters()
    const results = this.#resultsByTask()
    return [...this.#sent.values()]
      .filter(({ letters, mutations }) => letters.length < mutations.length && !results.has(taskOf(mutations) ?? ''))
      .flatMap(({ mutations }) => mutations.map(describe))
  }

  /**
   * Checks that each message has had one end: a result, or a dead letter with the reason, as it was.
   *
   * @returns How many there were of each.
   */
  check(t: Test): Record<string, number> {
    this.#sortLetters()
    const expected = new Map<string, number>()
    const ends: Record<string, number> = {}
    for (const { mutations, letters } of this.#sent.values()) {
      // Whether it is a job follows from the content alone.
      if (letters.length !== 0 && letters.length !== mutations.length)
        t.fail('some are jobs', { mutations: mutations.map(describe), letters: letters.length })
      for (const { properties } of letters) {
        const reason = properties.headers?.['x-cephkit-reason']
        if (typeof reason !== 'string' || reason === '') t.fail('no reason', { mutations: mutations.map(describe) })
      }
      if (letters.length > 0) continue
      const task = taskOf(mutations)
      if (task === undefined) t.fail('it has a result, and no task', { mutations: mutations.map(describe) })
      else expected.set(task, (expected.get(task) ?? 0) + mutations.length)
    }
    ends.deadLetters = this.site.deadLetters.length
    for (const [task, results] of this.#resultsByTask()) {
      if (this.#proper.has(task)) continue
      if (results.length !== expected.get(task)) t.fail('another number of results', { task, results })
      expected.delete(task)
      for (const { ok, code = 'ok', error } of results) {
        ends[code] = (ends[code] ?? 0) + 1
        if (ok !== (code === 'ok') || (!ok && !error)) t.fail('neither well nor badly', { results })
        if (code === 'INTERNAL_ERROR') t.fail('a fault of the agent', { results })
      }
    }
    t.same(expected, new Map(), 'none is without its end')
    return ends
  }

  /** The agent is the one that was started, and has never had a fault, or lost the broker. */
  checkAgent(t: Test): void {
    const { exitCode, signalCode } = this.agent.child
    t.same({ exitCode, signalCode }, { exitCode: null, signalCode: null }, 'the agent lives')
    const lines = this.agent.output().split('\n')
    const parsed = lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line) as LogLine)
    t.same(
      parsed.filter(({ level, msg }) => level >= errorLevel || msg === 'lost the broker'),
      [],
    )
  }
}

function keyOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('base64')
}

/** As whoever sent the message would look for it. */
function taskOf([mutation]: readonly Mutation[]): string | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(mutation?.content)).taskId
  } catch {
    return undefined
  }
}

function describe({ what, content, properties }: Mutation): string {
  const around = Object.entries(properties).map(([name, value]) => `${name}: ${value.toString('base64').slice(0, 400)}`)
  return [what, shown(content), ...around].join('; ')
}

function shown(content: Buffer): string {
  return JSON.stringify(content.subarray(0, 1_000).toString('latin1'))
}
