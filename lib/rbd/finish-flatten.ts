/**
 * At its end a flatten of librbd takes the clone from its parent's list; removes the parent's snapshot, if that was kept in the trash
 * for this clone alone; and then takes the parent from the clone. Who dies before that leaves a clone of a snapshot that is gone, or
 * that anybody may remove: nobody can open it then, though it has all of its data.
 *
 * To look at, it is the same as a clone that was robbed of its parent, where all that is not copied would become zeroes. So it is
 * written to the clone's header, before a flatten, that the parent lists it. RBD removes no snapshot that lists a clone, and takes
 * one from the list only when all is copied, or the clone is removed itself.
 */
import { type CallOptions, call } from '../call.js'
import { NotFoundError, PoolNotFoundError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { NativeReadStep } from '../rados/bindings.js'
import { Decoder } from '../rados/decoder.js'
import type { Pool } from '../rados/pool.js'
import { WriteOperation } from '../rados/write-operation.js'
import type { Image } from './image.js'
import type { ImageParent } from './image-info.js'
import {
  ask,
  childrenObject,
  detachParent,
  directoryObject,
  getChildren,
  getImageName,
  getOldChildren,
  getParent,
  getSnapshotIds,
  headerObject,
  isWholeInTrash,
  type ParentReference,
  trashObject,
} from './object-class.js'
import { inPool } from './other-pool.js'

type Options = Pick<CallOptions, 'signal'>

/**
 * An attribute: clones and copies get all metadata of an image, and none of these. It stays there, for an image is a clone of one
 * snapshot only in its life.
 */
const markName = 'cephkit.flatten'

const markOf = ({ poolId, namespace, imageId, snapshotId }: ParentReference): string =>
  JSON.stringify([poolId, namespace, imageId, snapshotId])

/** Keeps for a flatten that is cut short that the parent lists the clone, if it does. */
export async function markFlatten(image: Image, parent: ImageParent, options: Options): Promise<void> {
  const { poolId, namespace, id: imageId, snapshot } = parent
  const reference = { poolId, namespace, imageId, snapshotId: snapshot.id }
  const { id, operationFeatures } = await image.stat(options)
  const look = operationFeatures.includes('clone-child') ? isListed : isListedAsOld
  if (!(await look(image, id, reference, options))) return
  const mark = new WriteOperation().assertExists().setXattr(markName, markOf(reference))
  await image.pool.object(headerObject(id)).operate(mark, options)
}

/** Format 2: by its parent. */
async function isListed({ pool, resource }: Image, id: string, parent: ParentReference, options: Options) {
  const { poolId, namespace, imageId, snapshotId } = parent
  const children = await inPool(pool.cluster, { poolId, namespace }, resource, options, ioctx =>
    ask(ioctx, headerObject(imageId), [getChildren(snapshotId)], resource, options),
  ).catch(ifNone)
  return children?.[0].some(child => child.poolId === pool.id && child.namespace === pool.namespace && child.id === id)
}

/** Format 1: by its own pool. */
async function isListedAsOld({ pool, resource }: Image, id: string, parent: ParentReference, options: Options) {
  const children = await ask(pool.handle, childrenObject, [getOldChildren(parent)], resource, options).catch(ifNone)
  return children?.[0].includes(id)
}

function ifNone(error: unknown): undefined {
  if (!(error instanceof NotFoundError)) throw error
}

/** Behind `pool.finishFlatten()`. */
export async function finishFlatten(
  pool: Pool,
  id: string,
  resource: Resource,
  options: CallOptions,
): Promise<boolean> {
  const header = headerObject(id)
  const steps: NativeReadStep[] = [['getXattrs'], getParent.step]
  const { results } = await call(resource, options, token => native.objectRead(pool.handle, header, steps, token))
  const marks = new Map(results[0] as [string, Buffer][])
  const parent = getParent.decode(new Decoder(results[1] as Buffer))
  if (parent === null || marks.get(markName)?.toString() !== markOf(parent)) return false
  if (!(await isGone(pool, parent, resource, options)) || !(await isWhole(pool, id, resource, options))) return false
  try {
    await call(resource, options, token => native.objectWrite(pool.handle, header, [detachParent], false, token))
  } catch (error) {
    // Somebody else was faster.
    if (!(error instanceof NotFoundError)) throw error
  }
  return true
}

/** Not half removed: RBD takes such a clone from its parent's list, too. */
async function isWhole(pool: Pool, id: string, resource: Resource, options: CallOptions): Promise<boolean> {
  const isListed = await ask(pool.handle, directoryObject, [getImageName(id)], resource, options).catch(ifNone)
  if (isListed !== undefined) return true
  const answers = await ask(pool.handle, trashObject, [isWholeInTrash(id)], resource, options).catch(ifNone)
  return answers?.[0] ?? false
}

/** Whether RBD has removed the snapshot. What went with its pool says nothing of how far a flatten had come. */
async function isGone(pool: Pool, parent: ParentReference, resource: Resource, options: CallOptions): Promise<boolean> {
  const { cluster } = pool
  const { poolId, namespace, imageId, snapshotId } = parent
  try {
    const [ids] = await inPool(cluster, { poolId, namespace }, resource, options, ioctx =>
      ask(ioctx, headerObject(imageId), [getSnapshotIds], resource, options),
    )
    return !ids.includes(snapshotId)
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
  }
  try {
    // Asked last, for a pool that has just gone does not have the image either.
    const where: Resource = { kind: 'pool', name: `id ${poolId}` }
    await call(where, options, token => native.clusterReverseLookUpPool(cluster.handle, poolId, token))
    return true
  } catch (error) {
    if (!(error instanceof PoolNotFoundError)) throw error
    return false
  }
}
