import { type CallOptions, call } from '../call.js'
import { native } from '../native.js'
import type { Image } from './image.js'
import { headerObject, setObjectMapInvalid } from './object-class.js'

/** For the answers of all who have the image open, in milliseconds. Some of them may have died. */
const patience = 5_000

/**
 * Has librbd look for each object, where it would go by the object map of the image; and makes that anew at the end. It changes the map
 * before the objects that it copies, writes or rolls back, so whoever dies in between, or is refused, leaves a map that is wrong:
 * what flattens a clone next leaves objects out, and what the parent has in their place is lost; what rolls an image back next
 * leaves objects behind that are in no map, and whose data shows again.
 *
 * @param work - What needs the objects, and not what is said of them.
 * @internal
 */
export async function withoutObjectMap(
  image: Image,
  options: Pick<CallOptions, 'signal'>,
  work: () => Promise<void>,
): Promise<void> {
  const hasObjectMap = await distrustObjectMap(image, options)
  await work()
  if (hasObjectMap) await image.rebuildObjectMap(options)
}

async function distrustObjectMap(image: Image, options: Pick<CallOptions, 'signal'>): Promise<boolean> {
  const { id, features } = await image.stat(options)
  if (!features.includes('object-map')) return false
  const { pool, resource } = image
  const header = pool.object(headerObject(id))
  // Whoever else flattens it makes it anew in the end.
  while (!(await image.stat(options)).flags.includes('object map invalid')) {
    await call(resource, options, token =>
      native.objectWrite(pool.handle, header.name, [setObjectMapInvalid], false, token),
    )
    // An empty message says that the header has changed, to this very image, too.
    await header.notify('', { timeout: patience, ...options })
  }
  return true
}
