/**
 * Calls on one mount. libcephfs waits for an MDS as long as that takes, in a thread of its caller's, and knows no way to
 * stop. So each call has a limit of time, and a mount has so many calls under way at most: what hangs keeps its thread, and
 * the other threads are for others.
 */
import { type CallOptions, call } from '../call.js'
import { checkCallOptions } from '../check.js'
import { AbortError, type Resource } from '../errors.js'
import { type AbortToken, type AnyHandle, native } from '../native.js'
import { failure } from './failure.js'

/** Half of the addon's threads. */
const callsAtOnce = 32

type Start<T> = (token: AbortToken) => Promise<T>

/** Which calls of a mount may begin. */
export class Turns {
  /** How long a call may take, and may have to wait before, in milliseconds; 0 is without a limit. */
  readonly limitMs: number
  #taken = 0
  readonly #waiting = new Set<() => void>()

  constructor(limitMs: number) {
    this.limitMs = limitMs
  }

  /** False when there is none free. */
  take(): boolean {
    if (this.#taken === callsAtOnce) return false
    this.#taken++
    return true
  }

  /** Takes one when it is free. */
  async wait(resource: Resource, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) throw new AbortError({ cause: signal.reason })
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => () => {
        this.#waiting.delete(take)
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        settle()
      }
      const take = end(resolve)
      const onAbort = end(() => reject(new AbortError({ cause: signal?.reason })))
      const onLate = end(() => reject(failure('ETIMEDOUT', 'wait', resource, 'too many calls before this one')))
      const timer = this.limitMs === 0 ? undefined : setTimeout(onLate, this.limitMs)
      signal?.addEventListener('abort', onAbort, { once: true })
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
  readonly #handle: AnyHandle
  readonly #parent: Calls | undefined
  /** One for each call that waits for its turn. */
  readonly #notBegun = new Set<Promise<void>>()
  #closing = false

  constructor(turns: Turns, handle: AnyHandle, parent?: Calls) {
    this.#turns = turns
    this.#handle = handle
    this.#parent = parent
  }

  get closed(): boolean {
    return this.#closing || this.#parent?.closed || !native.isOpen(this.#handle)
  }

  /** Those on what has been opened through this. */
  of(handle: AnyHandle): Calls {
    return new Calls(this.#turns, handle, this)
  }

  /** As `call()` in call.ts. */
  async call<T>(resource: Resource, options: CallOptions | undefined, start: Start<T>): Promise<T> {
    if (options !== undefined) checkCallOptions(options)
    if (this.closed) throw failure('EBADF', 'close', resource)
    const latest = performance.now() + this.#turns.limitMs
    const run = () => inTurn(this.#turns, resource, options, start, latest)
    if (this.#turns.take()) return run()
    const begun = this.#announce()
    try {
      await this.#turns.wait(resource, options?.signal)
      const running = run()
      begun()
      return await running
    } finally {
      begun()
    }
  }

  /** As `open()` in call.ts. */
  async open<H extends AnyHandle>(resource: Resource, options: CallOptions, start: Start<H>): Promise<H> {
    return opened((opening: Start<H>) => this.call(resource, options, opening), start)
  }

  /** Closes, when all calls that were made before have begun; for that there is always a turn. */
  async close(resource: Resource): Promise<void> {
    this.#closing = true
    const close = async () => {
      await Promise.all(this.#notBegun)
      await native.close(this.#handle)
    }
    await call(resource, {}, () => inTime(resource, close, this.#turns.limitMs, this.#turns.limitMs))
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
export async function openMount<H extends AnyHandle>(
  turns: Turns,
  resource: Resource,
  options: CallOptions,
  start: Start<H>,
): Promise<H> {
  turns.take()
  const latest = performance.now() + turns.limitMs
  return opened((opening: Start<H>) => inTurn(turns, resource, options, opening, latest), start)
}

/** What opens after nobody waits for it any more is closed, and nobody waits for that either. */
async function opened<H extends AnyHandle>(make: (start: Start<H>) => Promise<H>, start: Start<H>): Promise<H> {
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

/** A call that has its turn, and passes it on: not when its caller has had enough, but when its thread is free again. */
async function inTurn<T>(
  turns: Turns,
  resource: Resource,
  options: CallOptions | undefined,
  start: Start<T>,
  latest: number,
): Promise<T> {
  let running: Promise<T> | undefined
  const begin = (token: AbortToken) => {
    running = start(token)
    return running
  }
  try {
    return await call(resource, options && { signal: options.signal }, given => {
      const token = given ?? native.newAbortToken()
      const left = latest - performance.now()
      return inTime(
        resource,
        () => begin(token),
        left,
        turns.limitMs,
        () => native.abort(token),
      )
    })
  } finally {
    if (running) running.then(turns.give, turns.give)
    else turns.give()
  }
}

async function inTime<T>(
  resource: Resource,
  begin: () => Promise<T>,
  leftMs: number,
  limitMs: number,
  onLate: () => void = () => {},
): Promise<T> {
  if (limitMs === 0) return begin()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      onLate()
      reject(failure('ETIMEDOUT', 'wait', resource, `${limitMs} ms`))
    }, leftMs)
  })
  try {
    return await Promise.race([begin(), late])
  } finally {
    clearTimeout(timer)
  }
}
