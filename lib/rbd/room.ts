import { type CallOptions, call } from '../call.js'
import { ObjectExistsError, ObjectNotFoundError, type Resource } from '../errors.js'
import { type NativeWriteStep, native } from '../native.js'
import type { Image } from './image.js'

/**
 * Asks the pool whether it takes one more object, if it was opened with a `whenFull` other than `wait`. librbd goes on where it
 * is refused an object map, and reports success: a snapshot is then there that cannot be opened, an image has grown and its
 * object map counts for nothing. And it rolls back a part of an image.
 *
 * @param about - What needs the room, for errors.
 * @throws {QuotaExceededError} @throws {NoSpaceError}
 * @internal
 */
export async function checkRoom(image: Image, about: string, signal: CallOptions['signal']): Promise<void> {
  const { pool } = image
  if (pool.whenFull === 'wait' || image.readOnly) return
  const name = `cephkit.room.${(await image.stat({ signal })).id}`
  const resource: Resource = { kind: 'object', name: about }
  const write = (step: NativeWriteStep) =>
    call(resource, { signal }, token => native.objectWrite(pool.handle, name, [step], false, token))
  const remove = () => unless(ObjectNotFoundError, write(['remove']))
  // Somebody else who asks at this moment, or died of it, has made it already, which says nothing.
  while (!(await unless(ObjectExistsError, write(['create', true])))) await remove()
  await remove()
}

/** Returns false if it failed so. */
async function unless(expected: typeof ObjectExistsError | typeof ObjectNotFoundError, work: Promise<unknown>) {
  try {
    await work
    return true
  } catch (error) {
    if (error instanceof expected) return false
    throw error
  }
}
