import { constants } from 'node:os'
import { type CallOptions, call } from '../call.js'
import { NotFoundError, type Resource, toCephError } from '../errors.js'
import { native } from '../native.js'
import type { Cluster } from '../rados/cluster.js'
import type { Pool } from '../rados/pool.js'
import type { NativeImageOptions } from './bindings.js'
import { featuresOf } from './features.js'
import type { Image } from './image.js'
import { readSnapshots } from './listing.js'
import { ask, directoryObject, getFeatures, getImageId, getSnapshotIds, headerObject } from './object-class.js'
import { presentName, presentNameOf } from './present-name.js'
import { Snapshot, type SnapshotReference } from './snapshot.js'

/** The first of Ceph's releases whose clients know clones of format 2. */
const mimic = 13

/**
 * Refuses what librbd would refuse once it has opened the parent. librbd 16.2 then closes the parent before it is done with
 * it, which can abort the process.
 *
 * @param pool - The parent's.
 * @param resource - The clone.
 * @returns The name of the parent.
 *
 * @throws {ImageNotFoundError}
 * @throws {SnapshotNotFoundError}
 * @throws {InvalidArgumentError} the snapshot is not protected, and the clone's format needs that; or the image is of format 1
 * @throws {NotSupportedError} the image or the clone does not have the feature layering
 */
export async function checkClone(
  pool: Pool,
  parent: SnapshotReference,
  clone: NativeImageOptions,
  resource: Resource,
  options: CallOptions,
): Promise<string> {
  const { imageName, seen } = await look(pool, parent, resource, options)
  if (seen === null) {
    // Says what is not there.
    await (await pool.openImage(imageName, { ...options, snapshot: parent.name })).close()
    throw refusal('EINVAL', resource)
  }
  const hasLayering = (features: number) => featuresOf(features).includes('layering')
  if (!hasLayering(seen.features) || !hasLayering(clone.features ?? seen.features)) throw refusal('ENOSYS', resource)
  if (seen.protected || (clone.cloneFormat ?? (await defaultFormat(pool.cluster, options))) === 2) return imageName
  throw refusal('EINVAL', resource)
}

interface Look {
  /** What the parent is called by now: another image may have the name that an open one was opened by. */
  imageName: string
  /** Null where there is no such image of format 2 with that snapshot. */
  seen: { features: number; protected: boolean } | null
}

async function look(pool: Pool, parent: SnapshotReference, resource: Resource, options: CallOptions): Promise<Look> {
  const { name } = parent
  const openImage = parent instanceof Snapshot && !parent.image.closed ? parent.image : undefined
  if (openImage && knowsItsSnapshots(openImage)) {
    const asParent = call(resource, options, token => native.snapshotAsParent(openImage.handle, name, token))
    const seen = await asParent.catch(ifNone)
    if (seen !== null) return { imageName: await presentNameOf(openImage, seen.id, options), seen }
  }
  const imageName = openImage ? await presentName(openImage, options) : parent.imageName
  return { imageName, seen: await readSnapshot(pool, imageName, name, resource, options).catch(ifNone) }
}

function ifNone(error: unknown): null {
  if (error instanceof NotFoundError) return null
  throw error
}

async function readSnapshot(
  pool: Pool,
  imageName: string,
  name: string,
  resource: Resource,
  options: CallOptions,
): Promise<Look['seen']> {
  const [id] = await ask(pool.handle, directoryObject, [getImageId(Buffer.from(imageName))], resource, options)
  const header = headerObject(id)
  const [features, ids] = await ask(pool.handle, header, [getFeatures, getSnapshotIds], resource, options)
  const snapshots = await readSnapshots(pool.handle, header, ids, resource, options)
  const snapshot = snapshots.find(each => each.namespace === 'user' && each.name === name)
  return snapshot === undefined ? null : { features, protected: snapshot.protected }
}

/** And so costs no round trip. */
const knowsItsSnapshots = (image: Image) => image.snapshotName === null

async function defaultFormat(cluster: Cluster, options: CallOptions): Promise<1 | 2> {
  const option = await cluster.getOption('rbd_default_clone_format', options)
  if (option !== 'auto') return option === '2' ? 2 : 1
  return (await cluster.minCompatibleClient(options)) < mimic ? 1 : 2
}

function refusal(code: 'EINVAL' | 'ENOSYS', resource: Resource) {
  return toCephError({ errno: -constants.errno[code], syscall: 'rbd_clone3', message: '' }, resource)
}
