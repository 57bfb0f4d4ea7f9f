/** Pools that have reached their quota, as the monitors see it. */

import { setTimeout as delay } from 'node:timers/promises'
import { until } from './broker.js'
import { run } from './cluster.js'

export type Quota = 'max_objects' | 'max_bytes'

/** Waits until it counts. */
export async function fill(poolName: string, quota: Quota, value = 1): Promise<void> {
  await run('ceph', 'osd', 'pool', 'set-quota', poolName, quota, String(value))
  await untilIt(poolName, 'is full', true)
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
  await until(`${poolName}, which ${is}`, async () => {
    if ((await isFull(poolName)) === full) return true
    // Each look is a program in Python, whose start others wait for too.
    await delay(300)
    return false
  })
}

export async function isFull(poolName: string): Promise<boolean> {
  const pools: { pool_name: string; flags_names: string }[] = JSON.parse(
    await run('ceph', 'osd', 'pool', 'ls', 'detail', '--format', 'json'),
  )
  const flags = pools.find(pool => pool.pool_name === poolName)?.flags_names
  if (flags === undefined) throw new Error(`there is no pool ${poolName}`)
  return flags.split(',').includes('full_quota')
}
