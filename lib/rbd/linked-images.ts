import { type CallOptions, call } from '../call.js'
import { checkCallOptions } from '../check.js'
import { NotFoundError } from '../errors.js'
import { native } from '../native.js'
import { onAnother } from './another.js'
import type { ImageHandle } from './bindings.js'
import type { Image } from './image.js'
import type { LinkedImage } from './image-info.js'

type List = (handle: ImageHandle) => Promise<LinkedImage[]>

export function listChildren(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  return listOnAnother(image, options, handle =>
    call(image.resource, options, token => native.imageChildren(handle, token)),
  )
}

export function listDescendants(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  return listOnAnother(image, options, handle =>
    call(image.resource, options, token => native.imageDescendants(handle, token)),
  )
}

/**
 * librbd 16.2 keeps an image locked while it looks at one of its snapshots after the other: writes to it wait meanwhile, and a
 * snapshot that is made waits for ever if descendants are listed. And it fails if one that it has yet to look at has gone
 * with its last clone: an image that is open read-only never hears of that. So each list is made on an image that is opened for it.
 */
async function listOnAnother(image: Image, options: CallOptions, list: List): Promise<LinkedImage[]> {
  checkCallOptions(options)
  if (image.closed) return list(image.handle)
  for (let tries = 1; ; tries++) {
    try {
      return await onAnother(image, options, another => list(another.handle))
    } catch (error) {
      if (!(error instanceof NotFoundError) || tries === 10) throw error
    }
  }
}
