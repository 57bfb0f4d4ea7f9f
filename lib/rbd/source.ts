/** Streams of others that something is made of. */
import { finished, type Readable } from 'node:stream'
import { destroyOnAbort } from '../abort.js'
import type { ProgressOptions } from '../call.js'
import { Progress } from './progress.js'

/**
 * Has a stream read, and destroys it in the end, whatever that is. An abort destroys it at once, for nothing else ends the
 * waiting for a stream that has nothing to say.
 */
export async function consume(
  source: Readable,
  options: ProgressOptions,
  use: (progress: Progress) => Promise<void>,
): Promise<void> {
  // It may fail before it is read: whoever reads it is told then, and until then nobody listens.
  finished(source, () => {})
  try {
    const progress = new Progress(0, options)
    destroyOnAbort(source, options.signal)
    try {
      await use(progress)
    } catch (error) {
      progress.throwIfAborted()
      throw error
    }
  } finally {
    source.destroy()
  }
}

/** A stream may also be of strings, or of plain Uint8Arrays. */
export function toBuffer(chunk: Buffer | Uint8Array | string): Buffer {
  return Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk)
}
