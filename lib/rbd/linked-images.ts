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
  // Nobody writes by way of such an image. And its snapshot may have another name by now, or be kept for a clone only.
  if (image.snapshotName !== null) return unlessOneGoes(() => list(image.handle))
  return listOnAnother(image, options, list)
}

export function listDescendants(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  return listOnAnother(image, options, handle =>
    call(image.resource, options, token => native.imageDescendants(handle, token)),
  )
}

/**
 * librbd 16.2 keeps an image locked while it looks at one of its snapshots after the other: writes to it wait meanwhile, and a
 * snapshot that is made waits for ever if descendants are listed. So each list is made on an image that is opened for it: that
 * is read-only, and hears of no snapshot.
 */
async function listOnAnother(image: Image, options: CallOptions, list: List): Promise<LinkedImage[]> {
  checkCallOptions(options)
  if (image.closed) return list(image.handle)
  return unlessOneGoes(() => onAnother(image, options, another => list(another.handle)))
}

/** librbd fails if a clone, or a snapshot with its last clone, has gone before it looks at that. */
async function unlessOneGoes(list: () => Promise<LinkedImage[]>): Promise<LinkedImage[]> {
  for (let tries = 1; ; tries++) {
    try {
      return await list()
    } catch (error) {
      if (!(error instanceof NotFoundError) || tries === 10) throw error
    }
  }
}
