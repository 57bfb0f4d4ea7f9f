import { constants } from 'node:os'
import { type CallOptions, call } from '../call.js'
import { native } from '../native.js'
import type { IoctxHandle } from '../rados/bindings.js'
import type { Pool } from '../rados/pool.js'
import { WriteOperation } from '../rados/write-operation.js'
import type { Image } from './image.js'

/**
 * Asks the pool whether it takes one more object, if it was opened with a `whenFull` other than `wait`. librbd goes on where it
 * is refused an object map, and reports success: a snapshot is then there that cannot be opened, an image has grown and its
 * object map counts for nothing. And it does half of other things, such as a rollback.
 *
 * @param about - What needs the room, for errors.
 * @param where - The pool of the image, which has its object maps, or that of its data.
 * @throws {QuotaExceededError} @throws {NoSpaceError}
 * @internal
 */
export async function checkRoom(
  image: Image,
  about: string,
  signal: CallOptions['signal'],
  where: 'image' | 'data',
): Promise<void> {
  const { pool } = image
  if (pool.whenFull === 'wait' || image.readOnly) return
  const { id, dataPoolId } = await image.stat({ signal })
  if (where === 'image' || dataPoolId === undefined) return checkRoomIn(pool, id, about, signal)
  await unstopped(about, signal, async () => {
    const data = await native.ioctxOpenById(pool.cluster.handle, dataPoolId, pool.namespace, true)
    try {
      await ask(data, id)
    } finally {
      await native.close(data)
    }
  })
}

/**
 * The same where there is no open image.
 *
 * @param key - Who asks, in a word: the id of an image.
 * @internal
 */
export async function checkRoomIn(
  pool: Pool,
  key: string,
  about: string,
  signal: CallOptions['signal'],
): Promise<void> {
  if (pool.whenFull !== 'wait') await unstopped(about, signal, () => ask(pool.handle, key))
}

/** Who aborts does not wait for it; but it goes on, as it would leave its object otherwise. */
async function unstopped(about: string, signal: CallOptions['signal'], work: () => Promise<void>): Promise<void> {
  await call({ kind: 'object', name: about }, { signal }, work)
}

async function ask(ioctx: IoctxHandle, key: string): Promise<void> {
  const write = ({ steps }: WriteOperation) => native.objectWrite(ioctx, `cephkit.room.${key}`, steps, false)
  // Needs room, whether somebody else who asks at this moment, or died of it, has made the object already or not.
  await write(new WriteOperation().append('?'))
  try {
    await write(new WriteOperation().remove())
  } catch (error) {
    // Somebody else, who asked at the same time, has removed it.
    if ((error as { errno?: number }).errno !== -constants.errno.ENOENT) throw error
  }
}
