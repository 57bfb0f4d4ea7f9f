import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkInteger, checkKey, checkName, checkOptions, checkSeconds, wrongType } from '../check.js'
import {
  ImageDeferredError,
  ImageNotFoundError,
  ObjectNotFoundError,
  PermissionError,
  type Resource,
} from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import { WriteOperation } from '../rados/write-operation.js'
import { checkRoomIn } from './room.js'

export interface TrashEntry {
  /** What the image is known by while in the trash. */
  id: string
  /** What it was called. */
  name: string
  /**
   * Who moved it there: a user (`user-parent`: an image with clones); a removal that is under way, or was cut short
   * (`removing`); or RBD for its own ends.
   */
  source: 'user' | 'mirroring' | 'migration' | 'removing' | 'user-parent' | 'unknown'
  deletedAt: Date
  /** Until then it is removed by force only. */
  deferredUntil: Date
}

/**
 * The trash of a pool's namespace.
 */
export class Trash {
  readonly #pool: Pool

  /** @internal */
  constructor(pool: Pool) {
    this.#pool = pool
  }

  #image(which: string): Resource {
    return { kind: 'image', name: `${this.#pool.path}/${which}` }
  }

  /**
   * Moves an image to the trash, from where it can be restored. One that clones hang on can be moved. Abort ends the waiting
   * only: it may be moved all the same.
   *
   * @param options.delay - For how long it is kept from being removed, in milliseconds, rounded up to whole seconds: until
   *   the year 2106 at the longest. Default: 0.
   * @throws {ImageNotFoundError}
   * @throws {ImageBusyError} somebody keeps its exclusive lock
   *
   * @implements rbd_trash_move
   */
  async move(name: string, options: CallOptions & { delay?: number | undefined } = {}): Promise<void> {
    checkName('name', name)
    checkOptions(options, ['delay'])
    const { delay = 0, ...callOptions } = options
    const seconds = checkSeconds('delay', delay)
    const move = () =>
      call(this.#image(name), callOptions, token => native.trashMove(this.#pool.handle, name, seconds, token))
    await withTrash(this.#pool, name, callOptions, move)
  }

  /** What is in the trash. @throws {PoolNotFoundError} @implements rbd_trash_list */
  async list(options: CallOptions = {}): Promise<TrashEntry[]> {
    const resource: Resource = { kind: 'pool', name: this.#pool.path }
    return call(resource, options, token => native.trashList(this.#pool.handle, token))
  }

  /** @throws {ImageNotFoundError} no such image is in the trash @implements rbd_trash_get */
  async get(id: string, options: CallOptions = {}): Promise<TrashEntry> {
    checkKey('id', id)
    return call(this.#image(`id ${id}`), options, token => native.trashGet(this.#pool.handle, id, token))
  }

  /**
   * Brings an image back.
   *
   * @param options.name - Default: what it was called.
   * @throws {ImageNotFoundError} no such image is in the trash
   * @throws {ImageExistsError} there is an image of that name by now
   * @throws {ImageBusyError} its removal has begun
   * @throws {QuotaExceededError} the pool is at its quota, and `whenFull` is not `wait`; nothing has changed
   * @throws {NoSpaceError} the same where the pool's OSDs are full
   *
   * @implements rbd_trash_restore
   */
  async restore(id: string, options: CallOptions & { name?: string | undefined } = {}): Promise<void> {
    checkKey('id', id)
    checkOptions(options, ['name'])
    const { name, ...callOptions } = options
    if (name !== undefined) checkName('name', name)
    // librbd would be refused half-way, and from then on neither remove it.
    await checkRoomIn(this.#pool, id, `${this.#pool.path}/id ${id}`, callOptions.signal)
    // librbd takes an empty name for the old one.
    await call(this.#image(`id ${id}`), callOptions, token =>
      native.trashRestore(this.#pool.handle, id, name ?? '', token),
    )
  }

  /**
   * Removes an image from the trash, with its data. Progress is in objects. Abort stops it at the next object: the
   * image is then still in the trash, some of its data is gone, and it can only be removed.
   *
   * @param options.force - Even if it is deferred. Default: false.
   * @throws {ImageNotFoundError} no such image is in the trash
   * @throws {ImageDeferredError} it is deferred, and not forced
   * @throws {ImageHasSnapshotsError}
   * @throws {ImageBusyError} it is open somewhere
   *
   * @implements rbd_trash_remove_with_progress rados_write_op_operate
   */
  async remove(id: string, options: ProgressOptions & { force?: boolean | undefined } = {}): Promise<void> {
    checkKey('id', id)
    checkOptions(options, ['force'])
    const { force = false, ...callOptions } = options
    checkBoolean('force', force)
    try {
      await call(this.#image(`id ${id}`), callOptions, (token, onProgress) =>
        native.trashRemove(this.#pool.handle, id, force, onProgress, token),
      )
    } catch (error) {
      if (!force && error instanceof PermissionError) throw await this.#deferredError(id, error)
      throw error
    }
  }

  /** librbd says EPERM, as an OSD does to who may not. */
  async #deferredError(id: string, error: PermissionError): Promise<Error> {
    const { deferredUntil } = await this.get(id)
    if (deferredUntil <= new Date()) return error
    const until = deferredUntil.toISOString()
    return new ImageDeferredError(
      `${error.code}: deferred until ${until}, and force is not set, ${error.syscall} '${error.resource}'`,
      error,
    )
  }

  /**
   * Removes every image whose delay is over. Progress is in images. Abort ends the waiting only.
   *
   * @param options.expiredBefore - Those whose delay was over by then. Default: now.
   * @param options.threshold - Instead of the time: until the pool is at most this full, in percent.
   * @throws {ImageHasSnapshotsError} some have snapshots; the others are removed
   *
   * @implements rbd_trash_purge_with_progress
   */
  async purge(
    options: ProgressOptions & { expiredBefore?: Date | undefined; threshold?: number | undefined } = {},
  ): Promise<void> {
    checkOptions(options, ['expiredBefore', 'threshold'])
    const { expiredBefore = new Date(), threshold, ...callOptions } = options
    if (!(expiredBefore instanceof Date)) throw wrongType('expiredBefore', 'a Date', expiredBefore)
    // librbd takes 0 for now.
    const seconds = Math.max(1, checkInteger('expiredBefore', Math.floor(expiredBefore.getTime() / 1000)))
    const percent = threshold === undefined ? -1 : checkInteger('threshold', threshold, 0, 100)
    await call({ kind: 'pool', name: this.#pool.path }, callOptions, (token, onProgress) =>
      native.trashPurge(this.#pool.handle, seconds, percent, onProgress, token),
    )
  }
}

/**
 * Does what moves an image to the trash, as a removal does, too. librbd makes the list of the trash when it is first needed,
 * which a full pool refuses; it then says that there is no such image.
 *
 * @internal
 */
export async function withTrash(
  pool: Pool,
  name: string,
  options: CallOptions,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof ImageNotFoundError) || pool.whenFull === 'wait') throw error
    if (!(await makeTrash(pool, name, { signal: options.signal }))) throw error
    await work()
  }
}

/** Makes the list, an empty object, unless somebody else just has. Returns false if there is no such image. */
async function makeTrash(pool: Pool, name: string, options: CallOptions): Promise<boolean> {
  const { steps } = new WriteOperation().create({ exclusive: false })
  const resource: Resource = { kind: 'object', name: `${pool.path}/rbd_trash` }
  try {
    await pool.object(`rbd_id.${name}`).stat(options)
    await call(resource, options, token => native.objectWrite(pool.handle, 'rbd_trash', steps, true, token))
    return true
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return false
    throw error
  }
}
