import { type CallOptions, call } from '../call.js'
import { ObjectExistsError, ObjectNotFoundError, type Resource } from '../errors.js'
import { type NativeWriteStep, native } from '../native.js'
import type { Pool } from '../rados/pool.js'

/**
 * Asks a pool that was opened with a `whenFull` other than `wait` whether it takes one more object. librbd goes on where it is
 * refused an object map, and reports success: a snapshot is then there that cannot be opened, an image has grown and its
 * object map counts for nothing.
 *
 * @param imageId - For a name that nothing else has.
 * @param about - What needs the room, for errors.
 * @throws {QuotaExceededError} @throws {NoSpaceError}
 * @internal
 */
export async function checkRoom(pool: Pool, imageId: string, about: string, { signal }: CallOptions): Promise<void> {
  const name = `cephkit.room.${imageId}`
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
