/**
 * Calls on one mount. libcephfs waits for an MDS as long as that takes, in a thread of its caller's, and knows no way to
 * stop. So each call has a limit of time, and a mount has so many calls under way at most: what hangs keeps its thread, and
 * the other threads are for others.
 */

import { onAbort } from '../abort.js'
import type { AbortToken, Handle } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkCallOptions } from '../check.js'
import { AbortError, type Resource } from '../errors.js'
import { native } from '../native.js'
import { failure } from './failure.js'

/** Of a mount by libcephfs: half of the addon's threads. */
const callsAtOnce = 32

type Start<T> = (token: AbortToken) => Promise<T>

/** Which calls of a mount may begin. */
export class Turns {
  readonly #atOnce: number
  #taken = 0
  readonly #waiting = new Set<() => void>()
  /** Of calls under way, those that nobody waits for any more, as they have not come back in time. */
  late = 0

  constructor(atOnce: number = callsAtOnce) {
    this.#atOnce = atOnce
  }

  /** False when there is none free. */
  take(): boolean {
    if (this.#taken === this.#atOnce) return false
    this.#taken++
    return true
  }

  /** Takes one when it is free. @param limitMs - How long that may take; 0 is without a limit. */
  async wait(resource: Resource, signal: AbortSignal | undefined, limitMs: number): Promise<void> {
    if (signal?.aborted) throw new AbortError({ cause: signal.reason })
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => () => {
        this.#waiting.delete(take)
        clearTimeout(timer)
        ignore?.()
        settle()
      }
      const take = end(resolve)
      const onLate = end(() => reject(failure('ETIMEDOUT', 'wait', resource, 'too many calls before this one')))
      const timer = limitMs === 0 ? undefined : setTimeout(onLate, limitMs)
      const aborted = end(() => reject(new AbortError({ cause: signal?.reason })))
      const ignore = signal && onAbort(signal, aborted)
      this.#waiting.add(take)
    })
  }

  /** Passes one on to who waits longest. */
  readonly give = (): void => {
    const [take] = this.#waiting
    if (take) take()
    else this.#taken--
  }
}

/** Those on one handle: a mount, or a file or directory that was opened through it. */
export class Calls {
  readonly #turns: Turns
  readonly #limitMs: number
  readonly #handle: Handle
  readonly #parent: Calls | undefined
  /** One for each call that waits for its turn. */
  readonly #notBegun = new Set<Promise<void>>()
  #closing = false

  /** @param limitMs - How long a call may take, and may have to wait before; 0 is without a limit. */
  constructor(turns: Turns, limitMs: number, handle: Handle, parent?: Calls) {
    this.#turns = turns
    this.#limitMs = limitMs
    this.#handle = handle
    this.#parent = parent
  }

  get closed(): boolean {
    return this.#closing || this.#parent?.closed || !native.isOpen(this.#handle)
  }

  /** Those on what has been opened through this. */
  of(handle: Handle): Calls {
    return new Calls(this.#turns, this.#limitMs, handle, this)
  }

  /** As `call()` in call.ts. */
  async call<T>(resource: Resource, options: CallOptions | undefined, start: Start<T>): Promise<T> {
    if (options !== undefined) checkCallOptions(options)
    if (this.closed) throw failure('EBADF', 'close', resource)
    const limit = limitFrom(this.#limitMs)
    const run = () => inTurn(this.#turns, limit, resource, options, start)
    if (this.#turns.take()) return run()
    const begun = this.#announce()
    try {
      await this.#turns.wait(resource, options?.signal, this.#limitMs)
      const running = run()
      begun()
      return await running
    } finally {
      begun()
    }
  }

  /** As `open()` in call.ts. */
  async open<H extends Handle>(resource: Resource, options: CallOptions, start: Start<H>): Promise<H> {
    return opened((opening: Start<H>) => this.call(resource, options, opening), start)
  }

  /** Closes, when all calls that were made before have begun; for that there is always a turn. */
  async close(resource: Resource): Promise<void> {
    this.#closing = true
    const close = async () => {
      await Promise.all(this.#notBegun)
      await native.close(this.#handle)
    }
    await call(resource, {}, () => inTime(resource, close, limitFrom(this.#limitMs)))
  }

  /** Lets a call wait. Answers what is to be called when it has begun, or never will. */
  #announce(): () => void {
    let resolve = () => {}
    const begun = new Promise<void>(settle => {
      resolve = settle
    })
    const all = this.#parent ? [this.#notBegun, this.#parent.#notBegun] : [this.#notBegun]
    for (const each of all) each.add(begun)
    return () => {
      for (const each of all) each.delete(begun)
      resolve()
    }
  }
}

/** Mounts, which is the first call. */
export async function openMount<H extends Handle>(
  turns: Turns,
  limitMs: number,
  resource: Resource,
  options: CallOptions,
  start: Start<H>,
): Promise<H> {
  turns.take()
  const limit = limitFrom(limitMs)
  return opened((opening: Start<H>) => inTurn(turns, limit, resource, options, opening), start)
}

/** What opens after nobody waits for it any more is closed, and nobody waits for that either. */
async function opened<H extends Handle>(make: (start: Start<H>) => Promise<H>, start: Start<H>): Promise<H> {
  let opening: Promise<H> | undefined
  try {
    return await make(token => {
      opening = start(token)
      return opening
    })
  } catch (error) {
    opening?.then(native.close).catch(() => {})
    throw error
  }
}

/** How long something may take, in milliseconds, and when that is over; 0 is without a limit. */
export interface Limit {
  limitMs: number
  latest: number
}

/** One that begins now. */
export function limitFrom(limitMs: number): Limit {
  return { limitMs, latest: performance.now() + limitMs }
}

/** A call that has its turn, and passes it on: not when its caller has had enough, but when its thread is free again. */
export async function inTurn<T>(
  turns: Turns,
  limit: Limit,
  resource: Resource,
  options: CallOptions | undefined,
  start: Start<T>,
): Promise<T> {
  let running: Promise<T> | undefined
  const begunAt = performance.now()
  let lateness: Lateness | undefined
  const begin = (token: AbortToken) => {
    running = start(token)
    return running
  }
  const end = () => {
    lateness?.end()
    turns.give()
  }
  try {
    return await call(resource, options && { signal: options.signal }, given => {
      const token = given ?? native.newAbortToken()
      const onLate = () => {
        lateness = new Lateness(turns, begunAt + limit.limitMs)
        native.abort(token)
      }
      return inTime(resource, () => begin(token), limit, { onLate, signal: options?.signal })
    })
  } finally {
    if (running) running.then(end, end)
    else turns.give()
  }
}

/** Within which a timer is exact, in milliseconds. */
const timerError = 10

/** Of a call that nobody waits for any more. One that had to wait for its turn is not late before it has had all its time. */
class Lateness {
  readonly #turns: Turns
  readonly #timer: NodeJS.Timeout | undefined
  #isCounted = false

  constructor(turns: Turns, lateAt: number) {
    this.#turns = turns
    const remaining = lateAt - performance.now()
    if (remaining > timerError) this.#timer = setTimeout(() => this.#count(), remaining).unref()
    else this.#count()
  }

  #count(): void {
    this.#isCounted = true
    this.#turns.late++
  }

  end(): void {
    clearTimeout(this.#timer)
    if (this.#isCounted) this.#turns.late--
  }
}

async function inTime<T>(
  resource: Resource,
  begin: () => Promise<T>,
  { limitMs, latest }: Limit,
  { onLate = () => {}, signal }: { onLate?: () => void; signal?: AbortSignal | undefined } = {},
): Promise<T> {
  if (limitMs === 0) return begin()
  let timer: NodeJS.Timeout | undefined
  // Nobody waits for it any more, and the process need not either.
  const ignore = signal && onAbort(signal, () => timer?.unref())
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      onLate()
      reject(failure('ETIMEDOUT', 'wait', resource, `${limitMs} ms`))
    }, latest - performance.now())
  })
  try {
    return await Promise.race([begin(), late])
  } finally {
    clearTimeout(timer)
    ignore?.()
  }
}
