import { type CallOptions, call } from '../call.js'
import { NotFoundError } from '../errors.js'
import { native } from '../native.js'
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
    return listOnAnother(image, list)
  }
}

export async function listDescendants(image: Image, options: CallOptions): Promise<LinkedImage[]> {
  const list: List = handle => call(image.resource, options, token => native.imageDescendants(handle, token))
  if (image.closed) return list(image.handle)
  // On an open image librbd 16.2 waits for ever when a snapshot of it is made meanwhile.
  return listOnAnother(image, list)
}

/**
 * librbd looks at one snapshot after the other, and fails if one that it has yet to look at has gone with its last clone.
 * An image that is open read-only never hears of that, so it is opened anew.
 */
async function listOnAnother(image: Image, list: List): Promise<LinkedImage[]> {
  for (let tries = 1; ; tries++) {
    await using another = await openAnother(image)
    try {
      return await list(another.handle)
    } catch (error) {
      if (!(error instanceof NotFoundError) || tries === 10) throw error
    }
  }
}

/** By its id, for another image may have its name by now. Those of the old format have names only. */
async function openAnother(image: Image): Promise<Image> {
  const { id } = await image.stat()
  const options = { readOnly: true, snapshot: image.snapshotName ?? undefined }
  return id === '' ? image.pool.openImage(image.name, options) : image.pool.openImageById(id, options)
}
