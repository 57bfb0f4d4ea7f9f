import { type CallOptions, call } from '../call.js'
import { native } from '../native.js'
import { WriteOperation } from '../rados/write-operation.js'
import type { Image } from './image.js'
import { headerObject, setMapsInvalid } from './object-class.js'

type Options = Pick<CallOptions, 'signal'>

/** For the answers of all who have the image open, in milliseconds. Some of them may have died. */
const patience = 5_000

/**
 * Has librbd look for each object, where it would go by the object map of the image; and makes that anew at the end. A rollback changes
 * the map before the objects: after one that was cut short, the next would leave objects alone that are in no map, and what is in
 * them would show again, beside what is written there later.
 *
 * @param work - What needs the objects, and not what is said of them.
 * @internal
 */
export async function withoutObjectMap(image: Image, options: Options, work: () => Promise<void>): Promise<void> {
  const hasObjectMap = await distrustObjectMap(image, options)
  await work()
  if (hasObjectMap) await image.rebuildObjectMap(options)
}

async function distrustObjectMap(image: Image, options: Options): Promise<boolean> {
  const { id, features } = await image.stat(options)
  if (!features.includes('object-map')) return false
  const { pool, resource } = image
  const header = pool.object(headerObject(id))
  const steps = [...new WriteOperation().assertExists().steps, setMapsInvalid(features.includes('fast-diff'))]
  for (;;) {
    if ((await image.stat(options)).flags.includes('object map invalid')) return true
    await call(resource, options, token => native.objectWrite(pool.handle, header.name, steps, false, token))
    // An empty message says that the header has changed, to this very image, too.
    await header.notify('', { timeout: patience, ...options })
  }
}
