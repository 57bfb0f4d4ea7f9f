import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkCallOptions, checkName, checkOptions } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import { flattenClones } from './flatten-clones.js'
import type { Image } from './image.js'
import { checkRoom } from './room.js'
import { checkNextSnapshot } from './snapshot-removal.js'
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
  /**
   * In the `trash`, unless the image is open at a snapshot: how many clones it is kept there for. Where it is none, the removal is under
   * way, or was cut short: `image.removeSnapshotById()` brings it to its end.
   */
  clones?: number
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
  /** End its protection, if it has one. Default: false. */
  unprotect?: boolean | undefined
  /** Flatten its clones first, in whatever pools they are, the trash included. Default: false. */
  flattenClones?: boolean | undefined
}

const skipQuiesceFlag = 1
const ignoreQuiesceErrorFlag = 2

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
   * Keeps the snapshot from being removed. Abort ends the waiting only: it may be protected all the same.
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
   * Lets the snapshot be removed again. Abort ends the waiting only.
   *
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
   * clones that are flattened, and parts of them. Abort stops that as it does `image.flatten()`; of the removal itself it ends the
   * waiting only.
   *
   * An earlier removal of the snapshot after it that was cut short is brought to its end first: librbd would otherwise forget what
   * had changed until this one, so that an incremental backup leaves it out. That costs a round trip, or two where there is a
   * later snapshot.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotBusyError} it is protected, and `unprotect` is not set: by then its clones are flattened, if they are to be; or
   *   clones of format 1 hang on it
   * @throws {IncompleteSnapshotError} the making of the snapshot after it was cut short, or takes more than three seconds
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_remove2 rbd_snap_get_id
   */
  async remove(options: RemoveSnapshotOptions = {}): Promise<void> {
    checkCallOptions(options, ['unprotect', 'flattenClones'])
    const { unprotect = false, flattenClones: flattens = false, signal, onProgress } = options
    checkBoolean('unprotect', unprotect)
    checkBoolean('flattenClones', flattens)
    const { handle, readOnly } = this.image
    const isDone = async (another: Image) => !(await another.snapshot(this.name).exists())
    const remove = () =>
      call(this.#resource, { signal }, token =>
        this.image.proxied.run(isDone, null, () => native.snapshotRemove(handle, this.name, unprotect, token)),
      )
    if (readOnly) return remove()
    const id = await call(this.#resource, { signal }, token => native.snapshotId(handle, this.name, token))
    if (flattens) await flattenClones(this, { signal, onProgress })
    await checkNextSnapshot(this.image, id, this.#resource, { signal })
    await remove()
  }
}
