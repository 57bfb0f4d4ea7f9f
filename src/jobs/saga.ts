/**
 * A job as a list of named steps, each with up to three verbs:
 *
 *   find   is it there already, and this job's?
 *   make   do it
 *   undo   take away what find or make gave
 *
 * Steps run in order; what one gives, later ones have as `at.<its name>`. Each is found before it is made, so that a job
 * that runs again goes on where it was. When one fails, those before it are undone in reverse order, and so is that one:
 * its make may have taken effect all the same, and what it has left is looked for with find.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { TimeoutError } from '../../lib/index.js'
import { isRetryable, messageOf } from '../errors.js'
import type { Logger } from '../log.js'

export interface Step<Context, Job, Done, Out> {
  /** Undefined when it is not there. Changes nothing. */
  find?: (context: Context, job: Job, at: Done) => Promise<Out | undefined>
  make: (context: Context, job: Job, at: Done) => Promise<Out>
  /** Removes what find or make gave. That it is gone already counts as done. */
  undo?: (context: Context, made: Out, job: Job) => Promise<void>
  /** What stays behind when undo fails. */
  leaves?: (context: Context, job: Job) => Thing
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

/** A step failed; `cause` is its error. What had been made has been undone, as far as `rollback` says. */
export class StepFailedError extends Error {
  readonly step: string
  readonly rollback: Rollback

  constructor(step: string, cause: unknown, rollback: Rollback) {
    super(messageOf(cause), { cause })
    this.name = 'StepFailedError'
    this.step = step
    this.rollback = rollback
  }
}

export interface RunOptions {
  log: Logger
  /**
   * Asked before each step: once aborted, no further one begins, and its reason is why the job has failed. A step that
   * has begun is waited for, because what it does to the cluster would go on unheard otherwise; Ceph's own time-outs
   * bring it back.
   */
  signal?: AbortSignal
}

/** Pauses before an undo is tried again, in milliseconds. */
const undoDelays = [200, 1_000, 3_000]

// biome-ignore lint/suspicious/noExplicitAny: the types of a step are checked where it is added, by `step`
type AnyStep<Context, Job> = Step<Context, Job, any, any> & { name: string }

// biome-ignore lint/complexity/noBannedTypes: at first nothing has been done
export class Saga<Context, Job, Done extends object = {}> {
  readonly #steps: readonly AnyStep<Context, Job>[]

  private constructor(steps: readonly AnyStep<Context, Job>[]) {
    this.#steps = steps
  }

  static of<Context, Job>(): Saga<Context, Job> {
    return new Saga([])
  }

  step<Name extends string, Out>(
    name: Name,
    step: Step<Context, Job, Done, Out>,
  ): Saga<Context, Job, Done & { [K in Name]: Out }> {
    return new Saga([...this.#steps, { name, ...step }])
  }

  /** @throws {StepFailedError} */
  async run(context: Context, job: Job, { log, signal }: RunOptions): Promise<Done> {
    const at: Record<string, unknown> = {}
    const begun: AnyStep<Context, Job>[] = []
    for (const step of this.#steps) {
      try {
        signal?.throwIfAborted()
        begun.unshift(step)
        const found = await step.find?.(context, job, at)
        at[step.name] = found === undefined ? await step.make(context, job, at) : found
        log.debug({ step: step.name }, 'step done')
      } catch (error) {
        log.debug({ step: step.name, err: error }, 'step failed')
        const leftovers = await undoAll(begun, context, job, at, log)
        throw new StepFailedError(step.name, error, { complete: leftovers.length === 0, leftovers })
      }
    }
    return at as Done
  }
}

/** Undoes all it can: a step that cannot be undone does not keep the others from it. */
async function undoAll<Context, Job>(
  steps: readonly AnyStep<Context, Job>[],
  context: Context,
  job: Job,
  at: Record<string, unknown>,
  log: Logger,
): Promise<Leftover[]> {
  const leftovers = new Map<string, Leftover>()
  for (const step of steps) {
    try {
      await undo(step, context, job, at)
    } catch (error) {
      const thing = step.leaves?.(context, job) ?? { kind: 'step', name: step.name }
      log.warn({ step: step.name, left: thing, err: error }, 'not undone')
      leftovers.set(`${thing.kind} ${thing.name}`, { ...thing, reason: messageOf(error) })
    }
  }
  return [...leftovers.values()]
}

async function undo<Context, Job>(
  step: AnyStep<Context, Job>,
  context: Context,
  job: Job,
  at: Record<string, unknown>,
): Promise<void> {
  if (step.undo === undefined) return
  for (const pause of [...undoDelays, null]) {
    try {
      const made = step.name in at ? at[step.name] : await step.find?.(context, job, at)
      if (made !== undefined) await step.undo(context, made, job)
      return
    } catch (error) {
      if (pause === null || !isWorthRepeating(error)) throw error
      await delay(pause)
    }
  }
}

/** A time-out has had its patience already: to have more would hold the job's result back for minutes. */
function isWorthRepeating(error: unknown): boolean {
  return isRetryable(error) && !(error instanceof TimeoutError)
}
