import type { Logger } from '../log.js'
import { type PlannedJob, planJob, type Services } from './actions.js'
import { failed, type JobMessage, type JobResult, readJob, succeeded } from './message.js'
import { KeyedQueue } from './queue.js'

/** The agent is stopping, and has not begun the job, or not waited for its end: it stays in the queue. */
export class NotDoneError extends Error {}

/**
 * Runs jobs: those on one image in the order in which they came, others side by side.
 */
export class JobRunner {
  readonly #services: Services
  readonly #giveUp = new AbortController()
  readonly #queue = new KeyedQueue()
  /** By task, until its result is published: a job that is delivered again meanwhile has a share in the one result. */
  readonly #kept = new Map<string, Promise<JobResult>>()
  readonly #running = new Set<Promise<unknown>>()
  #stopping = false

  constructor(services: Omit<Services, 'signal'>) {
    this.#services = { ...services, signal: this.#giveUp.signal }
  }

  /** From now on no job begins. Resolves when those that run are done. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.allSettled(this.#running)
  }

  /** The stop has waited long enough: ends what would go on for long. */
  giveUp(): void {
    this.#giveUp.abort()
  }

  /**
   * Runs the job that a message holds; its failure is a result too.
   *
   * @throws {NotAJobError} synchronously
   * @throws {NotDoneError}
   */
  take(content: Uint8Array): { job: JobMessage; result: Promise<JobResult> } {
    const job = readJob(content, this.#services.config.agentId)
    return { job, result: this.#kept.get(job.taskId) ?? this.#begin(job) }
  }

  /** This result of the task has been published: if the job comes again, it runs again. */
  forget(taskId: string, result: Promise<JobResult>): void {
    // A message that has shared in the result can be later than one for which the job has begun anew.
    if (this.#kept.get(taskId) === result) this.#kept.delete(taskId)
  }

  #begin(job: JobMessage): Promise<JobResult> {
    const result = this.#run(job)
    this.#kept.set(job.taskId, result)
    this.#running.add(result)
    result.catch(() => this.forget(job.taskId, result)).finally(() => this.#running.delete(result))
    return result
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
      if (error instanceof NotDoneError) throw error
      if (this.#giveUp.signal.aborted) throw new NotDoneError('given up', { cause: error })
      const result = failed(job, error)
      const { code, retryable, rollback } = result
      log[code === 'INTERNAL_ERROR' ? 'error' : 'warn']({ code, retryable, rollback, err: error }, 'job failed')
      return result
    }
  }

  async #perform(planned: PlannedJob, log: Logger): Promise<object> {
    if (this.#stopping) throw new NotDoneError('not begun')
    log.info({ image: planned.image }, 'job begins')
    try {
      return await planned.run({ ...this.#services, log })
    } finally {
      // A failure can leave something behind, too.
      if (planned.image !== undefined) this.#services.telemetry.changed()
    }
  }
}
