import { constants } from 'node:os'
import { type CallOptions, call } from '../call.js'
import { toCephError } from '../errors.js'
import { native } from '../native.js'
import type { ImageHandle } from './bindings.js'
import type { Image } from './image.js'
import { ask, getSize, getSnapshot, headerObject } from './object-class.js'
import type { Snapshot } from './snapshot.js'

/**
 * To be called when all is read of an image that may be opened at a snapshot. An image that is open for reading does not
 * hear that its snapshot is removed, and then has anything in the place of the snapshot's data.
 *
 * @throws {SnapshotNotFoundError} it was removed
 */
export async function checkStillThere(image: Image, options: CallOptions): Promise<void> {
  if (image.snapshotName === null) return
  // As when the image was opened, with the one it was opened at.
  const opened = (await image.listSnapshots(options)).find(({ name }) => name === image.snapshotName)
  await checkSnapshotIsThere(image, opened?.id ?? 0, image.path, options)
}

/**
 * By its id, for there may be another one of that name by now.
 *
 * @throws {SnapshotNotFoundError} it was removed
 */
export async function checkSnapshotIsThere(
  image: Image,
  snapshot: number,
  path: string,
  options: CallOptions,
): Promise<void> {
  const { id, format } = await image.stat(options)
  // What keeps the snapshots of the old format cannot be asked for one.
  if (format === 1) return
  const resource = { kind: 'snapshot', name: path } as const
  await ask(image.pool.handle, headerObject(id), [getSnapshot(snapshot)], resource, options)
}

/**
 * For what asks librbd several times about what differs from a snapshot: librbd looks for its name each time.
 *
 * @returns To be called in the end; answers its id.
 * @throws {SnapshotNotFoundError} there is none; and so does what it returns where it is another one by then
 */
export async function holdToSnapshot(
  handle: ImageHandle,
  { name, path }: Pick<Snapshot, 'name' | 'path'>,
  options: CallOptions,
): Promise<() => Promise<number>> {
  const resource = { kind: 'snapshot', name: path } as const
  const look = () => call(resource, options, token => native.snapshotId(handle, name, token))
  const id = await look()
  return async () => {
    if ((await look()) === id) return id
    const message = 'it was removed, and there is another one of that name'
    throw toCephError({ errno: -constants.errno.ENOENT, syscall: 'rbd_diff_iterate2', message }, resource)
  }
}

/**
 * To be called when all is read that others will take for the whole of the image up to `end`, holes included.
 *
 * @throws {SnapshotNotFoundError} it was removed
 * @throws {InvalidArgumentError} the image became smaller
 */
export async function checkStillWhole(image: Image, end: number, options: CallOptions = {}): Promise<void> {
  if (image.snapshotName !== null) return checkStillThere(image, options)
  checkWhole(image, Math.min(end, await presentSize(image, options)), end)
}

/** One that is open for reading only does not hear of another size. */
async function presentSize(image: Image, options: CallOptions): Promise<number> {
  const { id, size, format } = await image.stat(options)
  if (!image.readOnly || image.encrypted || format === 1) return size
  const [header] = await ask(image.pool.handle, headerObject(id), [getSize], image.resource, options)
  return header.size
}

/**
 * To be called with what there was of a part of the image that must be there: what comes after it would be taken for the rest.
 *
 * @throws {InvalidArgumentError} the image became smaller
 */
export function checkWhole(image: Image, count: number, length: number): void {
  if (count === length) return
  const message = 'the image became smaller while it was read'
  throw toCephError({ errno: -constants.errno.EINVAL, syscall: 'rbd_aio_read2', message }, image.resource)
}
