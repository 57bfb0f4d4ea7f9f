import { EventEmitter } from 'node:events'
import { call } from '../call.js'
import { ClosedError } from '../errors.js'
import { native } from '../native.js'
import type { ImageWatchHandle, QuiesceWatchHandle } from './bindings.js'
import type { Image } from './image.js'

interface Events {
  /** A function of the caller's has failed. Without a listener for it, it ends the process, as of every EventEmitter. */
  error: [error: Error]
}

/** What calls functions of the caller's as something happens to an open image. */
export abstract class ImageEvents extends EventEmitter<Events> implements AsyncDisposable {
  readonly image: Image
  /** @internal */
  readonly handle: ImageWatchHandle | QuiesceWatchHandle

  /** @internal */
  constructor(image: Image, handle: ImageWatchHandle | QuiesceWatchHandle) {
    super()
    this.image = image
    this.handle = handle
  }

  get closed(): boolean {
    return !native.isOpen(this.handle)
  }

  /**
   * In a turn of its own, so that an exception is the process's, and not of the code that has called the function. A
   * function that was running at the time of the close may have found everything closed. @internal
   */
  protected report(error: Error): void {
    if (this.closed && error instanceof ClosedError) return
    setImmediate(() => this.emit('error', error))
  }

  /** Safe to call again. */
  async close(): Promise<void> {
    await call(this.image.resource, {}, () => native.close(this.handle))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
