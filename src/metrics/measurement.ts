import { setTimeout as delay } from 'node:timers/promises'

/** How long whoever asks waits, in milliseconds: a scrape must not hang because the cluster does. */
const patienceMs = 1_000

/** Something that somebody else has to be asked for, who may not answer. There is never more than one question under way. */
export class Measurement<T> {
  readonly #ask: () => Promise<T>
  readonly #keepMs: number
  #asking: Promise<void> | undefined
  #latest: { value: T; at: number } | undefined

  /** @param keepMs - For how long an answer is good, where asking takes some effort. */
  constructor(ask: () => Promise<T>, keepMs = 0) {
    this.#ask = ask
    this.#keepMs = keepMs
  }

  /** Undefined if it cannot be known in time. */
  async get(): Promise<T | undefined> {
    const now = performance.now()
    if (this.#isSince(now - this.#keepMs)) return this.#latest?.value
    this.#asking ??= this.#askNow()
    await Promise.race([this.#asking, delay(patienceMs, undefined, { ref: false })])
    // While it is counted anew, what was counted before is better than nothing.
    return this.#isSince(now - 2 * this.#keepMs) ? this.#latest?.value : undefined
  }

  #isSince(time: number): boolean {
    return this.#latest !== undefined && this.#latest.at > time
  }

  async #askNow(): Promise<void> {
    try {
      const value = await this.#ask()
      this.#latest = { value, at: performance.now() }
    } catch {
      // Not known is what `get` says of it; why is for those to say who cannot do their work because of it.
      this.#latest = undefined
    } finally {
      this.#asking = undefined
    }
  }
}
