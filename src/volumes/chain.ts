/** Clones and what they are clones of. */
import {
  type Cluster,
  type Image,
  ImageNotFoundError,
  IncompleteSnapshotError,
  type LinkedImage,
  PoolNotFoundError,
  SnapshotBusyError,
  SnapshotNotFoundError,
} from '../../lib/index.js'
import type { WithImage } from '../jobs/actions.js'
import { addDue, type DueList } from './due.js'
import { lookAtId, openWhole } from './find.js'
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

/** For how long a job whose clone has come to its end waits for whoever works on what it was a clone of, in milliseconds. */
const patienceMs = 3_000

/**
 * Removes the snapshot that a clone hung on, if it was there for clones alone and none hangs on it any more. For clones
 * of format 2 RBD does so by itself. If somebody else works on the image that it is of, or its next snapshot is not whole, that is
 * due for later.
 */
export async function releaseOrigin(list: DueList, withImage: WithImage, origin: Origin | null): Promise<void> {
  if (origin === null) return
  const { poolName, image: id } = origin
  const name = await unlessGone(async () => {
    await using pool = await list.cluster.openPool(poolName)
    return await lookAtId(pool, id, async image =>
      (await isForClones(image, list.agent, origin)) ? image.name : undefined,
    )
  })
  if (name === undefined) return
  const release = async () => {
    await removeOrigin(list, origin)
    return true
  }
  if (await withImage(`${poolName}/${name}`, release, AbortSignal.timeout(patienceMs)).catch(ifIncomplete)) return
  await addDue(list, { work: 'release', poolName, name, id, origin })
}

/** Somebody may have died while he made the next snapshot, and somebody else goes on with that. */
function ifIncomplete(error: unknown): undefined {
  if (!(error instanceof IncompleteSnapshotError)) throw error
}

/** The same, for whoever has the image to itself. */
export async function removeOrigin({ cluster, agent }: DueList, origin: Origin): Promise<void> {
  await unlessGone(async () => {
    await using pool = await cluster.openPool(origin.poolName)
    await using image = await openWhole(pool, { id: origin.image })
    if (!(await isForClones(image, agent, origin))) return
    await removeOwn(image, agent, ({ id }) => id === origin.snapshot)
  })
}

async function isForClones(image: Image, agent: string, { snapshot }: Origin): Promise<boolean> {
  const mark = await readMark(image, snapshot)
  return mark?.agent === agent && mark.forClone === true
}

async function unlessGone<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    // Others hang on it still; or somebody who is none of ours was faster.
    if (error instanceof SnapshotBusyError || error instanceof SnapshotNotFoundError) return undefined
    // It went with its image.
    if (error instanceof ImageNotFoundError || error instanceof PoolNotFoundError) return undefined
    throw error
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
  await using image = await openWhole(pool, { id }, { readOnly: true })
  const depth = await depthOf(image)
  if (depth === 0) known.add(key)
  return depth
}
