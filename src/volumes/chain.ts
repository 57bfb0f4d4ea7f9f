/** Clones and what they are clones of. */
import {
  type Cluster,
  type Image,
  ImageNotFoundError,
  type LinkedImage,
  PoolNotFoundError,
  SnapshotBusyError,
  SnapshotNotFoundError,
} from '../../lib/index.js'
import { lookAtId } from './find.js'
import { readMark } from './mark.js'
import { removeOwn } from './snapshots.js'

/** The snapshot of a volume that another volume is a clone of. */
export interface Origin {
  poolName: string
  /** The id of the image. */
  image: string
  /** The id of the snapshot. */
  snapshot: number
}

/** Null also for a clone of an image in another pool, where there are no volumes. */
export async function originOf(image: Image): Promise<Origin | null> {
  const parent = await image.parent()
  if (parent?.pool !== image.pool.name || parent.namespace !== image.pool.namespace) return null
  return { poolName: parent.pool, image: parent.id, snapshot: parent.snapshot.id }
}

/**
 * Removes the snapshot that a clone hung on, if it was there for clones alone and none hangs on it any more. For clones
 * of format 2 RBD does so by itself.
 */
export async function releaseOrigin(cluster: Cluster, agent: string, origin: Origin | null): Promise<void> {
  if (origin === null) return
  try {
    await using pool = await cluster.openPool(origin.poolName)
    const mark = await lookAtId(pool, origin.image, image => readMark(image, origin.snapshot))
    if (mark?.agent !== agent || !mark.forClone) return
    await using image = await pool.openImageById(origin.image)
    await removeOwn(image, agent, ({ id }) => id === origin.snapshot)
  } catch (error) {
    // Whoever removes the volume it is of can be at it, too.
    if (error instanceof SnapshotBusyError || error instanceof SnapshotNotFoundError) return
    // It went with its image.
    if (!(error instanceof ImageNotFoundError || error instanceof PoolNotFoundError)) throw error
  }
}

/** Images that are no clones. They never become any, while a clone can cease to be one. */
const roots = new WeakMap<Cluster, Set<string>>()

/** How many images the image is made of beside its own: its parent, the parent's parent, and so on. */
export async function depthOf(image: Image): Promise<number> {
  const parent = await image.parent()
  return parent === null ? 0 : 1 + (await depthOfParent(image.pool.cluster, parent))
}

async function depthOfParent(
  cluster: Cluster,
  { pool: poolName, poolId, namespace, id }: LinkedImage,
): Promise<number> {
  const known = roots.get(cluster) ?? new Set()
  roots.set(cluster, known)
  const key = `${poolId}/${namespace}/${id}`
  if (known.has(key)) return 0
  // Without its pool the clone could not have been opened.
  if (poolName === undefined) throw new Error(`the pool ${poolId} is gone, with the parent of a clone`)
  await using pool = await cluster.openPool(poolName, { namespace })
  await using image = await pool.openImageById(id, { readOnly: true })
  const depth = await depthOf(image)
  if (depth === 0) known.add(key)
  return depth
}
