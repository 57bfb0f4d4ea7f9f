import type { ProgressOptions } from '../call.js'
import { AbortError } from '../errors.js'

/** How far something is that makes many calls, in bytes; and where an abort stops it. */
export class Progress {
  readonly signal: AbortSignal | undefined
  total: number
  readonly #onProgress: ProgressOptions['onProgress']
  #done = 0

  constructor(total: number, { signal, onProgress }: ProgressOptions) {
    this.total = total
    this.signal = signal
    this.#onProgress = onProgress
    this.throwIfAborted()
  }

  add(bytes: number): void {
    this.at(this.#done + bytes)
  }

  at(done: number): void {
    this.throwIfAborted()
    this.#done = done
    this.#onProgress?.(done, this.total)
  }

  throwIfAborted(): void {
    if (this.signal?.aborted) throw new AbortError({ cause: this.signal.reason })
  }
}
