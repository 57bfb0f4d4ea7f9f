/** For commands that look into the journal. */
import type { Place } from '../audit/audit.js'

/** On a connection of its own, with the settings that the agent has. */
export async function withJournal<T>(use: (place: Place) => Promise<T>): Promise<T> {
  // Not with the other commands, which do without the addon.
  const { Cluster } = await import('../../lib/index.js')
  const { readCephConfig } = await import('../config.js')
  const { Records } = await import('../journal/records.js')
  const { configFile, user, keyring, volumePool: poolName } = readCephConfig()
  await using cluster = await Cluster.connect({ configFile, user, keyring })
  await using records = await Records.open(cluster, poolName)
  return await use({ cluster, poolName, records })
}
