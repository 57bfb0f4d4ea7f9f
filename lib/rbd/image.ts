import type { Readable, Writable } from 'node:stream'
import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkInteger, checkName, checkOptions } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import type { ImageHandle } from './bindings.js'
import { Config } from './config.js'
import { type CopyOptions, copyImage, type DeepCopyOptions, deepCopyImage } from './copy.js'
import { type DiffOptions, diff } from './diff.js'
import { type ExportDiffOptions, exportDiff, importDiff } from './diff-format.js'
import {
  type FormatEncryptionOptions,
  formatEncryption,
  type LoadEncryptionOptions,
  loadEncryption,
} from './encryption.js'
import type { Extent } from './extents.js'
import { checkFeatures, type Feature, featuresOf, flagsOf, operationFeaturesOf } from './features.js'
import { markFlatten } from './finish-flatten.js'
import type { ImageParent, ImageStat, ImageWatcher, LinkedImage } from './image-info.js'
import { type ImageWatch, type ImageWatchListener, startImageWatch } from './image-watch.js'
import { ImageIo } from './io.js'
import { listChildren, listDescendants } from './linked-images.js'
import { listSnapshots } from './listing.js'
import { AdvisoryLock, ExclusiveLock } from './lock.js'
import { Metadata } from './metadata.js'
import { copyMissingObjects } from './missing-objects.js'
import { sparseSizeOf } from './options.js'
import { ProxiedOperations } from './proxied-operations.js'
import { type QuiesceHooks, type QuiesceWatch, startQuiesceWatch, type WatchQuiesceOptions } from './quiesce.js'
import { type ResizeOptions, resizeImage } from './resize.js'
import { checkRoom } from './room.js'
import { type CreateSnapshotOptions, createFlags, Snapshot, type SnapshotInfo } from './snapshot.js'
import { checkNextSnapshot } from './snapshot-removal.js'
import { createReadStream, createWriteStream, type ReadStreamOptions, type WriteStreamOptions } from './streams.js'
import { exportTo, importFrom, type TransferOptions } from './transfer.js'
import { type UsedBytesOptions, usedBytes } from './used-bytes.js'

/**
 * An open image. Named as when it was opened: a rename by somebody else does not show in `name`.
 */
export class Image extends ImageIo implements AsyncDisposable {
  readonly pool: Pool
  readonly name: string
  /** The snapshot it is opened at, or null. */
  readonly snapshotName: string | null
  readonly readOnly: boolean
  /** Keys and values of your own, which RBD keeps with the image. */
  readonly metadata: Metadata
  /** RBD's settings for this image. */
  readonly config: Config
  /** The lock that librbd takes to write. */
  readonly exclusiveLock: ExclusiveLock
  /** The lock of `rbd lock add`, which keeps nobody from writing. */
  readonly advisoryLock: AdvisoryLock
  /** @internal */
  readonly proxied = new ProxiedOperations(this)
  /** Whether an encryption is loaded, or may be. @internal */
  encrypted = false
  /** The call that makes or loads an encryption. @internal */
  encrypting: Promise<void> | undefined

  /** @internal */
  constructor(
    pool: Pool,
    handle: ImageHandle,
    { name, snapshot, readOnly }: { name: string; snapshot: string | null; readOnly: boolean },
  ) {
    const image = `${pool.path}/${name}`
    super(handle, snapshot === null ? image : `${image}@${snapshot}`)
    this.pool = pool
    this.name = name
    this.snapshotName = snapshot
    this.readOnly = readOnly
    this.metadata = new Metadata(
      this.path,
      {
        get: (key, token) => native.imageGetMetadata(handle, key, token),
        set: (key, value, token) => {
          const isDone = async (another: Image) => (await another.metadata.get(key)) === value
          return this.proxied.run(isDone, null, () => native.imageSetMetadata(handle, key, value, token))
        },
        remove: (key, token) => {
          const isDone = async (another: Image) => (await another.metadata.get(key)) === undefined
          return this.proxied.run(isDone, null, () => native.imageRemoveMetadata(handle, key, token))
        },
        list: (after, limit, token) => native.imageListMetadata(handle, after, limit, token),
      },
      options => this.watchers(options),
    )
    this.config = new Config(this.path, this.metadata, token => native.imageListConfig(handle, token))
    this.exclusiveLock = new ExclusiveLock(handle, this.path)
    this.advisoryLock = new AdvisoryLock(handle, this.path)
  }

  /** The version of the librbd in use. @implements rbd_version */
  static get libraryVersion(): string {
    const { major, minor, extra } = native.rbdVersion()
    return `${major}.${minor}.${extra}`
  }

  get closed(): boolean {
    return !native.isOpen(this.handle)
  }

  /** In bytes, at the snapshot if opened at one. @implements rbd_get_size */
  async size(options: CallOptions = {}): Promise<number> {
    return call(this.resource, options, token => native.imageSize(this.handle, token))
  }

  /**
   * What librbd knows of the open image. Costs no round trip unless the image has changed.
   *
   * @implements rbd_stat rbd_get_name rbd_get_id rbd_get_block_name_prefix rbd_get_old_format rbd_get_features
   *   rbd_get_op_features rbd_get_flags rbd_get_stripe_unit rbd_get_stripe_count rbd_get_overlap rbd_get_data_pool_id
   *   rbd_get_create_timestamp rbd_get_access_timestamp rbd_get_modify_timestamp
   */
  async stat(options: CallOptions = {}): Promise<ImageStat> {
    const { dataPoolId, ...stat } = await call(this.resource, options, token => native.imageStat(this.handle, token))
    return {
      ...stat,
      ...(dataPoolId !== undefined && dataPoolId !== this.pool.id && { dataPoolId }),
      features: featuresOf(stat.features),
      operationFeatures: operationFeaturesOf(stat.operationFeatures),
      flags: flagsOf(stat.flags),
    }
  }

  /** The snapshot this is a clone of, or null. @implements rbd_get_parent */
  async parent(options: CallOptions = {}): Promise<ImageParent | null> {
    return call(this.resource, options, token => native.imageParent(this.handle, token))
  }

  /**
   * The clones: of the snapshot the image is opened at, or else of all its snapshots; for those it opens the image once more.
   *
   * @implements rbd_list_children3
   */
  async children(options: CallOptions = {}): Promise<LinkedImage[]> {
    return listChildren(this, options)
  }

  /**
   * The clones, their clones, and so on; not those of one snapshot. Opens the image once more.
   *
   * @implements rbd_list_descendants
   */
  async descendants(options: CallOptions = {}): Promise<LinkedImage[]> {
    return listDescendants(this, options)
  }

  /** The group the image is in, or null. @implements rbd_get_group */
  async group(options: CallOptions = {}): Promise<{ name: string; poolId: number } | null> {
    return call(this.resource, options, token => native.imageGroup(this.handle, token))
  }

  /**
   * How many bytes have data, counted in whole objects. Of an image with snapshots `rbd du` shows another number: what was
   * written since the last one, which is to be given as `from`. With the feature `fast-diff` this reads the
   * object map only; without, it asks for every object. Progress is in bytes. Abort stops it.
   *
   * @throws {SnapshotNotFoundError} there is no snapshot of the name in `from`, or another one by the end
   *
   * @implements rbd_diff_iterate2
   */
  async usedBytes(options: UsedBytesOptions = {}): Promise<number> {
    return usedBytes(this, options)
  }

  /**
   * Tells in order, and without overlaps, which stretches of the image have data, or have changed since a snapshot; of
   * the latter also those that have become holes. Memory is bounded whatever the image's size, and stopping early costs
   * nothing. Abort stops it.
   *
   * What is written meanwhile may be told or not: open the image at a snapshot for a difference that holds together.
   *
   * @throws {SnapshotNotFoundError} there is no snapshot of the name in `from`; or it, or the one that the image is opened at,
   *   was removed in the meantime
   * @throws {InvalidArgumentError} the snapshot in `from` is later than the one the image is opened at
   *
   * @implements rbd_diff_iterate2
   */
  diff(options: DiffOptions = {}): AsyncGenerator<Extent, void, undefined> {
    return diff(this, options)
  }

  /**
   * The image as a stream of its bytes. Several requests are in flight; destroying the stream waits for them. A read that
   * fails destroys it, and so does one that finds the image smaller than it was, or its snapshot removed. Open the image at
   * a snapshot unless nobody writes to it.
   *
   * @param options.end - Inclusive, as in Node's own streams of files.
   * @param options.skipHoles - The stream gives their zeroes all the same, so that what is piped is right.
   */
  createReadStream(options: ReadStreamOptions = {}): Readable {
    return createReadStream(this, options)
  }

  /**
   * A stream that writes what it gets to the image, in chunks of 4 MiB, eight of which are in flight; that is all it takes
   * of memory. It has finished when all of it is safe in the cluster. A write that fails, such as one beyond the end of
   * the image, destroys the stream; how much of what came before has been written is not told. Destroying it waits for
   * what is in flight.
   *
   * @param options.start - In bytes.
   */
  createWriteStream(options: WriteStreamOptions = {}): Writable {
    return createWriteStream(this, options)
  }

  /**
   * Writes the image to a new file. Holes are neither read nor written, and zeroes become holes. Progress is in bytes.
   * Abort stops it. When it does not succeed, the file is removed before the call rejects. Open the image at a snapshot
   * unless nobody writes to it.
   *
   * A qcow2 file is written by `qemu-img`, which opens the image itself, by the name that it has then.
   *
   * @throws {ImageNotFoundError} to qcow2: the image is in the trash, where it has no name
   * @throws {TypeError} to qcow2: an encryption is loaded, of which `qemu-img` does not know; or the size is no multiple of
   *   512 bytes
   * @throws {InvalidArgumentError} the image became smaller in the meantime
   * @throws {SnapshotNotFoundError} the snapshot that it is opened at was removed in the meantime
   * @throws {Error} Node's own: EEXIST when there is such a file, ENOSPC, …; or what qemu-img said
   */
  async exportTo(path: string, options: TransferOptions = {}): Promise<void> {
    await exportTo(this, path, options)
  }

  /**
   * Fills an empty image with what a file, or a stream, has. Holes of the file, and zeroes, are left out, unless an encryption
   * is loaded. Progress is in bytes; of a stream the total is what has come so far. Abort stops it, with some of the data in the image, as a failure
   * does. A stream is destroyed then.
   *
   * @param source - The path of a file; or a stream, which is raw.
   * @throws {TypeError} the image is not empty; or this is no regular file, or not one of that format; or a qcow2 file that
   *   needs others, or has no whole sectors, or the image has an encryption loaded
   * @throws {RangeError} the image is smaller
   * @throws {ImageNotFoundError} from qcow2: the image is in the trash, where `qemu-img` finds none
   * @throws {Error} Node's own: ENOENT, …; or what qemu-img said; or what the stream failed with
   */
  async importFrom(source: string | Readable, options: TransferOptions = {}): Promise<void> {
    await importFrom(this, source, options)
  }

  /**
   * What has changed since a snapshot, or all there is, as a stream in the format of `rbd export-diff`, which
   * `rbd import-diff` and `importDiff()` read. Of an image that is opened at a snapshot, the diff names it as its end, and
   * whoever applies the diff makes it. Progress is in bytes of the image. What fails destroys the stream with that error: a
   * SnapshotNotFoundError where `from`, or the snapshot that the image is opened at, is not there or is removed in the
   * meantime, an AbortError after an abort.
   *
   * @throws {TypeError} wrong options, before there is a stream
   */
  exportDiff(options: ExportDiffOptions = {}): Readable {
    return exportDiff(this, options)
  }

  /**
   * Applies a diff of `rbd export-diff` or `exportDiff()`: writes what it has, changes the image's size to what it says,
   * and makes the snapshot that it ends at. The image should be as it was at the snapshot that the diff begins at. Where an
   * encryption is loaded, nothing but what the diff names can be relied on in a new image: beside it, librbd reads noise. Progress
   * is in bytes of the image. Abort stops it, with some of the diff applied, as a failure does; the snapshot is not made
   * then, and applying the diff again makes up for it. The source is destroyed in the end, however that is.
   *
   * @throws {DiffFormatError} it is no such diff, or not a whole one
   * @throws {NotSupportedError} it has another size than the image, and an encryption is loaded
   * @throws {SnapshotNotFoundError} the one that the diff begins at
   * @throws {SnapshotExistsError} the one that the diff ends at
   * @throws {ReadOnlyImageError}
   */
  async importDiff(source: Readable, options: ProgressOptions = {}): Promise<void> {
    await importDiff(this, source, options)
  }

  /** The clients that have the image open for writing, this one included if it does. @implements rbd_watchers_list */
  async watchers(options: CallOptions = {}): Promise<ImageWatcher[]> {
    return call(this.resource, options, token => native.imageWatchers(this.handle, token))
  }

  /**
   * Changes the size. Growing writes no data; shrinking discards the end of the image. Progress is in objects, and
   * there is none when nothing is discarded. Abort stops it at the next object: the size is then what it was, and some
   * of the end is gone.
   *
   * @param size - In bytes.
   * @throws {ShrinkNotAllowedError} smaller than now, without `allowShrink`
   * @throws {InvalidArgumentError} larger than the object map can hold
   * @throws {ReadOnlyImageError}
   * @throws {QuotaExceededError} growing in a pool at its quota, where `whenFull` is not `wait`; nothing has changed
   * @throws {NoSpaceError} the same in a pool whose OSDs are full
   *
   * @implements rbd_resize2
   */
  async resize(size: number, options: ResizeOptions = {}): Promise<void> {
    await resizeImage(this, size, options)
  }

  /**
   * Turns features on. An object map that is turned on is not valid before `rebuildObjectMap()`.
   *
   * @throws {InvalidArgumentError} one is on, cannot be turned on later, or needs another
   * @throws {ReadOnlyImageError}
   * @throws {QuotaExceededError} one has objects of its own, the pool is at its quota, and `whenFull` is not `wait`;
   *   nothing has changed
   * @throws {NoSpaceError} the same where the pool's OSDs are full
   *
   * @implements rbd_update_features
   */
  async enableFeatures(features: readonly Feature[], options: CallOptions = {}): Promise<void> {
    await this.#updateFeatures(features, true, options)
  }

  /**
   * Turns features off.
   *
   * @throws {InvalidArgumentError} one is off, cannot be turned off, or is needed by another
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_update_features
   */
  async disableFeatures(features: readonly Feature[], options: CallOptions = {}): Promise<void> {
    await this.#updateFeatures(features, false, options)
  }

  async #updateFeatures(features: readonly Feature[], enabled: boolean, options: CallOptions): Promise<void> {
    const bits = checkFeatures('features', features)
    checkOptions(options, [])
    // librbd would turn them on, and then be refused their objects.
    const haveObjects = enabled && features.some(feature => feature !== 'exclusive-lock')
    if (haveObjects) await checkRoom(this, this.path, options.signal, 'image')
    const isDone = async (another: Image) => {
      const present = (await another.stat()).features
      return features.every(feature => present.includes(feature) === enabled)
    }
    await call(this.resource, options, token =>
      this.proxied.run(isDone, null, () => native.imageUpdateFeatures(this.handle, bits, enabled, token)),
    )
  }

  /**
   * Copies from the parent what a clone still shares with it, so that it needs it no more. Progress is in objects.
   * Abort stops it at the next object: the image is then still a clone, and keeps what it has got.
   *
   * What librbd would leave out, because an object map can be wrong after a death, is copied first. To find it, each object
   * that the map has is looked for, 64 at a time, before there is any progress.
   *
   * If the process dies when all is copied, and the parent not yet taken away, nobody can open the image any more:
   * `pool.finishFlatten()` takes the parent away then.
   *
   * @throws {InvalidArgumentError} the image is no clone
   * @throws {ReadOnlyImageError} opened read-only; or something is to be copied first, and its encryption is loaded while it keeps the
   *   exclusive lock
   * @throws {QuotaExceededError} the pool is at its quota, and `whenFull` is not `wait`: some objects are copied, and the image is
   *   still a clone
   * @throws {NoSpaceError} the same where the pool's OSDs are full
   *
   * @implements rbd_flatten_with_progress
   */
  async flatten(options: ProgressOptions = {}): Promise<void> {
    checkOptions(options, [])
    const { signal } = options
    const parent = this.readOnly ? null : await this.parent({ signal })
    if (parent !== null) {
      await copyMissingObjects(this, { signal })
      await markFlatten(this, parent, { signal })
    }
    const isDone = async (another: Image) => (await another.parent()) === null
    await call(this.resource, options, (token, onProgress) =>
      this.proxied.run(isDone, onProgress, report => native.imageFlatten(this.handle, report, token)),
    )
  }

  /**
   * Gives back the space of stretches that hold nothing but zeroes. Progress is in objects. Abort stops it at the next
   * object.
   *
   * @param options.sparseSize - The shortest such stretch, in bytes: a power of two from 4 KiB to the object size.
   *   Default: 4 KiB.
   * @throws {InvalidArgumentError} a `sparseSize` beyond these
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_sparsify_with_progress
   */
  async sparsify(options: ProgressOptions & { sparseSize?: number | undefined } = {}): Promise<void> {
    checkOptions(options, ['sparseSize'])
    const { sparseSize, ...callOptions } = options
    const bytes = sparseSizeOf(sparseSize)
    await call(this.resource, callOptions, (token, onProgress) =>
      native.imageSparsify(this.handle, bytes, onProgress, token),
    )
  }

  /**
   * Makes the object map anew from the objects; what it has of an object that is gone stays, for librbd takes that for
   * one that is being written. Progress is in objects. Abort stops it: a map that was not valid is then still not.
   *
   * @throws {InvalidArgumentError} the image has none
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_rebuild_object_map
   */
  async rebuildObjectMap(options: ProgressOptions = {}): Promise<void> {
    await call(this.resource, options, (token, onProgress) =>
      native.imageRebuildObjectMap(this.handle, onProgress, token),
    )
  }

  /**
   * Copies the image as it is, without its snapshots; the copy of a clone is not a clone. Progress is in bytes. Abort ends the
   * waiting only: the copy is made all the same, and nobody looks whether what it was made of was there to the end. Where it fails,
   * what has been made of it stays, as with `rbd cp`: it is to be removed.
   *
   * @param pool - Where the copy goes; it may be in another cluster.
   * @throws {SnapshotNotFoundError} the snapshot that the image is opened at was removed in the meantime
   * @throws {InvalidArgumentError} the image became smaller in the meantime
   * @throws {ImageExistsError}
   * @throws {PoolNotFoundError} there is no such namespace, or data pool
   * @throws {InvalidArgumentError} settings that do not go together
   * @throws {QuotaExceededError} the copy's pool is at its quota, and its `whenFull` is not `wait`
   * @throws {NoSpaceError} its OSDs are full, and its `whenFull` is not `wait`
   *
   * @implements rbd_copy_with_progress4
   */
  async copy(pool: Pool, name: string, options: CopyOptions = {}): Promise<void> {
    await copyImage(this, pool, name, options)
  }

  /**
   * Copies the image with its snapshots; a copy of a clone is one too. Progress is in objects. Abort, and failure, as with
   * `copy()`.
   *
   * @param pool - Where the copy goes; to another cluster only with `flatten`.
   * @throws {SnapshotNotFoundError} the snapshot that the image is opened at was removed in the meantime
   * @throws {ImageExistsError}
   * @throws {PoolNotFoundError} there is no such namespace, or data pool
   * @throws {InvalidArgumentError} the image became smaller in the meantime; or settings that do not go together; or the parent's snapshot is not protected, and the
   *   copy's format needs that
   * @throws {QuotaExceededError} the copy's pool is at its quota, and its `whenFull` is not `wait`
   * @throws {NoSpaceError} its OSDs are full, and its `whenFull` is not `wait`
   *
   * @implements rbd_deep_copy_with_progress
   */
  async deepCopy(pool: Pool, name: string, options: DeepCopyOptions = {}): Promise<void> {
    await deepCopyImage(this, pool, name, options)
  }

  /** The snapshot of that name, which need not exist. */
  snapshot(name: string): Snapshot {
    return new Snapshot(this, checkName('name', name))
  }

  /**
   * All snapshots, oldest first: as they are, or, of an image that is open at a snapshot, as they were when it was opened.
   *
   * @implements rbd_snap_list rbd_snap_list_end rbd_snap_get_timestamp rbd_snap_get_namespace_type
   *   rbd_snap_get_trash_namespace rbd_snap_is_protected rbd_open_by_id_read_only rbd_open_read_only rbd_close
   */
  async listSnapshots(options: CallOptions = {}): Promise<SnapshotInfo[]> {
    if (this.snapshotName === null) {
      // librbd aborts the process where a snapshot goes while it lists them, and opens the image once more otherwise.
      const { id, format } = await this.stat(options)
      if (format === 2) return listSnapshots(this.pool.handle, id, this.resource, options)
    }
    return call(this.resource, options, token => native.snapshotList(this.handle, this.readOnly, token))
  }

  /**
   * Makes a snapshot. Where protecting it fails, the snapshot stays, and the error says so by its `syscall`. Progress
   * is in attempts to have the image's users hold their I/O. Abort ends the waiting only, and nothing is protected
   * then.
   *
   * @throws {SnapshotExistsError}
   * @throws {QuiesceError} a user of the image could not hold its I/O: no snapshot is made
   * @throws {TimeoutError} the cluster, or a user of the image that was to hold its I/O, has not answered in time
   * @throws {QuotaExceededError} there are as many as the limit allows; or the pool is at its quota, and `whenFull`
   *   is not `wait`
   * @throws {NoSpaceError} the pool's OSDs are full, and `whenFull` is not `wait`
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_create2
   */
  async createSnapshot(name: string, options: CreateSnapshotOptions = {}): Promise<Snapshot> {
    const snapshot = this.snapshot(name)
    checkOptions(options, ['protect', 'skipQuiesce', 'ignoreQuiesceError'])
    const { protect = false, skipQuiesce, ignoreQuiesceError, ...callOptions } = options
    checkBoolean('protect', protect)
    const flags = createFlags({ skipQuiesce, ignoreQuiesceError })
    const resource: Resource = { kind: 'snapshot', name: snapshot.path }
    await checkRoom(this, snapshot.path, callOptions.signal, 'image')
    const isDone = (another: Image) => another.snapshot(name).exists()
    await call(resource, callOptions, (token, onProgress) =>
      this.proxied.run(isDone, onProgress, report => native.snapshotCreate(this.handle, name, flags, report, token)),
    )
    if (protect) await snapshot.protect({ signal: callOptions.signal })
    return snapshot
  }

  /**
   * Removes a snapshot that has no usable name, such as one in the trash. See also `snapshot.remove()`.
   *
   * @throws {SnapshotNotFoundError}
   * @throws {SnapshotBusyError} it is protected, or has clones
   * @throws {IncompleteSnapshotError} the making of the snapshot after it was cut short, or takes more than three seconds
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_remove_by_id
   */
  async removeSnapshotById(id: number, options: CallOptions = {}): Promise<void> {
    checkInteger('id', id)
    const resource: Resource = { kind: 'snapshot', name: `${this.path}@id ${id}` }
    if (!this.readOnly) await checkNextSnapshot(this, id, resource, options)
    const isDone = async (another: Image) => (await another.listSnapshots()).every(snapshot => snapshot.id !== id)
    await call(resource, options, token =>
      this.proxied.run(isDone, null, () => native.snapshotRemoveById(this.handle, id, token)),
    )
  }

  /** How many snapshots the image may have, or null. @implements rbd_snap_get_limit */
  async snapshotLimit(options: CallOptions = {}): Promise<number | null> {
    return call(this.resource, options, token => native.snapshotGetLimit(this.handle, token))
  }

  /**
   * Sets how many snapshots the image may have; null for any number.
   *
   * @throws {InvalidArgumentError} it has more already
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_snap_set_limit
   */
  async setSnapshotLimit(limit: number | null, options: CallOptions = {}): Promise<void> {
    if (limit !== null) checkInteger('limit', limit)
    await call(this.resource, options, token =>
      limit === null
        ? native.snapshotClearLimit(this.handle, token)
        : native.snapshotSetLimit(this.handle, limit, token),
    )
  }

  /**
   * Encrypts the image from now on: writes a LUKS header with a new key to its beginning, and loads it. What was in the
   * image cannot be read any more, though it is not overwritten, and a key of before is gone.
   *
   * `size()` is then without the header, which takes 4 MiB (`luks1`) or 16 MiB (`luks2`), or whole objects if these are
   * larger. Takes seconds of computing, and for `luks2` up to a GiB of memory, so that guessing takes them too. Abort
   * ends the waiting only.
   *
   * @throws {ExistsError} an encryption is loaded: open the image anew to format it
   * @throws {NotSupportedError} the image is a clone, or has the feature `journaling`
   * @throws {NoSpaceError} the image is not larger than the header
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_encryption_format
   */
  async formatEncryption(options: FormatEncryptionOptions): Promise<void> {
    await formatEncryption(this, options)
  }

  /**
   * Reads and writes the image as what it has encrypted, until it is closed; call it before any I/O. A clone is
   * encrypted with its parent's key: of an encrypted clone of an unencrypted parent, the parent's data cannot be read.
   *
   * `size()`, offsets and lengths are then without the header. `resize()` still counts it, as do used bytes,
   * copies and everything that looks at objects: these see the encrypted data. Takes a second or two of computing.
   * Abort ends the waiting only.
   *
   * @throws {WrongPassphraseError}
   * @throws {NotEncryptedError} there is no LUKS header of that format
   * @throws {ExistsError} loaded already
   * @throws {NotSupportedError} the image, or one it is a clone of, has the feature `journaling`
   *
   * @implements rbd_encryption_load
   */
  async loadEncryption(options: LoadEncryptionOptions): Promise<void> {
    await loadEncryption(this, options)
  }

  /**
   * Hears of changes to the image's header: its size, snapshots, features, metadata, parent, by whomever, this process
   * included. What has changed is for the listener to look at; several changes may be told in one call. The watch lives
   * until it is closed, and keeps the process alive.
   *
   * When the connection has been interrupted for so long that changes may have been missed, that is told as a change.
   *
   * @param listener - Called again only when what it returned has settled.
   * @throws {ReadOnlyImageError} opened read-only: librbd hears nothing of changes then
   *
   * @implements rbd_update_watch
   */
  async watch(listener: ImageWatchListener, options: CallOptions = {}): Promise<ImageWatch> {
    return startImageWatch(this, listener, options)
  }

  /**
   * Has hooks called before and after each snapshot of the image, whoever makes it, so that its users can be told to
   * hold their writes. They are in force until the watch is closed, which keeps the process alive.
   *
   * Who makes the snapshot waits, for 50 s by default (5 s times `rbd_quiesce_notification_attempts`), and then gets a
   * TimeoutError; after a `quiesce()` that rejects, or takes too long, it gets a QuiesceError. It can choose not to ask,
   * or not to mind. Where nothing is heard of a snapshot any more, `unquiesce()` is called after 10 s.
   *
   * @throws {ReadOnlyImageError} opened read-only: librbd asks no reader
   *
   * @implements rbd_open_by_id rbd_quiesce_watch rbd_quiesce_complete
   */
  async watchQuiesce(hooks: QuiesceHooks, options: WatchQuiesceOptions = {}): Promise<QuiesceWatch> {
    return startQuiesceWatch(this, hooks, options)
  }

  /**
   * Closes the image after its calls in flight, and writes what is in its cache. Safe to call again. Where a change is in flight that
   * another client has made and librbd waits for in vain, it takes the exclusive lock from that one for a moment.
   *
   * @implements rbd_aio_close rbd_close rados_aio_watch_flush
   */
  async close(): Promise<void> {
    if (!this.closed) this.proxied.seeToAnswers()
    await call(this.resource, {}, () => native.close(this.handle))
    await this.proxied.lookingEnds()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
