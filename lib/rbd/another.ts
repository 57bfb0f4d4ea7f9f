import { type CallOptions, closeAfter } from '../call.js'
import type { Image } from './image.js'

/**
 * Opens the image once more, read-only and at the same snapshot, for as long as `work` takes.
 *
 * By its id, for another image may have its name by now. Those of the old format have names only.
 */
export async function onAnother<T>(
  image: Image,
  { signal }: Pick<CallOptions, 'signal'>,
  work: (another: Image) => Promise<T>,
): Promise<T> {
  const { id } = await image.stat({ signal })
  const options = { readOnly: true, snapshot: image.snapshotName ?? undefined, signal }
  const another = await (id === '' ? image.pool.openImage(image.name, options) : image.pool.openImageById(id, options))
  try {
    return await work(another)
  } finally {
    await closeAfter(another.handle, { signal })
  }
}
