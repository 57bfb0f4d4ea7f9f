/** Many directories at once: for reports of how much is in each, and how much there may be. */
import type { CallOptions } from '../call.js'
import type { Directory } from './directory.js'
import { countXattrs, type DirectoryUsage, parseQuota, parseUsage, type Quota } from './quota.js'

export interface DirectoryReport {
  /** As bytes, for it may be no UTF-8. */
  name: Buffer
  quota: Quota
  /** Without `changedAt`, for each attribute is a question to the MDS. */
  usage: Omit<DirectoryUsage, 'changedAt'>
  /** Those that were asked for and are there. */
  xattrs: Map<string, Buffer>
}

/** How many directories one native call asks about. */
const namesAtOnce = 32

/** The names of the directories in a directory. @internal */
export async function* batchesOf(directory: Directory<Buffer>, options: CallOptions): AsyncGenerator<Buffer[]> {
  let batch: Buffer[] = []
  for await (const entry of directory.entries(options)) {
    if (!entry.isDirectory()) continue
    batch.push(entry.name)
    if (batch.length < namesAtOnce) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

/** @param answers - For each name, quota, usage and the other attributes; or null, for what is gone. @internal */
export function toReports(
  names: readonly Buffer[],
  answers: readonly ((Buffer | null)[] | null)[],
  xattrs: readonly string[],
): DirectoryReport[] {
  return answers.flatMap((answer, i) => {
    const name = names[i]
    if (answer === null || name === undefined) return []
    const [quota = null, ...rest] = answer
    const usage = rest.slice(0, countXattrs.length)
    // It is no directory any more.
    if (usage.includes(null)) return []
    const others = rest.slice(countXattrs.length)
    const found = xattrs.flatMap((xattr, j): [string, Buffer][] => (others[j] ? [[xattr, others[j]]] : []))
    return [{ name, quota: parseQuota(quota), usage: parseUsage(usage), xattrs: new Map(found) }]
  })
}

/** What `work` gives for each, some of them at once, in their order. @internal */
export async function* inFlight<T, R>(
  limit: number,
  items: AsyncIterable<T>,
  work: (item: T) => Promise<readonly R[]>,
): AsyncGenerator<R, void, undefined> {
  const running: Promise<readonly R[]>[] = []
  try {
    for await (const item of items) {
      const run = work(item)
      // It is heard of when its turn comes.
      run.catch(() => {})
      running.push(run)
      if (running.length === limit) yield* await next(running)
    }
    while (running.length > 0) yield* await next(running)
  } finally {
    await Promise.allSettled(running)
  }
}

async function next<R>(running: Promise<readonly R[]>[]): Promise<readonly R[]> {
  const [first] = running
  const results = (await first) ?? []
  running.shift()
  return results
}
