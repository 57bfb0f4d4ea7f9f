import { setTimeout as sleep } from 'node:timers/promises'
import type { OnProgress } from '../bindings.js'
import type { Image } from './image.js'

/** librbd takes a request for lost that it has heard nothing of for 30 s, and asks once more. */
const silenceMs = 45_000
const firstPauseMs = 1000

/** Of this thread. A timer for each operation would cost more than all else that is done for it here. */
const busy = new Set<ProxiedOperations>()
const tickMs = 5000
let ticking: NodeJS.Timeout | undefined

function tick(): void {
  for (const each of busy) each.breakSilence()
  if (busy.size > 0) return
  clearInterval(ticking)
  ticking = undefined
}

interface Operation {
  isDone: IsDone
  /** Of the progress it makes. */
  heardAt: number
}

/** Whether it is done, as the image shows that is opened once more. */
type IsDone = (another: Image) => Promise<boolean>

/**
 * The operations on an image that librbd has the owner of the exclusive lock do, if that is another client, and of which can be
 * seen that they are done. Where the owner announces itself in the moment that it is asked, librbd 16.2 asks again under the same
 * number, is told that this has been done before, and waits for word that it is done, for ever. It asks whoever has the lock next,
 * or does it by itself: so the lock is moved.
 */
export class ProxiedOperations {
  readonly #image: Image
  #id: string | undefined
  readonly #underWay = new Set<Operation>()
  #allOver: AbortController | undefined
  #looking: Promise<void> | undefined

  constructor(image: Image) {
    this.#image = image
  }

  async run<T>(
    isDone: IsDone,
    onProgress: OnProgress | null,
    request: (onProgress: OnProgress) => Promise<T>,
  ): Promise<T> {
    const operation = { isDone, heardAt: performance.now() }
    this.#underWay.add(operation)
    busy.add(this)
    ticking ??= setInterval(tick, tickMs).unref()
    try {
      return await request((done, total) => {
        operation.heardAt = performance.now()
        onProgress?.(done, total)
      })
    } finally {
      this.#underWay.delete(operation)
      if (this.#underWay.size === 0) {
        busy.delete(this)
        this.#allOver?.abort()
        await this.lookingEnds()
      }
    }
  }

  /** When nothing is under way: until what was open for a look is closed. */
  async lookingEnds(): Promise<void> {
    await this.#looking
  }

  breakSilence(): void {
    const latest = performance.now() - silenceMs
    for (const { heardAt } of this.#underWay) if (heardAt <= latest) this.seeToAnswers()
  }

  /** For as long as there is any under way; it may begin before the image is closed, and not later. */
  seeToAnswers(): void {
    if (this.#looking || this.#underWay.size === 0) return
    this.#allOver = new AbortController()
    this.#looking = this.#look(this.#allOver.signal)
      .catch(ignore)
      .finally(() => {
        this.#looking = undefined
      })
  }

  async #look(allOver: AbortSignal): Promise<void> {
    this.#id ??= (await this.#image.stat()).id
    const id = this.#id
    let pauseMs = firstPauseMs
    while ((await hasPassed(pauseMs, allOver)) && !this.#image.pool.closed) {
      const hasMoved = await this.#moveLock(id, allOver).catch(ignore)
      pauseMs = hasMoved ? firstPauseMs : Math.min(2 * pauseMs, silenceMs)
    }
  }

  /** If all is done: what is not would have to begin anew. */
  async #moveLock(id: string, allOver: AbortSignal): Promise<boolean> {
    const another = await this.#image.pool.openImageById(id)
    try {
      const done = await Promise.all(Array.from(this.#underWay, ({ isDone }) => isDone(another)))
      if (done.includes(false)) return false
      // It takes the lock as a write does: with `rbd_lock_acquire`, writes of its owner would fail, and not wait.
      await another.flush()
      // Who has the lock now may be asked.
      await hasPassed(firstPauseMs, allOver)
      return true
    } finally {
      await another.close()
    }
  }
}

/** The operation has errors of its own, and what fails now may succeed later. */
function ignore(): void {}

/** False when that was cut short. */
function hasPassed(ms: number, signal: AbortSignal): Promise<boolean> {
  return sleep(ms, true, { signal, ref: false }).catch(() => false)
}
