import type { Logger } from '../log.js'
import { type PlannedJob, planJob, type Services } from './actions.js'
import { failed, type JobMessage, type JobResult, readJob, succeeded } from './message.js'
import { KeyedQueue } from './queue.js'

/** For how long a result that could not be published is kept for the job's redelivery, in milliseconds. */
const keepResultsMs = 10 * 60_000

/** The agent is stopping, and the job has not begun. */
export class NotBegunError extends Error {}

interface Kept {
  result: Promise<JobResult>
  expiry?: NodeJS.Timeout
}

/**
 * Runs jobs: those on one image in the order in which they came, others side by side.
 */
export class JobRunner {
  readonly #services: Services
  readonly #queue = new KeyedQueue()
  /** By task, until its result is published: a job that is delivered again meanwhile has a share in the one result. */
  readonly #kept = new Map<string, Kept>()
  readonly #running = new Set<Promise<unknown>>()
  #stopping = false

  constructor(services: Services) {
    this.#services = services
  }

  /** From now on no job begins. Resolves when those that run are done. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.allSettled(this.#running)
  }

  /**
   * Runs the job that a message holds; its failure is a result too.
   *
   * @throws {NotAJobError} synchronously
   * @throws {NotBegunError}
   */
  take(content: Uint8Array): { job: JobMessage; result: Promise<JobResult> } {
    const job = readJob(content, this.#services.config.agentId)
    const { result } = this.#kept.get(job.taskId) ?? this.#begin(job)
    return { job, result }
  }

  /** The result of a task has been published: if the job comes again, it runs again. */
  forget(taskId: string): void {
    clearTimeout(this.#kept.get(taskId)?.expiry)
    this.#kept.delete(taskId)
  }

  #begin(job: JobMessage): Kept {
    const result = this.#run(job)
    const kept: Kept = { result }
    this.#kept.set(job.taskId, kept)
    this.#running.add(result)
    const forget = () => this.forget(job.taskId)
    result
      .then(() => {
        kept.expiry = setTimeout(forget, keepResultsMs).unref()
      }, forget)
      .finally(() => this.#running.delete(result))
    return kept
  }

  async #run(job: JobMessage): Promise<JobResult> {
    const log = this.#services.log.child({ job: job.taskId, action: job.action })
    const startedAt = performance.now()
    try {
      const planned = planJob(job, this.#services.config)
      const work = () => this.#perform(planned, log)
      const result = await (planned.image === undefined ? work() : this.#queue.run(planned.image, work))
      log.info({ ms: Math.round(performance.now() - startedAt) }, 'job done')
      return succeeded(job, result)
    } catch (error) {
      if (error instanceof NotBegunError) throw error
      const result = failed(job, error)
      const { code, retryable, rollback } = result
      log[code === 'INTERNAL_ERROR' ? 'error' : 'warn']({ code, retryable, rollback, err: error }, 'job failed')
      return result
    }
  }

  async #perform(planned: PlannedJob, log: Logger): Promise<object> {
    if (this.#stopping) throw new NotBegunError()
    log.info({ image: planned.image }, 'job begins')
    try {
      return await planned.run({ ...this.#services, log })
    } finally {
      // A failure can leave something behind, too.
      if (planned.image !== undefined) this.#services.telemetry.changed()
    }
  }
}
