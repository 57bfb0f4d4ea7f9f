/** The way from a method of this library to the addon and back: errors, AbortSignal, progress. */
import { channel } from 'node:diagnostics_channel'
import { onAbort } from './abort.js'
import type { AbortToken, Handle, OnProgress, WorkerLoad } from './bindings.js'
import { checkCallOptions } from './check.js'
import { AbortError, type Resource, toCephError } from './errors.js'
import { nameOf, native } from './native.js'

export interface CallOptions {
  /**
   * Aborting rejects the call with an AbortError at once. Work that has begun stops where librbd lets it; else it goes
   * on unheard, and what was asked may be done all the same. `close()` waits for it either way.
   */
  signal?: AbortSignal | undefined
}

export interface ProgressOptions extends CallOptions {
  /**
   * Called as the work goes on, with how much is done of how much; the unit is the call's own. There may be no report
   * at all, and the last one may fall short of the total. An exception ends the call as an abort does.
   */
  onProgress?: OnProgress | undefined
}

/** What subscribers of the channel `cephkit:call` of `node:diagnostics_channel` hear of each call that is over. */
export interface CallReport {
  /** What was called, such as `imageResize`. */
  operation: string
  /** What it was called on, such as `image` and `rbd/tenant-a/vm-1`. */
  resource: { kind: string; name: string }
  /** Milliseconds until the caller had its answer. */
  durationMs: number
  /** What the call was rejected with: a CephError, an AbortError, or what the caller's own function threw. */
  error?: unknown
}

const calls = channel('cephkit:call')

/** How busy the library's own threads are at the moment. */
export function workerLoad(): WorkerLoad {
  return native.workerLoad()
}

type Start<T> = (token: AbortToken | undefined, onProgress: OnProgress | null) => Promise<T>

/**
 * Makes one native call. What it throws has the stack of the method's caller.
 *
 * @param own - The options that the call has besides those of every call.
 */
export async function call<T>(
  resource: Resource,
  options: ProgressOptions | undefined,
  start: Start<T>,
  own: readonly string[] = none,
): Promise<T> {
  if (options !== undefined) checkCallOptions(options, own)
  const report = calls.hasSubscribers ? new Report(resource) : undefined
  const reported = report?.watching(start) ?? start
  try {
    const { signal, onProgress } = options ?? {}
    const isPlain = signal === undefined && onProgress === undefined
    const answer = await (isPlain ? reported(undefined, null) : stoppable(signal, onProgress, reported))
    report?.end()
    return answer
  } catch (error) {
    if (!isNativeError(error)) {
      report?.end(error)
      throw error
    }
    const cephError = toCephError(error, resource)
    Error.captureStackTrace(cephError, call)
    report?.end(cephError)
    throw cephError
  }
}

/** Of one call, for who listens. */
class Report {
  readonly #resource: Resource
  readonly #begunAt = performance.now()
  #operation = 'none'

  constructor(resource: Resource) {
    this.#resource = resource
  }

  watching<T>(start: Start<T>): Start<T> {
    return (token, onProgress) => {
      const { answer, name } = nameOf(() => start(token, onProgress))
      if (name !== '') this.#operation = name
      return answer
    }
  }

  end(error?: unknown): void {
    const report: CallReport = {
      operation: this.#operation,
      resource: this.#resource,
      durationMs: performance.now() - this.#begunAt,
      ...(error !== undefined && { error }),
    }
    calls.publish(report)
  }
}

/**
 * A native call that opens something. It is closed again when `complete`, which may make more calls, fails, or the
 * caller has stopped waiting.
 */
export async function open<H extends Handle>(
  resource: Resource,
  options: CallOptions,
  start: Start<H>,
  complete: (handle: H, token: AbortToken | undefined) => Promise<unknown> = async () => {},
): Promise<H> {
  let opening: Promise<H> | undefined
  try {
    return await call(resource, options, async (token, onProgress) => {
      opening = start(token, onProgress)
      const handle = await opening
      await complete(handle, token)
      return handle
    })
  } catch (error) {
    const closed = opening?.then(native.close, () => {})
    // Who has aborted does not wait, and so does not hear of it either.
    if (error instanceof AbortError) closed?.catch(() => {})
    else await closed
    throw error
  }
}

/** Closes what was opened for a call that is over. Who has aborted does not wait, and so does not hear of it either. */
export async function closeAfter(handle: Handle, { signal }: Pick<CallOptions, 'signal'>): Promise<void> {
  const closed = native.close(handle)
  if (signal?.aborted) closed.catch(() => {})
  else await closed
}

async function stoppable<T>(
  signal: AbortSignal | undefined,
  onProgress: OnProgress | undefined,
  start: Start<T>,
): Promise<T> {
  if (signal?.aborted) throw new AbortError({ cause: signal.reason })
  const token = native.newAbortToken()
  let waiting = true
  let stop: (reason: unknown) => void = () => {}
  const stopped = new Promise<never>((_, reject) => {
    stop = reason => {
      waiting = false
      native.abort(token)
      reject(reason)
    }
  })
  const ignore = signal && onAbort(signal, () => stop(new AbortError({ cause: signal.reason })))
  // An exception in the caller's own function stops the call as an abort does, and is what the call rejects with.
  const report: OnProgress | null = onProgress
    ? (done, total) => {
        if (!waiting) return
        try {
          onProgress(done, total)
        } catch (error) {
          stop(error)
        }
      }
    : null
  try {
    return await Promise.race([start(token, report), stopped])
  } finally {
    ignore?.()
  }
}

const none: readonly string[] = []

function isNativeError(error: unknown): error is Error & { errno: number; syscall: string } {
  return error instanceof Error && 'errno' in error && 'syscall' in error && !('code' in error)
}
