/**
 * A job as a list of named steps, each with up to three verbs:
 *
 *   find   is it there already, and this job's?
 *   make   do it
 *   undo   take away what find or make gave
 *
 * Steps run in order; what one gives, later ones have as `at.<its name>`. That a step is about to be made is in the ledger
 * before it is, and what it gave is there before the next one is made. A job that runs again, after its process died or
 * could not go on, goes on where the ledger says: what was made is not made again, and what may have been is looked for with
 * find first. A job that has not run before is not looked for: make has to say what it means that something is there.
 *
 * When a step fails, the ledger says so, and then those before it are undone in reverse order, and so is that one: its make
 * may have taken effect all the same, and what it has left is looked for with find. A job that runs again goes on undoing.
 *
 * A step without make changes nothing, and is not in the ledger: what find gives is what it gives.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { describeFailure, type Failure, isRetryable, messageOf } from '../errors.js'
import type { Logger } from '../log.js'

/** What it gives must be what JSON can hold: a process that goes on with the job has it from the ledger. */
export interface Step<Context, Plan, Done, Out> {
  /** Undefined when it is not there. Changes nothing. */
  find?: (context: Context, plan: Plan, at: Done) => Promise<Out | undefined>
  make: (context: Context, plan: Plan, at: Done) => Promise<Out>
  /** Removes what find or make gave. That it is gone already counts as done. */
  undo?: (context: Context, made: Out, plan: Plan) => Promise<void>
  /** What stays behind when undo fails. */
  leaves?: (context: Context, plan: Plan) => Thing
  /** What is done by then cannot be undone: the step is made also if the job has been cancelled meanwhile. */
  inAnyCase?: true
}

/** A step that changes nothing. */
export interface LookStep<Context, Plan, Done, Out> {
  find: (context: Context, plan: Plan, at: Done) => Promise<Out>
  make?: never
  /** For what is there whichever steps were made. */
  undo?: (context: Context, found: Out, plan: Plan) => Promise<void>
  leaves?: (context: Context, plan: Plan) => Thing
  inAnyCase?: never
}

export interface Thing {
  /** Such as `image`. */
  kind: string
  /** Such as `rbd/vm-1`. */
  name: string
}

export interface Leftover extends Thing {
  reason: string
}

export interface Rollback {
  complete: boolean
  leftovers: Leftover[]
}

/** How far a job has come, as JSON. */
export interface Progress {
  /** In the order in which they were begun. One that has been made has `made`. */
  steps: { name: string; made?: unknown }[]
  /** Why it is undone, from when it is. */
  failure?: Failure & { step: string }
}

/** What keeps the progress of one job, beyond the life of a process. */
export interface Ledger {
  /** Whether the job is in hand for the first time: then nothing of it can be there. */
  readonly isNew: boolean
  /** The saga changes this, and then calls `write`. */
  readonly progress: Progress
  /** Resolves when it is kept. When it rejects, the run ends so, and the job is neither done nor undone. */
  write(): Promise<void>
}

/** A step failed. What had been made has been undone, as far as `rollback` says. */
export class StepFailedError extends Error {
  readonly failure: Failure & { step: string }
  readonly rollback: Rollback

  /** @param cause - The step's error; there is none if it failed in another process. */
  constructor(failure: Failure & { step: string }, rollback: Rollback, cause: unknown) {
    super(failure.error, { cause })
    this.name = 'StepFailedError'
    this.failure = failure
    this.rollback = rollback
  }
}

/** This process cannot go on with the job; the ledger says how far it has come. */
export class InterruptedError extends Error {
  constructor(options: ErrorOptions) {
    super('the job is interrupted', options)
    this.name = 'InterruptedError'
  }
}

export interface RunOptions {
  ledger: Ledger
  log: Logger
  /**
   * Asked before each step is made: once aborted, no further one is, and its reason is why the job has failed. A step that
   * has begun is waited for, because what it does to the cluster would go on unheard otherwise; Ceph's own time-outs
   * bring it back.
   */
  signal?: AbortSignal
  /** Once aborted, a step that fails is no failure of the job: it stays as it is, for the next that has it in hand. */
  interrupt?: AbortSignal
  /** Told of each step that something was done for in this run, well or badly, and how many milliseconds it took. */
  onStep?: (step: string, verb: 'find' | 'make' | 'undo', ms: number) => void
}

/** Pauses before an undo is tried again, in milliseconds. */
const undoDelays = [200, 1_000, 3_000]

// biome-ignore-start lint/suspicious/noExplicitAny: the types of a step are checked where it is added, by `step`
type AnyStep<Context, Plan> = { name: string } & (Step<Context, Plan, any, any> | LookStep<Context, Plan, any, any>)
// biome-ignore-end lint/suspicious/noExplicitAny: see above

type At = Record<string, unknown>

// biome-ignore lint/complexity/noBannedTypes: at first nothing has been done
export class Saga<Context, Plan, Done extends object = {}> {
  readonly #steps: readonly AnyStep<Context, Plan>[]

  private constructor(steps: readonly AnyStep<Context, Plan>[]) {
    this.#steps = steps
  }

  static of<Context, Plan>(): Saga<Context, Plan> {
    return new Saga([])
  }

  step<Name extends string, Out>(
    name: Name,
    step: Step<Context, Plan, Done, Out>,
  ): Saga<Context, Plan, Done & { [K in Name]: Out }>
  step<Name extends string, Out>(
    name: Name,
    step: LookStep<Context, Plan, Done, Out>,
  ): Saga<Context, Plan, Done & { [K in Name]: Out }>
  step(name: string, step: Omit<AnyStep<Context, Plan>, 'name'>) {
    return new Saga<Context, Plan, never>([...this.#steps, { ...step, name } as AnyStep<Context, Plan>])
  }

  /** The progress of a job that is about to begin: the first step that changes something may be made at any moment. */
  begin(): Progress {
    const first = this.#steps.find(step => step.make !== undefined)
    return { steps: first ? [{ name: first.name }] : [] }
  }

  /**
   * @throws {StepFailedError}
   * @throws {InterruptedError}
   */
  async run(context: Context, plan: Plan, options: RunOptions): Promise<Done> {
    return (await new SagaRun(this.#steps, context, plan, options).run()) as Done
  }
}

class SagaRun<Context, Plan> {
  readonly #steps: readonly AnyStep<Context, Plan>[]
  readonly #context: Context
  readonly #plan: Plan
  readonly #options: RunOptions
  readonly #at: At = {}
  /** Steps that an earlier run may have made, without having come to say so. */
  readonly #mayBeMade: ReadonlySet<string>

  constructor(steps: readonly AnyStep<Context, Plan>[], context: Context, plan: Plan, options: RunOptions) {
    this.#steps = steps
    this.#context = context
    this.#plan = plan
    this.#options = options
    const { isNew, progress } = options.ledger
    const uncertain = isNew ? [] : progress.steps.filter(step => !('made' in step))
    this.#mayBeMade = new Set(uncertain.map(({ name }) => name))
    for (const step of progress.steps) if ('made' in step) this.#at[step.name] = step.made
  }

  async run(): Promise<At> {
    const { progress } = this.#options.ledger
    let cause: unknown
    if (progress.failure === undefined) {
      const failed = await this.#goForward()
      if (failed === undefined) return this.#at
      cause = failed.error
      progress.failure = { ...describeFailure(cause), step: failed.step }
      // What has nothing to undo has its outcome next.
      if (this.#begunUpTo(failed.step).some(({ undo }) => undo !== undefined)) await this.#options.ledger.write()
    }
    const rollback = await this.#goBack(progress.failure.step)
    throw new StepFailedError(progress.failure, rollback, cause)
  }

  async #goForward(): Promise<{ step: string; error: unknown } | undefined> {
    const { ledger, log } = this.#options
    for (const [index, step] of this.#steps.entries()) {
      const isNew = step.make !== undefined && this.#madeOf(step) === undefined
      // Written with the end of the step before, unless that was by a version that did not have this one.
      if (isNew && this.#setBegun(step)) await ledger.write()
      try {
        this.#at[step.name] = await this.#give(step)
        log.debug({ step: step.name }, 'step done')
      } catch (error) {
        this.#throwIfInterrupted(error)
        log.debug({ step: step.name, err: error }, 'step failed')
        return { step: step.name, error }
      }
      if (!isNew) continue
      this.#setMade(step)
      const next = this.#steps.slice(index + 1).find(({ make }) => make !== undefined)
      // What the last step gave is written with the outcome.
      if (next !== undefined && this.#setBegun(next)) await ledger.write()
    }
    return undefined
  }

  async #give(step: AnyStep<Context, Plan>): Promise<unknown> {
    if (step.make === undefined) return this.#timed(step, 'find', () => step.find(this.#context, this.#plan, this.#at))
    const made = this.#madeOf(step)
    if (made !== undefined) return made.value
    if (!step.inAnyCase) this.#options.signal?.throwIfAborted()
    if (this.#mayBeMade.has(step.name)) {
      const found = await this.#timed(step, 'find', async () => step.find?.(this.#context, this.#plan, this.#at))
      if (found !== undefined) return found
    }
    return this.#timed(step, 'make', () => step.make(this.#context, this.#plan, this.#at))
  }

  async #timed<T>({ name }: { name: string }, verb: 'find' | 'make' | 'undo', work: () => Promise<T>): Promise<T> {
    const begunAt = performance.now()
    try {
      return await work()
    } finally {
      this.#options.onStep?.(name, verb, performance.now() - begunAt)
    }
  }

  /** Undoes all it can: a step that cannot be undone does not keep the others from it. */
  async #goBack(failedStep: string): Promise<Rollback> {
    const leftovers = new Map<string, Leftover>()
    for (const step of this.#begunUpTo(failedStep).reverse()) {
      try {
        if (step.undo !== undefined) await this.#timed(step, 'undo', () => this.#undo(step))
      } catch (error) {
        this.#throwIfInterrupted(error)
        const thing = step.leaves?.(this.#context, this.#plan) ?? { kind: 'step', name: step.name }
        this.#options.log.warn({ step: step.name, left: thing, err: error }, 'not undone')
        leftovers.set(`${thing.kind} ${thing.name}`, { ...thing, reason: messageOf(error) })
      }
    }
    return { complete: leftovers.size === 0, leftovers: [...leftovers.values()] }
  }

  #begunUpTo(failedStep: string): AnyStep<Context, Plan>[] {
    const failedAt = this.#steps.findIndex(({ name }) => name === failedStep)
    // A version that does not know the step cannot know which come before it.
    return failedAt === -1 ? [...this.#steps] : this.#steps.slice(0, failedAt + 1)
  }

  async #undo(step: AnyStep<Context, Plan>): Promise<void> {
    if (step.undo === undefined) return
    for (const pause of [...undoDelays, null]) {
      try {
        const made = await this.#toUndo(step)
        if (made !== undefined) await step.undo(this.#context, made, this.#plan)
        return
      } catch (error) {
        if (pause === null || !isRetryable(error) || this.#options.interrupt?.aborted) throw error
        await delay(pause)
      }
    }
  }

  async #toUndo(step: AnyStep<Context, Plan>): Promise<unknown> {
    const made = this.#madeOf(step)
    return made !== undefined ? made.value : await step.find?.(this.#context, this.#plan, this.#at)
  }

  #throwIfInterrupted(error: unknown): void {
    if (error instanceof InterruptedError) throw error
    if (this.#options.interrupt?.aborted) throw new InterruptedError({ cause: error })
  }

  #progressOf({ name }: AnyStep<Context, Plan>) {
    return this.#options.ledger.progress.steps.find(step => step.name === name)
  }

  #madeOf(step: AnyStep<Context, Plan>): { value: unknown } | undefined {
    const progress = this.#progressOf(step)
    return progress && 'made' in progress ? { value: progress.made } : undefined
  }

  /** Returns false if it was. */
  #setBegun(step: AnyStep<Context, Plan>): boolean {
    if (this.#progressOf(step) !== undefined) return false
    this.#options.ledger.progress.steps.push({ name: step.name })
    return true
  }

  #setMade(step: AnyStep<Context, Plan>): void {
    const progress = this.#progressOf(step)
    // JSON has no undefined.
    if (progress !== undefined) progress.made = this.#at[step.name] ?? null
  }
}
