/** Pools that have reached their quota, as the monitors see it, and the OSDs. */
import { Cluster, QuotaExceededError } from '../../lib/index.js'
import { until } from './broker.js'
import { run } from './cluster.js'

export type Quota = 'max_objects' | 'max_bytes'

/** Waits until it counts. */
export async function fill(poolName: string, quota: Quota, value = 1): Promise<void> {
  await run('ceph', 'osd', 'pool', 'set-quota', poolName, quota, String(value))
  await untilIt(poolName, 'is full', true)
  await using cluster = await Cluster.connect()
  await using pool = await cluster.openPool(poolName, { whenFull: 'try' })
  const object = pool.object('one too many')
  await until(`the OSDs of ${poolName} to know that it is full`, async () => {
    try {
      await object.writeFull('data')
    } catch (error) {
      if (error instanceof QuotaExceededError) return true
      throw error
    }
    await object.remove()
    return false
  })
}

/** Takes the quota away, and waits until it does not count any more. */
export async function unfill(poolName: string, quota: Quota): Promise<void> {
  await run('ceph', 'osd', 'pool', 'set-quota', poolName, quota, '0')
  await untilRoom(poolName)
}

export async function untilRoom(poolName: string): Promise<void> {
  await untilIt(poolName, 'has room', false)
}

async function untilIt(poolName: string, is: string, full: boolean): Promise<void> {
  // In this process: the start of a program for each look is what others would wait for.
  await using cluster = await Cluster.connect()
  await until(`${poolName}, which ${is}`, async () => (await hasFlag(cluster, poolName)) === full)
}

export async function isFull(poolName: string): Promise<boolean> {
  await using cluster = await Cluster.connect()
  return hasFlag(cluster, poolName)
}

async function hasFlag(cluster: Cluster, poolName: string): Promise<boolean> {
  const command = { prefix: 'osd pool ls', detail: 'detail', format: 'json' }
  const pools = await cluster.monCommand<{ pool_name: string; flags_names: string }[]>(command)
  const flags = pools.find(pool => pool.pool_name === poolName)?.flags_names
  if (flags === undefined) throw new Error(`there is no pool ${poolName}`)
  return flags.split(',').includes('full_quota')
}
