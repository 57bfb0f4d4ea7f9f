import { setTimeout as sleep } from 'node:timers/promises'
import type { OnProgress } from '../bindings.js'
import type { Image } from './image.js'

/** librbd takes a request for lost that it has heard nothing of for 30 s, and asks once more. */
const silenceMs = 45_000
const betweenLooksMs = 1000

/** Whether it is done, as the image shows that is opened once more. */
type IsDone = (another: Image) => Promise<boolean>

/** Of an operation that leaves nothing to be seen, and may as well be done again. */
export const mayBeDone: IsDone = async () => true

/**
 * The operations on an image that librbd has the owner of the exclusive lock do, if that is another client. Where this one announces
 * itself in the moment that it is asked, librbd 16.2 asks again under the same number, is told that this has been done before, and
 * waits for word that it is done, for ever. It asks whoever has the lock next, or does it by itself: so the lock is moved.
 */
export class ProxiedOperations {
  readonly #image: Image
  #id: string | undefined
  readonly #underWay = new Set<{ isDone: IsDone }>()
  #allOver = new AbortController()
  #looking: Promise<void> | undefined

  constructor(image: Image) {
    this.#image = image
  }

  async run<T>(
    isDone: IsDone,
    onProgress: OnProgress | null,
    request: (onProgress: OnProgress) => Promise<T>,
  ): Promise<T> {
    const silence = setInterval(() => this.seeToAnswers(), silenceMs).unref()
    const operation = { isDone }
    this.#underWay.add(operation)
    try {
      return await request((done, total) => {
        if (this.#underWay.has(operation)) silence.refresh()
        onProgress?.(done, total)
      })
    } finally {
      clearInterval(silence)
      this.#underWay.delete(operation)
      if (this.#underWay.size === 0) {
        this.#allOver.abort()
        await this.#looking
      }
    }
  }

  /** For as long as there is any under way; it may begin before the image is closed, and not later. */
  seeToAnswers(): void {
    if (this.#looking || this.#underWay.size === 0) return
    this.#allOver = new AbortController()
    this.#looking = this.#moveLock(this.#allOver.signal)
      // What fails here fails the operation too, or it is an owner that keeps the lock: another look may do.
      .catch(() => {})
      .finally(() => {
        this.#looking = undefined
      })
  }

  async #moveLock(allOver: AbortSignal): Promise<void> {
    this.#id ??= (await this.#image.stat()).id
    while (await hasPassed(betweenLooksMs, allOver)) {
      const another = await this.#image.pool.openImageById(this.#id)
      try {
        const done = await Promise.all(Array.from(this.#underWay, ({ isDone }) => isDone(another)))
        // It takes the lock as a write does: with `rbd_lock_acquire`, writes of its owner would fail, and not wait.
        if (done.includes(true)) await another.flush()
        // Who has the lock now may be asked.
        await hasPassed(betweenLooksMs, allOver)
      } finally {
        await another.close()
      }
    }
  }
}

/** False when that was cut short. */
function hasPassed(ms: number, signal: AbortSignal): Promise<boolean> {
  return sleep(ms, true, { signal, ref: false }).catch(() => false)
}
