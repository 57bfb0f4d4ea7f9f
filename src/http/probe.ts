import { messageOf } from '../errors.js'
import type { Part } from './health.js'

/** Milliseconds between one question and the next, and those that an answer may take. */
const intervalMs = 1_000

/**
 * Asks again and again whether something is there. Nobody waits for the answer: one that has not come when the next question
 * is due means that it is not. There is never more than one question under way.
 */
export class Probe {
  readonly #part: Part
  readonly #ask: () => Promise<unknown>
  readonly #timer: NodeJS.Timeout
  #askedAt: number | undefined

  constructor(part: Part, ask: () => Promise<unknown>) {
    this.#part = part
    this.#ask = ask
    this.#timer = setInterval(() => this.#look(), intervalMs)
    void this.#askNow()
  }

  #look(): void {
    if (this.#askedAt === undefined) return void this.#askNow()
    const seconds = Math.round((performance.now() - this.#askedAt) / 1000)
    this.#part.set(`no answer for ${seconds} s`)
  }

  async #askNow(): Promise<void> {
    this.#askedAt = performance.now()
    try {
      await this.#ask()
      this.#part.set(undefined)
    } catch (error) {
      this.#part.set(messageOf(error))
    } finally {
      this.#askedAt = undefined
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
