import { type CallOptions, call } from '../call.js'
import { native } from '../native.js'
import type { Image } from './image.js'
import { headerObject, setObjectMapInvalid } from './object-class.js'

/** For the answers of all who have the image open, in milliseconds. Some of them may have died. */
const patience = 5_000

/**
 * Has librbd look for each object of a clone that is flattened, where it would go by the object map. That says that an object is
 * there before it is copied or written: whoever dies in between, or is refused, leaves it saying so of one that is not. Flatten
 * would leave that out, and what the parent has in its place would be lost.
 *
 * @returns Whether there is an object map, which is to be made anew afterwards.
 * @internal
 */
export async function distrustObjectMap(image: Image, options: Pick<CallOptions, 'signal'>): Promise<boolean> {
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
