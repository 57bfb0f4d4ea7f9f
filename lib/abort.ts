/** Hearing of aborts. */
import { finished, type Readable, type Writable } from 'node:stream'
import { AbortError } from './errors.js'

type Listener = () => void

const audiences = new WeakMap<AbortSignal, Audience>()

/** All of ours who wait for the abort of one signal, with one listener: Node warns of more than ten. */
class Audience {
  readonly #signal: AbortSignal
  readonly #listeners = new Set<Listener>()

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this, { once: true })
    audiences.set(signal, this)
  }

  handleEvent(): void {
    for (const listener of this.#listeners) listener()
  }

  add(listener: Listener): void {
    this.#listeners.add(listener)
  }

  remove(listener: Listener): void {
    this.#listeners.delete(listener)
    if (this.#listeners.size > 0) return
    this.#signal.removeEventListener('abort', this)
    audiences.delete(this.#signal)
  }
}

/**
 * Calls a function when the signal is aborted, unless what this returns has been called before. Of a signal that was aborted
 * already nothing is heard.
 */
export function onAbort(signal: AbortSignal, listener: Listener): () => void {
  const audience = audiences.get(signal) ?? new Audience(signal)
  audience.add(listener)
  return () => audience.remove(listener)
}

/** Has a stream destroyed with an AbortError. As `addAbortSignal()` of Node, whose error is another one. */
export function destroyOnAbort<S extends Readable | Writable>(stream: S, signal: AbortSignal | undefined): S {
  if (signal === undefined) return stream
  const destroy = () => stream.destroy(new AbortError({ cause: signal.reason }))
  if (signal.aborted) destroy()
  else finished(stream, onAbort(signal, destroy))
  return stream
}
