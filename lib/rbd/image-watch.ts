import { type CallOptions, open } from '../call.js'
import { checkFunction } from '../check.js'
import { native } from '../native.js'
import type { ImageWatchHandle } from './bindings.js'
import type { Image } from './image.js'
import { ImageEvents } from './image-events.js'
import { checkWritable } from './read-only.js'

export type ImageWatchListener = () => unknown

/**
 * A watch on an image's header, from `image.watch()`. It lives until it or the image is closed.
 *
 * @implements rbd_update_unwatch
 */
export class ImageWatch extends ImageEvents {
  readonly #listener: ImageWatchListener
  #changed = false
  #telling = false

  /** @internal */
  constructor(image: Image, handle: ImageWatchHandle, listener: ImageWatchListener) {
    super(image, handle)
    this.#listener = listener
  }

  /** @internal */
  receive(): void {
    this.#changed = true
    if (!this.#telling) void this.#tell()
  }

  /** One call at a time: what changes while the listener runs is told in one further call. */
  async #tell(): Promise<void> {
    this.#telling = true
    while (this.#changed && !this.closed) {
      this.#changed = false
      try {
        await this.#listener()
      } catch (error) {
        this.report(error as Error)
      }
    }
    this.#telling = false
  }
}

export async function startImageWatch(
  image: Image,
  listener: ImageWatchListener,
  options: CallOptions,
): Promise<ImageWatch> {
  checkFunction('listener', listener)
  checkWritable(image, 'rbd_update_watch')
  // What arrives before the watch can be given to the caller waits, so that the caller can listen for errors first.
  let early = false
  let receive = (): void => {
    early = true
  }
  const handle = await open(image.resource, options, token =>
    native.imageWatchStart(image.handle, () => receive(), token),
  )
  const watch = new ImageWatch(image, handle, listener)
  receive = () => watch.receive()
  if (early) setImmediate(receive)
  return watch
}
