import { setTimeout as delay } from 'node:timers/promises'
import { BlocklistedError, ClosedError } from '../../lib/index.js'
import { messageOf } from '../errors.js'
import { InterruptedError } from '../jobs/saga.js'
import type { Logger } from '../log.js'

/** Of the pauses between one try and the next, in milliseconds; each is spread, and twice as long as the one before. */
interface Pauses {
  first: number
  longest: number
}

/** For what the cluster has not done: what it does not answer has had its 30 seconds already. */
const afterFailure: Pauses = { first: 500, longest: 15_000 }
/** For what somebody else has yet to do. */
const forOthers: Pauses = { first: 20, longest: 1_000 }

/**
 * Tries until it is done: what the journal has to know, it has to know, however long the cluster is away. Ends only with the
 * process's own part in it.
 */
export class Patience {
  /** Aborted when there is no use in trying any more. */
  readonly #over: AbortSignal
  /** Aborted when others are not to be waited for any more. */
  readonly #alone: AbortSignal
  readonly #log: Logger
  readonly #onBlocklisted: (error: Error) => void

  /** @param signals.alone - Aborted also when `over` is. */
  constructor(signals: { over: AbortSignal; alone: AbortSignal }, log: Logger, onBlocklisted: (error: Error) => void) {
    this.#over = signals.over
    this.#alone = signals.alone
    this.#log = log
    this.#onBlocklisted = onBlocklisted
  }

  /** The same, on behalf of a job, of which its log tells. */
  for(job: string): Patience {
    return new Patience({ over: this.#over, alone: this.#alone }, this.#log.child({ job }), this.#onBlocklisted)
  }

  /**
   * @param isFinal - Which errors the caller wants to have; it tries again after others. Default: none.
   * @throws {InterruptedError}
   */
  async untilDone<T>(what: string, work: () => Promise<T>, isFinal: (error: unknown) => boolean = none): Promise<T> {
    for (const pause of pauses(afterFailure)) {
      try {
        this.#over.throwIfAborted()
        return await work()
      } catch (error) {
        if (error instanceof BlocklistedError) this.#onBlocklisted(error)
        if (this.#over.aborted || error instanceof ClosedError) throw new InterruptedError({ cause: error })
        if (isFinal(error)) throw error
        this.#log.warn({ what, reason: messageOf(error) }, 'the journal cannot be reached, trying again')
      }
      await spread(pause, this.#over)
    }
    throw new Error('pauses have no end')
  }

  /**
   * Looks until there is something.
   *
   * @throws {InterruptedError}
   */
  async untilThere<T>(look: () => Promise<T | undefined>): Promise<T> {
    for (const pause of pauses(forOthers)) {
      const found = await look()
      if (found !== undefined) return found
      await spread(pause, this.#alone)
    }
    throw new Error('pauses have no end')
  }
}

/** Waits for a while, up to half of it less. */
async function spread(longest: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(longest * (0.5 + Math.random() / 2), undefined, { signal })
  } catch (error) {
    throw new InterruptedError({ cause: error })
  }
}

function* pauses({ first, longest }: Pauses): Generator<number, void> {
  for (let pause = first; ; pause = Math.min(pause * 2, longest)) yield pause
}

function none(): boolean {
  return false
}
