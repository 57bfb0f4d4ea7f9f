import type { Cluster } from '../../lib/index.js'
import type { Config } from '../config.js'

/** On a connection of its own, with the settings that the agent has. */
export async function withCluster<T>(
  use: (cluster: Cluster, ceph: Config['ceph']) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  // Not with the other commands, which do without the addon.
  const { Cluster } = await import('../../lib/index.js')
  const { readCephConfig } = await import('../config.js')
  const ceph = readCephConfig()
  const { configFile, user, keyring } = ceph
  await using cluster = await Cluster.connect({ configFile, user, keyring, whenFull: 'try', signal })
  return await use(cluster, ceph)
}
