import { type CallOptions, call } from '../call.js'
import { checkCallOptions } from '../check.js'
import { NotFoundError } from '../errors.js'
import { native } from '../native.js'
import { onAnother } from './another.js'
import type { ImageHandle } from './bindings.js'
import type { Image } from './image.js'
import type { LinkedImage } from './image-info.js'

type List = (handle: ImageHandle) => Promise<LinkedImage[]>

export async function listChildren(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  const list: List = handle => call(image.resource, options, token => native.imageChildren(handle, token))
  try {
    return await list(image.handle)
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
    return listOnAnother(image, options, list)
  }
}

export async function listDescendants(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  checkCallOptions(options)
  const list: List = handle => call(image.resource, options, token => native.imageDescendants(handle, token))
  if (image.closed) return list(image.handle)
  // On an open image librbd 16.2 waits for ever when a snapshot of it is made meanwhile.
  return listOnAnother(image, options, list)
}

/**
 * librbd looks at one snapshot after the other, and fails if one that it has yet to look at has gone with its last clone.
 * An image that is open read-only never hears of that, so it is opened anew.
 */
async function listOnAnother(image: Image, options: CallOptions, list: List): Promise<LinkedImage[]> {
  for (let tries = 1; ; tries++) {
    try {
      return await onAnother(image, options, another => list(another.handle))
    } catch (error) {
      if (!(error instanceof NotFoundError) || tries === 10) throw error
    }
  }
}
