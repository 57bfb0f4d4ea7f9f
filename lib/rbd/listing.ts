import { type CallOptions, call, open } from '../call.js'
import { NotFoundError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { IoctxHandle } from '../rados/bindings.js'
import { UnreadableError } from '../rados/decoder.js'
import type { Pool } from '../rados/pool.js'
import { featuresOf, flagsOf } from './features.js'
import type { Image } from './image.js'
import type { ImageParent, ImageStat } from './image-info.js'
import {
  ask,
  askOfEach,
  type DirectoryEntry,
  directoryObject,
  getAccessedAt,
  getCreatedAt,
  getFeatures,
  getFlags,
  getImageName,
  getModifiedAt,
  getParent,
  getParentOverlap,
  getSize,
  getSnapshot,
  getSnapshotIds,
  getTrashName,
  headerObject,
  isProtected,
  type ParentReference,
  trashObject,
} from './object-class.js'
import type { SnapshotInfo } from './snapshot.js'
import { imageResource, survey, type UnreadableImage } from './survey.js'

/** What a listing tells of an image: what `image.stat()`, `parent()` and `listSnapshots()` would. */
export interface ImageDetails
  extends Pick<
    ImageStat,
    'name' | 'id' | 'size' | 'objectSize' | 'format' | 'features' | 'flags' | 'createdAt' | 'accessedAt' | 'modifiedAt'
  > {
  /** The snapshot the image is a clone of, and how much of it the image still shows, in bytes. */
  parent: (ImageParent & { overlap: number }) | null
  /** Oldest first. */
  snapshots: SnapshotInfo[]
  error?: undefined
}

/** Behind `pool.listImageDetails()`. */
export async function* listImageDetails(
  pool: Pool,
  options: CallOptions,
): AsyncGenerator<ImageDetails | UnreadableImage, void, undefined> {
  const parents = new Parents(pool)
  try {
    yield* survey<ImageDetails>(pool, options, {
      read: (entry, options) => read(pool, parents, entry, options),
      open: readOpen,
    })
  } finally {
    await parents.close()
  }
}

async function read(
  pool: Pool,
  parents: Parents,
  { id, name }: DirectoryEntry,
  options: CallOptions,
): Promise<ImageDetails> {
  const resource = imageResource(pool, { name })
  const header = headerObject(id)
  const [{ size, objectSize }, featureBits, flagBits, snapshotIds, reference, overlap, ...times] = await ask(
    pool.handle,
    header,
    [
      getSize,
      getFeatures,
      getFlags(),
      getSnapshotIds,
      getParent,
      getParentOverlap,
      getCreatedAt,
      getAccessedAt,
      getModifiedAt,
    ],
    resource,
    options,
  )
  const features = featuresOf(featureBits)
  // Its header tells of the move; librbd shows the image that it will be.
  if (features.includes('migrating')) throw new UnreadableError('in migration')
  const [snapshots, parent] = await Promise.all([
    readSnapshots(pool.handle, header, snapshotIds, resource, options),
    // A clone that was shrunk to nothing shows nothing of its parent any more, and librbd says that it has none.
    reference !== null && overlap > 0 ? parents.get(reference, options) : null,
  ])
  const [createdAt, accessedAt, modifiedAt] = times
  return {
    name,
    id,
    size,
    objectSize,
    format: 2,
    features,
    flags: flagsOf(flagBits),
    createdAt,
    accessedAt,
    modifiedAt,
    parent: parent && { ...parent, overlap },
    snapshots,
  }
}

/** The snapshots of an image that is not of the old format, oldest first, as they are at one moment. */
export async function listSnapshots(
  ioctx: IoctxHandle,
  id: string,
  resource: Resource,
  options: CallOptions,
): Promise<SnapshotInfo[]> {
  const header = headerObject(id)
  for (;;) {
    const [ids] = await ask(ioctx, header, [getSnapshotIds], resource, options)
    try {
      return await readSnapshots(ioctx, header, ids, resource, options)
    } catch (error) {
      // One of them is gone; or the image is, and then it says so next.
      if (!(error instanceof NotFoundError)) throw error
    }
  }
}

export async function readSnapshots(
  ioctx: IoctxHandle,
  header: string,
  ids: number[],
  resource: Resource,
  options: CallOptions,
): Promise<SnapshotInfo[]> {
  const questions = (id: number) => [getSnapshot(id), isProtected(id)] as const
  const answers = await askOfEach(ioctx, header, ids, questions, resource, options)
  // Only the user's own snapshots can be protected.
  return answers.map(([snapshot, kept]) => ({ ...snapshot, protected: snapshot.namespace === 'user' && kept }))
}

async function readOpen(image: Image, { id, name }: DirectoryEntry, options: CallOptions): Promise<ImageDetails> {
  const [stat, parent, snapshots] = await Promise.all([
    image.stat(options),
    image.parent(options),
    image.listSnapshots(options),
  ])
  const { size, objectSize, format, features, flags, createdAt, accessedAt, modifiedAt, overlap } = stat
  return {
    name,
    id,
    size,
    objectSize,
    format,
    features,
    flags,
    createdAt,
    accessedAt,
    modifiedAt,
    parent: parent && { ...parent, overlap },
    snapshots,
  }
}

/** How many parents are remembered, so that a listing has its bounds in memory however many there are. */
const parentsRemembered = 1024

/** The names of parents. Many clones share one, so each is asked for once. */
class Parents {
  readonly #pool: Pool
  readonly #known = new Map<string, Promise<ImageParent>>()
  /** By pool and namespace. */
  readonly #places = new Map<string, Promise<Place>>()

  constructor(pool: Pool) {
    this.#pool = pool
  }

  get(reference: ParentReference, options: CallOptions): Promise<ImageParent> {
    const { poolId, namespace, imageId, snapshotId } = reference
    const key = JSON.stringify([poolId, namespace, imageId, snapshotId])
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const [oldest] = this.#known.keys()
    if (oldest !== undefined && this.#known.size >= parentsRemembered) this.#known.delete(oldest)
    const found = this.#find(reference, options)
    this.#known.set(key, found)
    return found
  }

  async #find({ poolId, namespace, imageId, snapshotId }: ParentReference, options: CallOptions): Promise<ImageParent> {
    const { ioctx, pool } = await this.#place(poolId, namespace, options)
    const resource: Resource = { kind: 'image', name: `${pool}/${namespace && `${namespace}/`}id ${imageId}` }
    const [{ name, inTrash }, [snapshot]] = await Promise.all([
      this.#name(ioctx, imageId, resource, options),
      ask(ioctx, headerObject(imageId), [getSnapshot(snapshotId)], resource, options),
    ])
    return { poolId, pool, namespace, id: imageId, name, inTrash, snapshot: { id: snapshotId, name: snapshot.name } }
  }

  async #name(
    ioctx: IoctxHandle,
    id: string,
    resource: Resource,
    options: CallOptions,
  ): Promise<{ name: string; inTrash: boolean }> {
    try {
      const [name] = await ask(ioctx, directoryObject, [getImageName(id)], resource, options)
      return { name, inTrash: false }
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error
      const [name] = await ask(ioctx, trashObject, [getTrashName(id)], resource, options)
      return { name, inTrash: true }
    }
  }

  #place(poolId: number, namespace: string, options: CallOptions): Promise<Place> {
    const key = JSON.stringify([poolId, namespace])
    const place = this.#places.get(key) ?? this.#open(poolId, namespace, options)
    this.#places.set(key, place)
    return place
  }

  async #open(poolId: number, namespace: string, options: CallOptions): Promise<Place> {
    const { cluster } = this.#pool
    const resource: Resource = { kind: 'pool', name: `id ${poolId}` }
    const pool = await call(resource, options, token => native.clusterReverseLookUpPool(cluster.handle, poolId, token))
    const ioctx = await open(resource, options, token =>
      native.ioctxOpenById(cluster.handle, poolId, namespace, false, token),
    )
    return { pool, ioctx }
  }

  async close(): Promise<void> {
    for (const place of await Promise.allSettled(this.#places.values())) {
      if (place.status === 'fulfilled') await native.close(place.value.ioctx)
    }
  }
}

interface Place {
  pool: string
  ioctx: IoctxHandle
}
