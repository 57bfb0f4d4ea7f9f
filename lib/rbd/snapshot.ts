import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkName, checkOptions } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import type { Image } from './image.js'
import { checkRoom } from './room.js'
import { withoutObjectMap } from './without-object-map.js'

/** Names a snapshot. What `image.snapshot()` gives is one. */
export interface SnapshotReference {
  /** Default: the pool that is asked. */
  pool?: Pool | undefined
  imageName: string
  name: string
}

export interface SnapshotInfo {
  /** Unique within the pool; a 64-bit count of snapshots, and so a safe integer in practice. */
  id: number
  name: string
  /** The image's size at the time, in bytes. */
  size: number
  createdAt: Date
  /** Who made it: only those of the `user` can be used by name. */
  namespace: 'user' | 'group' | 'trash' | 'mirror' | 'unknown'
  /** In the `trash`: what it was called before it was removed, while clones needed it. */
  originalName?: string
  protected: boolean
}

export interface CreateSnapshotOptions extends ProgressOptions {
  /** Keep it from being removed, so that it can be cloned. Default: false. */
  protect?: boolean | undefined
  /** Do not ask the image's users to hold their I/O. Default: false. */
  skipQuiesce?: boolean | undefined
  /** Go on when one of them could not. Default: false. */
  ignoreQuiesceError?: boolean | undefined
}

export interface RemoveSnapshotOptions extends ProgressOptions {
  /** Unprotect it first, and flatten its clones. Default: false. */
  force?: boolean | undefined
}

const skipQuiesceFlag = 1
const ignoreQuiesceErrorFlag = 2
const unprotectFlag = 1
const flattenFlag = 2

/** RBD_SNAP_CREATE_SKIP_QUIESCE or RBD_SNAP_CREATE_IGNORE_QUIESCE_ERROR; librbd refuses both together. */
export function createFlags(options: Pick<CreateSnapshotOptions, 'skipQuiesce' | 'ignoreQuiesceError'>): number {
  const { skipQuiesce = false, ignoreQuiesceError = false } = options
  checkBoolean('skipQuiesce', skipQuiesce)
  checkBoolean('ignoreQuiesceError', ignoreQuiesceError)
  if (skipQuiesce) return skipQuiesceFlag
  return ignoreQuiesceError ? ignoreQuiesceErrorFlag : 0
}

/**
 * A snapshot, by the name of its image and its own. Having one costs nothing, and does not say that it exists.
 */
export class Snapshot implements SnapshotReference {
  readonly image: Image
  readonly name: string

  /** @internal */
  constructor(image: Image, name: string) {
    this.image = image
    this.name = name
  }

  get pool(): Pool {
    return this.image.pool
  }

  get imageName(): string {
    return this.image.name
  }

  /** `rbd/tenant-a/golden@base`. */
  get path(): string {
    return `${this.pool.path}/${this.imageName}@${this.name}`
  }

  get #resource(): Resource {
    return { kind: 'snapshot', name: this.path }
  }

  /** @implements rbd_snap_exists */
  async exists(options: CallOptions = {}): Promise<boolean> {
    return call(this.#resource, options, token => native.snapshotExists(this.image.handle, this.name, token))
  }

  /**
   * Keeps the snapshot from being removed.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotBusyError} it is protected already
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_protect
   */
  async protect(options: CallOptions = {}): Promise<void> {
    await call(this.#resource, options, token => native.snapshotProtect(this.image.handle, this.name, token))
  }

  /**
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotBusyError} it has clones of format 1
   * @throws {InvalidArgumentError} it is not protected
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_unprotect
   */
  async unprotect(options: CallOptions = {}): Promise<void> {
    await call(this.#resource, options, token => native.snapshotUnprotect(this.image.handle, this.name, token))
  }

  /**
   * Renames the snapshot; this object goes on to stand for the old name.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotExistsError} there is one of the new name
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_rename
   */
  async rename(newName: string, options: CallOptions = {}): Promise<Snapshot> {
    checkName('newName', newName)
    await call(this.#resource, options, token => native.snapshotRename(this.image.handle, this.name, newName, token))
    return new Snapshot(this.image, newName)
  }

  /**
   * Makes the image what it was at the snapshot, its size included. Progress is in objects. Abort stops it at the next
   * object: some of the image is then as it was at the snapshot, and the rest is not. The object map is made invalid, and anew
   * at the end, so that a rollback that was cut short can be done again. Where the data has a pool of its own, it is this that
   * has to have room; an image that becomes larger while its own pool is full is rolled back, and its object map stays
   * invalid, see `rebuildObjectMap()`.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {ReadOnlyImageError}
   * @throws {QuotaExceededError} the pool of its data is at its quota, and `whenFull` is not `wait`; nothing has changed, unless
   *   the quota was reached meanwhile
   * @throws {NoSpaceError} the same where the pool's OSDs are full
   *
   * @implements rbd_snap_rollback_with_progress
   */
  async rollback(options: ProgressOptions = {}): Promise<void> {
    checkOptions(options, [])
    const { signal } = options
    await checkRoom(this.image, this.path, signal, 'data')
    const rollBack = () =>
      call(this.#resource, options, (token, onProgress) =>
        native.snapshotRollback(this.image.handle, this.name, onProgress, token),
      )
    const isPossible = !this.image.readOnly && (await this.exists({ signal }))
    try {
      await (isPossible ? withoutObjectMap(this.image, { signal }, rollBack) : rollBack())
    } finally {
      this.image.forgetSize()
    }
  }

  /**
   * Removes the snapshot. One that clones of format 2 hang on goes to the trash until they are gone. Progress is in
   * clones that are flattened. Abort ends the waiting only.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotBusyError} it is protected, and not forced
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_remove2
   */
  async remove(options: RemoveSnapshotOptions = {}): Promise<void> {
    checkOptions(options, ['force'])
    const { force = false, ...callOptions } = options
    const flags = checkBoolean('force', force) ? unprotectFlag + flattenFlag : 0
    await call(this.#resource, callOptions, (token, onProgress) =>
      native.snapshotRemove(this.image.handle, this.name, flags, onProgress, token),
    )
  }
}
