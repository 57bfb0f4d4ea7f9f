/** For commands that look into the journal. */
import type { Place } from '../audit/audit.js'
import { withCluster } from './cluster.js'

export function withJournal<T>(use: (place: Place) => Promise<T>): Promise<T> {
  return withCluster(async (cluster, { volumePool: poolName }) => {
    const { Records } = await import('../journal/records.js')
    await using records = await Records.open(cluster, poolName)
    return await use({ cluster, poolName, records })
  })
}
