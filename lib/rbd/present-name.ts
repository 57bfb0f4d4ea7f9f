import type { CallOptions } from '../call.js'
import { NotFoundError, toCephError } from '../errors.js'
import type { Image } from './image.js'
import { ask, directoryObject, getImageName } from './object-class.js'

/**
 * What an open image is called by now, for what takes a name only: another image may have the one that this was opened by.
 *
 * @throws {ImageNotFoundError} it has none
 */
export async function presentName(image: Image, options: CallOptions): Promise<string> {
  const { id } = await image.stat(options)
  return presentNameOf(image, id, options)
}

/** The same for whoever knows its id, and need not have it open. */
export async function presentNameOf(
  image: Pick<Image, 'pool' | 'name' | 'resource'>,
  id: string,
  options: CallOptions,
): Promise<string> {
  if (id === '') return image.name // of the old format
  try {
    const [name] = await ask(image.pool.handle, directoryObject, [getImageName(id)], image.resource, options)
    return name
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
    throw toCephError({ ...error, message: 'in the trash, or removed: it has no name' }, image.resource)
  }
}
