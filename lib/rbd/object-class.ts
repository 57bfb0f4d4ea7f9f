/**
 * The object class `rbd` of the OSDs: what librbd asks an image's objects when it opens the image. Asked directly, all
 * questions about one object are one round trip.
 */
import { type CallOptions, call } from '../call.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { IoctxHandle, NativeReadStep, NativeWriteStep } from '../rados/bindings.js'
import { Decoder, UnreadableError } from '../rados/decoder.js'
import type { SnapshotInfo } from './snapshot.js'

export interface Question<T> {
  step: NativeReadStep
  decode(answer: Decoder): T
}

type Answers<Questions extends readonly Question<unknown>[]> = {
  -readonly [I in keyof Questions]: Questions[I] extends Question<infer T> ? T : never
}

/**
 * Asks one object, in one round trip, as it is at one moment. If one question fails, all do.
 *
 * @throws {UnreadableError}
 *
 * @implements rados_read_op_exec
 */
export async function ask<const Questions extends readonly Question<unknown>[]>(
  ioctx: IoctxHandle,
  object: string,
  questions: Questions,
  resource: Resource,
  options: CallOptions,
): Promise<Answers<Questions>> {
  const steps = questions.map(({ step }) => step)
  const { results } = await call(resource, options, token => native.objectRead(ioctx, object, steps, token))
  return questions.map(({ decode }, i) => decode(new Decoder(results[i] as Buffer))) as Answers<Questions>
}

/** How many things of one object one operation asks about: an OSD does an operation to its end before the next. */
const thingsAtOnce = 64

/** Asks the same of each id, in as few round trips as that takes. Answers in their order. */
export async function askOfEach<const Questions extends readonly Question<unknown>[]>(
  ioctx: IoctxHandle,
  object: string,
  ids: readonly number[],
  questions: (id: number) => Questions,
  resource: Resource,
  options: CallOptions,
): Promise<Answers<Questions>[]> {
  const answers: Answers<Questions>[] = []
  for (let i = 0; i < ids.length; i += thingsAtOnce) {
    const asked = ids.slice(i, i + thingsAtOnce).map(questions)
    const answered = (await ask(ioctx, object, asked.flat(), resource, options)).values()
    for (const some of asked) answers.push(some.map(() => answered.next().value) as Answers<Questions>)
  }
  return answers
}

export const directoryObject = 'rbd_directory'
export const trashObject = 'rbd_trash'
/** Of all clones of format 1 in the pool. */
export const childrenObject = 'rbd_children'
export const headerObject = (id: string): string => `rbd_header.${id}`

/** @param snapshot - Its id; undefined for the image as it is. */
export function objectMapObject(id: string, snapshot?: number): string {
  return snapshot === undefined
    ? `rbd_object_map.${id}`
    : `rbd_object_map.${id}.${snapshot.toString(16).padStart(16, '0')}`
}

function method<T>(name: string, input: Buffer, decode: (answer: Decoder) => T): Question<T> {
  return { step: ['exec', 'rbd', name, input], decode }
}

const nothing = Buffer.alloc(0)

function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** CEPH_NOSNAP: the image as it is. */
const head = u64(2n ** 64n - 2n)
const readOnly = Buffer.from([1])

/** Larger objects than RBD makes, and yet such that their size is a number. */
const maxOrder = 32

export const getSize = method('get_size', head, answer => {
  const order = answer.u8()
  if (order > maxOrder) throw new UnreadableError(`objects of 2^${order} bytes`)
  return { objectSize: 2 ** order, size: answer.u64() }
})

export const getFeatures = method('get_features', Buffer.concat([head, readOnly]), answer => answer.u64())

/** @param snapshot - Its id; undefined for the image as it is. */
export function getFlags(snapshot?: number): Question<number> {
  return method('get_flags', snapshot === undefined ? head : u64(snapshot), answer => answer.u64())
}

/** RBD_FLAG_OBJECT_MAP_INVALID, RBD_FLAG_FAST_DIFF_INVALID */
const mapFlags = { objectMap: 1, fastDiff: 2 }

/** Of the image as it is: its object map counts for nothing until it is made anew. @implements rados_write_op_exec */
export function setMapsInvalid(hasFastDiff: boolean): NativeWriteStep {
  const flags = u64(mapFlags.objectMap + (hasFastDiff ? mapFlags.fastDiff : 0))
  return ['exec', 'rbd', 'set_flags', Buffer.concat([flags, flags, head])]
}

/** The ids of the snapshots, oldest first. */
export const getSnapshotIds = method('get_snapcontext', nothing, answer => {
  answer.u64() // the newest there has been
  return answer.list(decoder => decoder.u64()).sort((a, b) => a - b)
})

export const getSnapshot = (id: number): Question<Omit<SnapshotInfo, 'protected'>> =>
  method('snapshot_get', u64(id), answer => answer.struct(1, decodeSnapshot))

const snapshotNamespaces = ['user', 'group', 'trash', 'mirror'] as const

function decodeSnapshot(decoder: Decoder): Omit<SnapshotInfo, 'protected'> {
  const id = decoder.u64()
  const made = decoder.struct(1, decodeSnapshotNamespace)
  const snapshot = { id, name: decoder.text(), size: decoder.u64(), createdAt: decoder.time(), ...made }
  return made.namespace === 'trash' ? { ...snapshot, clones: decoder.u32() } : snapshot
}

function decodeSnapshotNamespace(decoder: Decoder): Pick<SnapshotInfo, 'namespace' | 'originalName'> {
  const namespace = snapshotNamespaces[decoder.u32()] ?? 'unknown'
  return namespace === 'trash' ? { namespace, originalName: decoder.text() } : { namespace }
}

/** RBD_PROTECTION_STATUS_PROTECTED; there is one for "being unprotected", which is not it. */
const protectedStatus = 2

export const isProtected = (snapshot: number): Question<boolean> =>
  method('get_protection_status', u64(snapshot), answer => answer.u8() === protectedStatus)

export interface ParentReference {
  poolId: number
  namespace: string
  imageId: string
  snapshotId: number
}

/** What the image, or one of its snapshots, is a clone of. */
export const getParent = method('parent_get', nothing, answer => answer.struct(1, decodeParent))

function decodeParent(decoder: Decoder): ParentReference | null {
  const poolId = decoder.i64()
  if (poolId < 0) return null
  return { poolId, namespace: decoder.text(), imageId: decoder.text(), snapshotId: decoder.u64() }
}

/** How much of the parent the image still shows, in bytes. */
export const getParentOverlap = method(
  'parent_overlap_get',
  head,
  answer => answer.optional(decoder => decoder.u64()) ?? 0,
)

/** What it is a clone of is that no more, nor do its snapshots show anything of it. @implements rados_write_op_exec */
export const detachParent: NativeWriteStep = ['exec', 'rbd', 'parent_detach', nothing]

interface ChildReference {
  poolId: number
  id: string
  namespace: string
}

/** The clones of format 2 of one snapshot. */
export const getChildren = (snapshot: number): Question<ChildReference[]> =>
  method('children_list', u64(snapshot), answer => answer.list(child => child.struct(1, decodeChild)))

function decodeChild(decoder: Decoder): ChildReference {
  return { poolId: decoder.i64(), id: decoder.text(), namespace: decoder.text() }
}

/** The ids of those of format 1 that are in the pool. */
export const getOldChildren = ({ poolId, imageId, snapshotId }: ParentReference): Question<string[]> =>
  method('get_children', Buffer.concat([u64(poolId), string(imageId), u64(snapshotId)]), answer =>
    answer.list(decoder => decoder.text()),
  )

export const getCreatedAt = method('get_create_timestamp', nothing, answer => answer.time())
export const getAccessedAt = method('get_access_timestamp', nothing, answer => answer.time())
export const getModifiedAt = method('get_modify_timestamp', nothing, answer => answer.time())

/** Only of images with the feature `striping`. */
export const getStriping = method('get_stripe_unit_count', nothing, answer => ({
  stripeUnit: answer.u64(),
  stripeCount: answer.u64(),
}))

/** The state of each object, two bits each, four to a byte from the highest bits down. */
export interface ObjectMap {
  objects: number
  /** Shares the memory that is decoded. */
  states: Buffer
}

export const loadObjectMap = method('object_map_load', nothing, (answer): ObjectMap => {
  const objects = new Decoder(answer.bytes()).struct(1, decoder => decoder.u64())
  const states = answer.rest()
  if (states.length < Math.ceil(objects / 4))
    throw new UnreadableError(`an object map of ${objects} objects, cut short`)
  return { objects, states }
})

export interface DirectoryEntry {
  /** Empty for an image of the old format. */
  id: string
  name: string
  /** The name as it is in the directory, where it need not be UTF-8. */
  rawName: Buffer
}

/** The images, in the order of their names; not those of the old format. */
export const listDirectory = (after: Buffer, limit: number): Question<DirectoryEntry[]> =>
  method('dir_list', Buffer.concat([string(after), u64(limit)]), answer => answer.list(decodeDirectoryEntry))

function decodeDirectoryEntry(decoder: Decoder): DirectoryEntry {
  const rawName = decoder.bytes()
  return { rawName, name: rawName.toString(), id: decoder.text() }
}

export const getImageId = (name: Buffer): Question<string> =>
  method('dir_get_id', string(name), answer => answer.text())

export const getImageName = (id: string): Question<string> =>
  method('dir_get_name', string(id), answer => answer.text())

/** What an image in the trash was called. */
export const getTrashName = (id: string): Question<string> =>
  method('trash_get', string(id), answer =>
    answer.struct(1, decoder => {
      decoder.u8() // who put it there
      return decoder.text()
    }),
  )

/** TRASH_IMAGE_STATE_NORMAL: neither on its way in or out, nor being removed. */
const normalState = 0

/** Whether an image that is in the trash is all there. */
export const isWholeInTrash = (id: string): Question<boolean> =>
  method('trash_get', string(id), answer =>
    answer.struct(1, decoder => {
      decoder.u8() // who put it there
      decoder.text()
      decoder.time() // since when, and until when at least
      decoder.time()
      return decoder.u8() === normalState
    }),
  )

/** Whether the object has data: images of the old format are listed there, and not in the omap. */
export const hasData: Question<boolean> = { step: ['read', 0, 1], decode: answer => answer.rest().length > 0 }
