/** What an OSD counts. */
import type { Cluster } from '../../lib/index.js'

/** How many operations the OSDs have done for clients. */
export async function operationsOf(cluster: Cluster): Promise<number> {
  const ids = await cluster.monCommand<number[]>({ prefix: 'osd ls' })
  let operations = 0
  for (const id of ids) {
    const counters = await cluster.osdCommand<{ osd: { op: number } }>(id, { prefix: 'perf dump' })
    operations += counters.osd.op
  }
  return operations
}
