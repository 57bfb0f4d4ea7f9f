/** Metrics of one agent: its jobs, its queue, and what it depends on. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Health } from '../http/health.js'
import type { JobResult } from '../jobs/message.js'
import type { MountHealth } from '../mount/health.js'
import { Measurement } from './measurement.js'
import { processMetrics } from './process.js'

/** What is looked at when somebody asks. */
export interface Sources {
  jobsInHand: () => number
  /** Rejects if the broker is away. */
  messagesWaiting: () => Promise<number>
  /** Each entry of the journal for a job whose result the broker does not have. */
  openJobs: () => AsyncIterable<unknown>
  /** Each for one that is done with. */
  doneJobs: () => AsyncIterable<unknown>
  /** Each for one of another agent that is gone, which is not done with. */
  abandonedJobs: () => AsyncIterable<unknown>
}

/** Milliseconds for which the number of finished jobs is good, or of those of others: to count them, whole indexes are read. */
const countEachMs = 300_000

/** Seconds. A step takes milliseconds on a cluster that is well, and minutes where much is copied. */
const durations = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]

/** Later than this, a time stamp cannot be in seconds: some control planes say milliseconds. */
const largestSeconds = 1e11

export class AgentMetrics {
  readonly #registry = new Registry()
  readonly #registers = [this.#registry]
  readonly #jobs = new Counter({
    name: 'cephkit_jobs_total',
    help: 'Jobs that this process has brought to their end, by outcome: ok, or the code of the failure.',
    labelNames: ['action', 'outcome'],
    registers: this.#registers,
  })
  readonly #jobSeconds = new Histogram({
    name: 'cephkit_job_duration_seconds',
    help: 'From when this process began a job, or went on with it, to its outcome.',
    labelNames: ['action'],
    buckets: durations,
    registers: this.#registers,
  })
  readonly #stepSeconds = new Histogram({
    name: 'cephkit_job_step_duration_seconds',
    help: 'Steps of jobs, by what was done: find, make or undo.',
    labelNames: ['action', 'step', 'verb'],
    buckets: durations,
    registers: this.#registers,
  })
  readonly #lag = new Histogram({
    name: 'cephkit_queue_lag_seconds',
    help: 'From when a job was published, if its message has a time stamp, to when it was begun.',
    buckets: durations,
    registers: this.#registers,
  })
  readonly #reconnects = new Counter({
    name: 'cephkit_broker_reconnects_total',
    help: 'How often the broker was lost and reached again.',
    registers: this.#registers,
  })

  constructor(health: Health) {
    new Gauge({
      name: 'cephkit_ready',
      help: 'Whether what the agent depends on is there: 1 or 0.',
      labelNames: ['part'],
      registers: this.#registers,
      collect() {
        for (const [part, { ok }] of Object.entries(health.parts)) this.set({ part }, ok ? 1 : 0)
      },
    })
    // What happens from now on counts.
    processMetrics()
  }

  watch({ jobsInHand, messagesWaiting, openJobs, doneJobs, abandonedJobs }: Sources): void {
    new Gauge({
      name: 'cephkit_jobs_in_hand',
      help: 'Jobs that this process has not answered yet, those included that wait for others on the same image.',
      registers: this.#registers,
      collect() {
        this.set(jobsInHand())
      },
    })
    this.#measured(
      'cephkit_queue_messages',
      'Messages in the task queue that nobody has in hand, as the broker counts them.',
      new Measurement(messagesWaiting),
    )
    this.#measured(
      'cephkit_journal_open_jobs',
      'Jobs in the journal whose result the broker has not confirmed.',
      new Measurement(() => countOf(openJobs())),
    )
    this.#measured(
      'cephkit_journal_done_jobs',
      'Jobs in the journal that are done with; counted every few minutes.',
      new Measurement(() => countOf(doneJobs()), countEachMs),
    )
    this.#measured(
      'cephkit_journal_abandoned_jobs',
      'Jobs in the journal of other agents that are gone, unfinished or unpublished; counted every few minutes.',
      new Measurement(() => countOf(abandonedJobs()), countEachMs),
    )
  }

  watchMount(mount: MountHealth): void {
    const registers = this.#registers
    new Gauge({
      name: 'cephkit_mount',
      help: 'Whether a CephFS is mounted there and answers, and whether it can be written: 1 or 0.',
      labelNames: ['state'],
      registers,
      collect() {
        this.set({ state: 'mounted' }, mount.report.mounted ? 1 : 0)
        this.set({ state: 'writable' }, mount.report.writable ? 1 : 0)
      },
    })
    const seconds = new Histogram({
      name: 'cephkit_mount_probe_duration_seconds',
      help: 'Probes of the mount that went well: to write, sync, read and remove a file.',
      buckets: durations,
      registers,
    })
    const failures = new Counter({
      name: 'cephkit_mount_probe_failures_total',
      help: 'Probes of the mount that have failed.',
      registers,
    })
    mount.onProbe(({ latencyMs }) => {
      if (latencyMs === null) failures.inc()
      else seconds.observe(latencyMs / 1000)
    })
  }

  #measured(name: string, help: string, measurement: Measurement<number>): void {
    new Gauge({
      name,
      help: `${help} Absent while it is not known.`,
      registers: this.#registers,
      async collect() {
        const value = await measurement.get()
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })
  }

  /** @param action - One of those that there are, or `unknown`: there is no end to what a message can say. */
  jobEnded(action: string, { ok, code }: Pick<JobResult, 'ok' | 'code'>, seconds: number): void {
    this.#jobs.inc({ action, outcome: ok ? 'ok' : (code ?? 'unknown') })
    this.#jobSeconds.observe({ action }, seconds)
  }

  stepEnded(action: string, step: string, verb: string, seconds: number): void {
    this.#stepSeconds.observe({ action, step, verb }, seconds)
  }

  /** @param timestamp - Of the message. AMQP has it in seconds. */
  jobBegun(timestamp: unknown): void {
    if (typeof timestamp !== 'number' || timestamp <= 0) return
    const publishedAt = timestamp > largestSeconds ? timestamp : timestamp * 1000
    // Clocks of two hosts need not agree.
    this.#lag.observe(Math.max(0, (Date.now() - publishedAt) / 1000))
  }

  reconnected(): void {
    this.#reconnects.inc()
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    return Registry.merge([this.#registry, processMetrics()]).metrics()
  }
}

async function countOf(items: AsyncIterable<unknown>): Promise<number> {
  let count = 0
  for await (const _ of items) count++
  return count
}
