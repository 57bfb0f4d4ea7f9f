/**
 * Does something with a signal that is aborted when another one is, with its reason, or when the time is up, with what
 * `AbortSignal.timeout()` gives.
 *
 * It is not made of that and of `AbortSignal.any()`: Node 20 does not keep a time-out that only `any` knows of, so it would
 * never come once there was a collection of garbage.
 */
export async function withTimeLimit<T>(
  limitMs: number,
  signal: AbortSignal,
  work: (limit: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController()
  const end = () => limit.abort(signal.reason)
  const timeUp = () => limit.abort(new DOMException(`not done after ${limitMs / 1000} s`, 'TimeoutError'))
  if (signal.aborted) end()
  signal.addEventListener('abort', end)
  const timer = setTimeout(timeUp, limitMs)
  try {
    return await work(limit.signal)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
  }
}
