/** Targets that no list has: nobody is going to serve a volume by them, or to remove them, but whoever finds them. */
import type { Cluster } from '../../lib/index.js'
import { imageOf } from '../names.js'
import type { ExposedTarget } from './driver.js'
import { keyOf, listAllExposures } from './exposure.js'
import { isElsewhere } from './identity.js'

export interface Strays {
  strays: ExposedTarget[]
  /**
   * Those of our prefix that another agent has in its list, or that show something else than the image of their name: another
   * agent of this host has the same prefix, for another pool perhaps, or somebody has made them by hand.
   */
  others: ExposedTarget[]
}

/**
 * Looks at the lists of all agents of the pool, after the targets have been listed: an entry is written before its target is
 * made.
 */
export async function straysAmong(
  targets: readonly ExposedTarget[],
  cluster: Cluster,
  poolName: string,
): Promise<Strays> {
  if (targets.length === 0) return { strays: [], others: [] }
  const fsid = await cluster.fsid()
  const lists = [...(await listAllExposures(cluster, poolName)).values()]
  const wanted = new Set(lists.flatMap(({ exposures }) => exposures.map(({ iqn }) => iqn)))
  const unreadable = new Set(lists.flatMap(list => list.unreadable.map(keyOf)))
  const isOther = ({ iqn, disk }: ExposedTarget) => {
    const image = keyOf({ poolName, name: imageOf(iqn) })
    if (wanted.has(iqn) || unreadable.has(image)) return true
    return disk !== undefined && (disk.image !== image || isElsewhere(disk.identity, fsid, poolName))
  }
  return { strays: targets.filter(target => !isOther(target)), others: targets.filter(isOther) }
}
