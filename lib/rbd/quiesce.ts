import { constants } from 'node:os'
import { type CallOptions, open } from '../call.js'
import { checkFunction, checkInteger, checkMembers, checkOptions } from '../check.js'
import { toCephError } from '../errors.js'
import { native } from '../native.js'
import type { RadosObject } from '../rados/object.js'
import type { QuiesceEvent, QuiesceWatchHandle } from './bindings.js'
import type { Image } from './image.js'
import { ImageEvents } from './image-events.js'
import { checkWritable } from './read-only.js'

export interface QuiesceHooks {
  /**
   * Called before a snapshot, which waits until what this returns has settled: what has been written by then is in it.
   * After a rejection the snapshot is not made, and `unquiesce()` not called.
   */
  quiesce(): unknown
  /** Called once after each `quiesce()` that went well: when the snapshot is made, or when there will be none. */
  unquiesce?(): unknown
}

export interface WatchQuiesceOptions extends CallOptions {
  /** How long `quiesce()` may take, in milliseconds; then the snapshot is not made. Default: 30,000. */
  timeout?: number | undefined
}

/** In milliseconds. */
const defaultTimeout = 30_000
const maxTimeout = 2 ** 31 - 1

/**
 * Quiesce hooks in force, from `image.watchQuiesce()`. No two of them run at once; one that takes too long is an `error`
 * too.
 *
 * They live until this or the image is closed. A snapshot that waits for `quiesce()` is not made then, and what is
 * quiesced is unquiesced; but no hook is called at the end of the process.
 *
 * @implements rbd_quiesce_unwatch
 */
export class QuiesceWatch extends ImageEvents {
  readonly #handle: QuiesceWatchHandle
  readonly #hooks: QuiesceHooks
  readonly #timeout: number
  /** The hook that runs, and those that wait for it. */
  #turns: Promise<void> = Promise.resolve()

  /** @internal */
  constructor(image: Image, handle: QuiesceWatchHandle, hooks: QuiesceHooks, timeout: number) {
    super(image, handle)
    this.#handle = handle
    this.#hooks = hooks
    this.#timeout = timeout
  }

  /** @internal */
  receive(event: QuiesceEvent): void {
    const hook = event === 'quiesce' ? this.#quiesce() : () => this.#hooks.unquiesce?.()
    this.#turns = this.#turns.then(hook).then(
      () => {},
      (error: Error) => this.report(error),
    )
  }

  /** The time counts from now, though the hook may have to wait for one that runs. */
  #quiesce(): () => Promise<void> {
    let asked = true
    /** Whether anybody waited for it: not after the time-out, nor after the watch has been closed. */
    const answer = (quiesced: boolean): boolean => {
      clearTimeout(timer)
      const heard = asked && native.quiesceWatchAnswer(this.#handle, quiesced)
      asked = false
      return heard
    }
    const timer = setTimeout(() => {
      if (answer(false)) this.report(this.#tooLong())
    }, this.#timeout).unref()
    return async () => {
      try {
        await this.#hooks.quiesce()
      } catch (error) {
        answer(false)
        throw error
      }
      // There is no snapshot then, and nobody who will say that it is over.
      if (!answer(true)) await this.#hooks.unquiesce?.()
    }
  }

  #tooLong(): Error {
    const message = `quiesce() took more than ${this.#timeout} ms`
    return toCephError(
      { errno: -constants.errno.ETIMEDOUT, syscall: 'rbd_quiesce_complete', message },
      this.image.resource,
    )
  }
}

export async function startQuiesceWatch(
  image: Image,
  hooks: QuiesceHooks,
  options: WatchQuiesceOptions,
): Promise<QuiesceWatch> {
  checkMembers('hooks', hooks, ['quiesce', 'unquiesce'])
  checkFunction('quiesce', hooks.quiesce)
  if (hooks.unquiesce !== undefined) checkFunction('unquiesce', hooks.unquiesce)
  checkOptions(options, ['timeout'])
  const { timeout = defaultTimeout, ...callOptions } = options
  checkInteger('timeout', timeout, 1, maxTimeout)
  checkWritable(image, 'rbd_quiesce_watch')
  // What arrives before the watch can be given to the caller waits, so that the caller can listen for errors first.
  const early: QuiesceEvent[] = []
  let receive = (event: QuiesceEvent): void => void early.push(event)
  const { id } = await image.stat(callOptions)
  const header = image.pool.object(`rbd_header.${id}`)
  const handle = await open(image.resource, callOptions, token =>
    startOutsideOfSnapshots(header, () => {
      // What a watch has heard that was got rid of is of a snapshot that there will not be.
      early.length = 0
      return native.quiesceWatchStart(image.handle, id, event => receive(event), token)
    }),
  )
  const watch = new QuiesceWatch(image, handle, hooks, timeout)
  receive = event => watch.receive(event)
  for (const event of early) setImmediate(receive, event)
  return watch
}

/**
 * Starts the watch anew until no snapshot was begun between its opening the image and its watching, for librbd aborts
 * the process at the end of such a snapshot. Whoever makes snapshots asks all that watch the image's header, and waits
 * for this watch of it too: that keeps a snapshot from ending while a watch must be got rid of.
 */
async function startOutsideOfSnapshots(
  header: RadosObject,
  start: () => Promise<QuiesceWatchHandle>,
): Promise<QuiesceWatchHandle> {
  for (;;) {
    let snapshot = false
    let fenced = false
    let release = (): void => {}
    const released = new Promise<void>(resolve => {
      release = resolve
    })
    const observer = await header.watch(async ({ payload }) => {
      if (payload.length === 0) fenced = true
      if (!isQuiesce(payload)) return
      snapshot = true
      await released
    })
    // Lost, it does not hear the fence.
    observer.on('error', () => {})
    let handle: QuiesceWatchHandle | undefined
    let isUsable = false
    try {
      handle = await start()
      // Notifications arrive in order: after this, all from before have. To librbd it is a change of the header.
      await header.notify()
      isUsable = fenced && !snapshot
    } finally {
      // Each is closed by then, however that ended; and what has failed before is what is told.
      if (handle !== undefined && !isUsable) await native.close(handle).catch(() => {})
      release()
      await observer.close().catch(() => {})
    }
    if (isUsable) return handle
  }
}

/** After the version and the length of librbd's message: what it is about. */
const operationOffset = 6
const quiesceOperation = 18

function isQuiesce(message: Buffer): boolean {
  return message.length >= operationOffset + 4 && message.readUInt32LE(operationOffset) === quiesceOperation
}
