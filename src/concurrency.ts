/**
 * Does the work for each item, at most `limit` at a time. After a failure none begins any more, those that run are waited
 * for, and then it is thrown.
 */
export async function forEachLimited<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items[Symbol.iterator]()
  let failed = false
  const worker = async () => {
    for (let next = rest.next(); !next.done && !failed; next = rest.next()) {
      try {
        await work(next.value)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const workers = await Promise.allSettled(Array.from({ length: limit }, worker))
  const failure = workers.find(outcome => outcome.status === 'rejected')
  if (failure) throw failure.reason
}

/** What `work` gives for each item, in their order. */
export async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length)
  await forEachLimited(items.entries(), limit, async ([index, item]) => {
    results[index] = await work(item)
  })
  return results
}

/**
 * Makes many requests into few runs: each caller gets a run that began after it asked, and those who ask while one is
 * running share the next.
 */
export function coalesced<T>(run: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined
  let next: Promise<T> | undefined
  const begin = () => {
    next = undefined
    const started = run().finally(() => {
      if (current === started) current = undefined
    })
    current = started
    return started
  }
  return () => {
    if (current === undefined) return begin()
    next ??= current.then(begin, begin)
    return next
  }
}
