/**
 * librbd removes a snapshot in steps: it goes to the trash, its object map into that of the next one, then the map goes, and the
 * snapshot last. It makes one in two: the snapshot, and its map. Whoever dies in between leaves a snapshot without a map. When the one
 * before it is removed, there is nothing that its map can go into; librbd does not mind, and no fast diff knows any more of what
 * had changed until then.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { CallOptions } from '../call.js'
import { IncompleteSnapshotError, ObjectNotFoundError, type Resource, SnapshotNotFoundError } from '../errors.js'
import type { Image } from './image.js'
import { ask, getSnapshotIds, headerObject, objectMapObject } from './object-class.js'

type Options = Pick<CallOptions, 'signal'>

/** For a snapshot that is being made. */
const maxTries = 30
const pollMs = 100

/**
 * To be called before a snapshot is removed. Ends the removal of the next one, if that was cut short. One round trip, or two
 * where there is a next one.
 *
 * @param snapshot - Its id.
 * @param resource - The same.
 * @throws {IncompleteSnapshotError}
 */
export async function checkNextSnapshot(
  image: Image,
  snapshot: number,
  resource: Resource,
  options: Options,
): Promise<void> {
  const { pool } = image
  const { id, features } = await image.stat(options)
  if (!features.includes('fast-diff')) return
  for (let tries = 1; ; tries++) {
    const [ids] = await ask(pool.handle, headerObject(id), [getSnapshotIds], image.resource, options)
    const next = ids.find(each => each > snapshot)
    if (next === undefined || (await isThere(image, objectMapObject(id, next), options))) return
    // None where it has just gone.
    const found = (await image.listSnapshots(options)).find(each => each.id === next)
    if (tries === maxTries) throw new IncompleteSnapshotError(found?.name ?? `id ${next}`, resource)
    if (found?.namespace === 'trash') await finishRemoval(image, next, options)
    else await delay(pollMs)
  }
}

async function isThere({ pool }: Image, object: string, options: Options): Promise<boolean> {
  try {
    await pool.object(object).stat(options)
    return true
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return false
    throw error
  }
}

async function finishRemoval(image: Image, snapshot: number, options: Options): Promise<void> {
  try {
    await image.removeSnapshotById(snapshot, options)
  } catch (error) {
    // Nobody had died.
    if (!(error instanceof SnapshotNotFoundError)) throw error
  }
}
