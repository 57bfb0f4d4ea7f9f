import { type CallOptions, open } from '../call.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import { UnreadableError } from '../rados/decoder.js'
import type { Pool } from '../rados/pool.js'
import { featuresOf, flagsOf } from './features.js'
import type { Image } from './image.js'
import {
  ask,
  askOfEach,
  type DirectoryEntry,
  getFeatures,
  getFlags,
  getSize,
  getSnapshot,
  getSnapshotIds,
  getStriping,
  headerObject,
  loadObjectMap,
  objectMapObject,
  type Question,
} from './object-class.js'
import {
  bytesIn,
  changedFrom,
  changedUntil,
  existing,
  type Layout,
  type ObjectSet,
  type States,
  statesOf,
} from './object-map.js'
import type { SnapshotInfo } from './snapshot.js'
import { imageResource, survey, type UnreadableImage } from './survey.js'
import { countUsedBytes } from './used-bytes.js'

export interface SnapshotUsage {
  /** As in `SnapshotInfo`. */
  id: number
  name: string
  /** The image's size at the time, in bytes. */
  size: number
  /** What was written since the snapshot before, or in all; in bytes. */
  changedBytes: number
}

export interface ImageUsage {
  id: string
  name: string
  /** In bytes. */
  size: number
  /** How many bytes have data, as `image.usedBytes()` counts. */
  usedBytes: number
  /** What was written since the last snapshot, or in all: for the image and its snapshots what `rbd du` calls used. */
  changedBytes: number
  /** Those of the user, oldest first. */
  snapshots: SnapshotUsage[]
  error?: undefined
}

/** Behind `pool.listImageUsage()`. */
export function listImageUsage(
  pool: Pool,
  options: CallOptions,
): AsyncGenerator<ImageUsage | UnreadableImage, void, undefined> {
  return survey<ImageUsage>(pool, options, {
    read: (entry, options) => read(pool, entry, options),
    open: readOpen,
  })
}

/** The image at a snapshot, or as it is. */
interface Version {
  layout: Layout
  flags: number
}

interface SnapshotVersion extends Version {
  snapshot: Omit<SnapshotInfo, 'protected'>
}

type LoadStates = (version: Version, snapshot?: number) => Promise<States>

/** From the object maps, as librbd does where it can. */
async function read(pool: Pool, { id, name }: DirectoryEntry, options: CallOptions): Promise<ImageUsage> {
  const resource = imageResource(pool, { name })
  const asked = <const Q extends readonly Question<unknown>[]>(object: string, questions: Q) =>
    ask(pool.handle, object, questions, resource, options)

  const header = headerObject(id)
  const [{ size, objectSize }, bits, flags, ids] = await asked(header, [
    getSize,
    getFeatures,
    getFlags(),
    getSnapshotIds,
  ])
  const features = featuresOf(bits)
  if (!features.includes('fast-diff') || features.includes('migrating')) throw new UnreadableError('no fast diff')
  const [striping] = features.includes('striping')
    ? await asked(header, [getStriping])
    : [{ stripeUnit: objectSize, stripeCount: 1 }]
  const layout = { size, objectSize, ...striping }

  const about = (snapshot: number) => [getSnapshot(snapshot), getFlags(snapshot)] as const
  const snapshots = (await askOfEach(pool.handle, header, ids, about, resource, options)).map(([snapshot, flags]) => ({
    snapshot,
    flags,
    layout: { ...layout, size: snapshot.size },
  }))
  const load: LoadStates = async (version, snapshot) => {
    if (flagsOf(version.flags).includes('fast diff invalid'))
      throw new UnreadableError('an object map that is not valid')
    const [map] = await asked(objectMapObject(id, snapshot), [loadObjectMap])
    return statesOf(map, version.layout)
  }
  return { id, name, size, ...(await addUp(snapshots, { layout, flags }, load)) }
}

/** One map after the other, as each may be large, and is compared with the one before only. */
async function addUp(
  versions: SnapshotVersion[],
  head: Version,
  load: LoadStates,
): Promise<Pick<ImageUsage, 'usedBytes' | 'changedBytes' | 'snapshots'>> {
  const snapshots: SnapshotUsage[] = []
  let changed: ObjectSet | undefined
  for (const version of versions) {
    const { id, name, size, namespace } = version.snapshot
    // What is no snapshot of the user's has no count of its own; but it has seen changes since the last that has.
    if (namespace !== 'user' && changed === undefined) continue
    const states = await load(version, id)
    changed = changed && changedUntil(changed, states)
    if (namespace !== 'user') continue
    snapshots.push({ id, name, size, changedBytes: bytesIn(existing(states, changed), version.layout) })
    changed = changedFrom(states)
  }
  const states = await load(head)
  const usedBytes = bytesIn(existing(states), head.layout)
  if (changed === undefined) return { usedBytes, changedBytes: usedBytes, snapshots }
  const changedBytes = bytesIn(existing(states, changedUntil(changed, states)), head.layout)
  return { usedBytes, changedBytes, snapshots }
}

async function readOpen(image: Image, { id, name }: DirectoryEntry, options: CallOptions): Promise<ImageUsage> {
  const size = await image.size(options)
  const snapshots: SnapshotUsage[] = []
  for (const snapshot of await image.listSnapshots(options)) {
    if (snapshot.namespace !== 'user') continue
    const changedBytes = await changedAt(image, options, id, snapshot.name, snapshots.at(-1)?.name ?? null)
    snapshots.push({ id: snapshot.id, name: snapshot.name, size: snapshot.size, changedBytes })
  }
  const usedBytes = await image.usedBytes(options)
  const last = snapshots.at(-1)
  const changedBytes = last === undefined ? usedBytes : await usedSince(image, options, last.name)
  return { id, name, size, usedBytes, changedBytes, snapshots }
}

async function changedAt(
  image: Image,
  options: CallOptions,
  id: string,
  snapshot: string,
  from: string | null,
): Promise<number> {
  const { pool } = image
  const resource: Resource = { kind: 'snapshot', name: `${image.path}@${snapshot}` }
  const handle = await open(resource, options, token =>
    id === ''
      ? native.imageOpen(pool.handle, image.name, snapshot, true, token)
      : native.imageOpenById(pool.handle, id, snapshot, true, token),
  )
  try {
    return await countUsedBytes(
      handle,
      resource,
      { from: from === null ? null : named(image, from), includeParent: false },
      options,
    )
  } finally {
    await native.close(handle)
  }
}

const named = ({ path }: Image, name: string) => ({ name, path: `${path}@${name}` })

/** Not by `image.usedBytes()`, which takes no name that it could not show. */
function usedSince(image: Image, options: CallOptions, snapshot: string): Promise<number> {
  return countUsedBytes(image.handle, image.resource, { from: named(image, snapshot), includeParent: false }, options)
}
