import type { OnProgress } from '../bindings.js'
import { onAnother } from './another.js'
import type { Image } from './image.js'

/** librbd takes a request for lost that it has heard nothing of for 30 s, and asks once more. */
const silenceMs = 45_000

/**
 * Makes a change that librbd has the owner of the exclusive lock make, if that is another client. Where this one announces itself in
 * the moment that it is asked, librbd 16.2 asks again under the same number, is told that this has been done before, and waits for
 * word that it is done, for ever. It asks anew when the lock goes to somebody else: so that is seen to.
 */
export async function byLockOwner<T>(
  image: Image,
  onProgress: OnProgress | null,
  request: (onProgress: OnProgress) => Promise<T>,
): Promise<T> {
  const answered = new AbortController()
  const { signal } = answered
  const beginAnew = () => {
    if (!signal.aborted) silence.refresh()
  }
  const silence = setTimeout(() => moveLock(image, signal).finally(beginAnew), silenceMs).unref()
  try {
    return await request((done, total) => {
      beginAnew()
      onProgress?.(done, total)
    })
  } finally {
    answered.abort()
    clearTimeout(silence)
  }
}

/** Away from another client, and by what gives it back on request: with `acquire()`, writes of that client would fail. */
async function moveLock(image: Image, signal: AbortSignal): Promise<void> {
  try {
    if (await image.exclusiveLock.isOwner({ signal })) return
    await onAnother(image, { signal, readOnly: false }, another => another.flush({ signal }))
  } catch {
    // The request goes on, and has its own errors: there may be no such lock, or one that its owner keeps.
  }
}
