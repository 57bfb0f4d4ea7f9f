import { setMaxListeners } from 'node:events'
import type { Entry } from '../journal/entry.js'
import type { Journal } from '../journal/journal.js'
import type { JobRecord } from '../journal/record.js'
import type { AgentMetrics } from '../metrics/agent.js'
import { withTimeLimit } from '../time-limit.js'
import { actionOf, type ChangeAction, isAction, type Plan, type Services } from './actions.js'
import { failed, type JobMessage, type JobResult, readJob, succeeded } from './message.js'
import { KeyedQueue } from './queue.js'
import { InterruptedError } from './saga.js'

/**
 * The job has no outcome here. The agent is stopping, and has not begun it, or not come to its end: it stays in the queue, or in
 * the journal; or somebody else has it.
 */
export class NotDoneError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NotDoneError'
  }
}

/** The result of a job, which is certain by now. */
export interface Answer {
  result: JobResult
  /** To be called when the broker has it. Absent: the journal does not keep the result. */
  settle?: () => Promise<void>
}

/** A job in hand, for one message. */
export interface Taken {
  job: JobMessage
  /** @throws {NotDoneError} */
  answer: Promise<Answer>
  /** To be called when the message is done with, well or badly. */
  release: () => void
}

interface Kept {
  answer: Promise<Answer>
  /** Messages that wait for it. */
  waiting: number
  isOver: boolean
}

type RunnerServices = Omit<Services, 'signal' | 'interrupt' | 'begunAt' | 'goesOn' | 'withImage'> & {
  journal: Journal
  metrics: AgentMetrics
}

/**
 * Runs jobs: those on one image in the order in which they came, others side by side.
 */
export class JobRunner {
  readonly #services: RunnerServices
  readonly #giveUp = new AbortController()
  /** Whatever fails once this is aborted has not failed for a reason of its own. */
  readonly #interrupt: AbortSignal
  readonly #queue = new KeyedQueue()
  /** While it runs, or a message waits for it: a job that is delivered again meanwhile has a share in the one answer. */
  readonly #kept = new Map<string, Kept>()
  readonly #running = new Set<Promise<unknown>>()
  #stopping = false

  constructor(services: RunnerServices) {
    this.#services = services
    this.#interrupt = AbortSignal.any([this.#giveUp.signal, services.journal.lost])
    // Each job in hand listens.
    setMaxListeners(0, this.#interrupt)
  }

  /** Whether what has not been done stays so, as far as this process is concerned. */
  get isEnding(): boolean {
    return this.#stopping || this.#interrupt.aborted
  }

  /** From now on no job begins. Resolves when those that run are done. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#services.journal.stopWaiting()
    await Promise.allSettled(this.#running)
  }

  /** The stop has waited long enough: ends what would go on for long. */
  giveUp(): void {
    this.#stopping = true
    this.#giveUp.abort()
    this.#services.journal.giveUp()
  }

  /**
   * Runs the job that a message holds; its failure is an answer too.
   *
   * @param onBegin - Called when its turn has come.
   * @throws {NotAJobError} synchronously
   */
  take(content: Uint8Array, onBegin = () => {}): Taken {
    const job = readJob(content, this.#services.config.agentId)
    const kept = this.#kept.get(keyOf(job)) ?? this.#keep(job, () => this.#answer(job, onBegin))
    kept.waiting++
    const release = () => {
      kept.waiting--
      this.#forget(job, kept)
    }
    return { job, answer: kept.answer, release }
  }

  /** Goes on with a job that nobody alive has in hand. Its result stays in the journal. */
  resume(record: JobRecord): void {
    const { job, image } = record
    if (this.has(job)) return
    this.#keep(job, () =>
      this.#inOrder(image, async () => {
        const entry = await this.#services.journal.takeOver(record)
        if (entry === undefined) throw new NotDoneError('somebody else has it')
        return this.#finish(entry)
      }),
    )
  }

  /** Whether it has the job in hand. */
  has(job: Pick<JobMessage, 'agentId' | 'taskId'>): boolean {
    return this.#kept.has(keyOf(job))
  }

  /** How many jobs it has in hand, those included that wait for their image. */
  get inHand(): number {
    return this.#running.size
  }

  #keep(job: JobMessage, run: () => Promise<Answer>): Kept {
    const answer = run().catch(error => {
      throw error instanceof InterruptedError ? new NotDoneError(error.message, { cause: error.cause }) : error
    })
    const kept: Kept = { answer, waiting: 0, isOver: false }
    this.#kept.set(keyOf(job), kept)
    this.#running.add(answer)
    const onEnd = () => {
      kept.isOver = true
      this.#running.delete(answer)
      this.#forget(job, kept)
    }
    answer.then(onEnd, error => {
      onEnd()
      if (!(error instanceof NotDoneError)) this.#logOf(job).error({ err: error }, 'the job has no answer')
    })
    return kept
  }

  #forget(job: JobMessage, kept: Kept): void {
    if (kept.isOver && kept.waiting === 0 && this.#kept.get(keyOf(job)) === kept) this.#kept.delete(keyOf(job))
  }

  #logOf({ taskId, action }: JobMessage) {
    return this.#services.log.child({ job: taskId, action })
  }

  async #answer(job: JobMessage, onBegin: () => void): Promise<Answer> {
    const startedAt = performance.now()
    try {
      const action = actionOf(job)
      const plan = action.plan(job, this.#services.config)
      const { change, look } = action
      if (change) {
        return await this.#inOrder(plan.image, () => {
          onBegin()
          return this.#change(job, change, plan)
        })
      }
      onBegin()
      const services = this.#servicesFor(job, plan, new Date().toISOString(), this.#interrupt)
      return this.#unkept(startedAt, job, succeeded(job, (await look?.(services, plan)) ?? {}))
    } catch (error) {
      if (error instanceof InterruptedError || error instanceof NotDoneError) throw error
      if (this.#interrupt.aborted) throw new NotDoneError('given up', { cause: error })
      // Nothing was begun, or there is nothing to undo: this can be said again, and needs no journal.
      return this.#unkept(startedAt, job, this.#failed(job, error))
    }
  }

  #inOrder(image: string | undefined, work: () => Promise<Answer>): Promise<Answer> {
    const unlessStopping = () => {
      if (this.isEnding) throw new NotDoneError('not begun')
      return work()
    }
    return image === undefined ? unlessStopping() : this.#queue.run(image, unlessStopping)
  }

  async #change(job: JobMessage, action: ChangeAction, plan: Plan): Promise<Answer> {
    const beginning = { plan, image: plan.image, progress: action.begin() }
    return this.#finish(await this.#services.journal.obtain(job, beginning))
  }

  /** Brings a job to its end, unless it has come to it already. */
  async #finish(entry: Entry): Promise<Answer> {
    const { outcome } = entry.record
    if (outcome !== undefined) return { result: outcome, settle: () => entry.settle() }
    for (let left = await entry.lock(); left !== undefined; left = await entry.lock()) {
      if (!this.isEnding) await this.#finish(left)
      if (this.isEnding) throw new NotDoneError('not begun')
    }
    const startedAt = performance.now()
    const result = await this.#run(entry)
    await entry.finish(result)
    this.#count(entry.record.job, result, startedAt)
    return { result, settle: () => entry.settle() }
  }

  async #run(entry: Entry): Promise<JobResult> {
    const { job, image } = entry.record
    const log = this.#logOf(job)
    const startedAt = performance.now()
    log.info({ image }, entry.isNew ? 'job begins' : 'job goes on')
    const stop = new AbortController()
    const unlink = abortWith(stop, this.#interrupt, entry.cancelled)
    try {
      const result = await this.#steps(entry, stop.signal)
      log.info({ ms: Math.round(performance.now() - startedAt) }, 'job done')
      return succeeded(job, result)
    } catch (error) {
      if (error instanceof InterruptedError) throw error
      return this.#failed(job, error)
    } finally {
      unlink()
      // A failure can leave something behind, too.
      this.#services.telemetry.changed()
    }
  }

  async #steps(entry: Entry, signal: AbortSignal): Promise<object> {
    const { job, plan, createdAt } = entry.record
    const { change } = actionOf(job)
    if (change === undefined) throw new Error(`${job.action} changes nothing`)
    const { limitMs } = plan as Plan
    const run = (limit: AbortSignal) =>
      change.run({ ...this.#servicesFor(job, plan, createdAt, signal), goesOn: !entry.isNew }, plan, {
        ledger: entry,
        log: this.#logOf(job),
        signal: limit,
        interrupt: this.#interrupt,
        onStep: (step, verb, ms) => this.#services.metrics.stepEnded(job.action, step, verb, ms / 1000),
      })
    return limitMs === undefined ? run(entry.cancelled) : withTimeLimit(limitMs, entry.cancelled, run)
  }

  #servicesFor(job: JobMessage, { image }: Plan, begunAt: string, signal: AbortSignal): Services {
    const { journal } = this.#services
    return {
      ...this.#services,
      log: this.#logOf(job),
      signal,
      interrupt: this.#interrupt,
      begunAt,
      goesOn: false,
      // The job's own it has already, and would give back too early.
      withImage: (other, work, until) => (other === image ? work() : journal.withImage(other, job.taskId, work, until)),
    }
  }

  /** An answer that the journal does not have. */
  #unkept(startedAt: number, job: JobMessage, result: JobResult): Answer {
    this.#count(job, result, startedAt)
    return { result }
  }

  #count({ action }: JobMessage, result: JobResult, startedAt: number): void {
    const seconds = (performance.now() - startedAt) / 1000
    this.#services.metrics.jobEnded(isAction(action) ? action : 'unknown', result, seconds)
  }

  #failed(job: JobMessage, error: unknown): JobResult {
    const result = failed(job, error)
    const { code, retryable, rollback } = result
    const level = code === 'INTERNAL_ERROR' ? 'error' : 'warn'
    this.#logOf(job)[level]({ code, retryable, rollback, err: error }, 'job failed')
    return result
  }
}

function keyOf({ agentId, taskId }: Pick<JobMessage, 'agentId' | 'taskId'>): string {
  return JSON.stringify([agentId, taskId])
}

/**
 * Aborts the one when any of the others is, until what it returns is called. `AbortSignal.any` would leave something behind
 * in those that live longer.
 */
function abortWith(controller: AbortController, ...signals: AbortSignal[]): () => void {
  const abort = () => controller.abort(signals.find(({ aborted }) => aborted)?.reason)
  for (const signal of signals) {
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
  }
  return () => {
    for (const signal of signals) signal.removeEventListener('abort', abort)
  }
}
