import type { Readable } from 'node:stream'
import { type CallOptions, call, closeAfter, open, type ProgressOptions } from '../call.js'
import {
  checkBoolean,
  checkBytes,
  checkKey,
  checkName,
  checkObject,
  checkObjectName,
  checkOneOf,
  checkOptions,
  wrongType,
  wrongValue,
} from '../check.js'
import { ImageNotFoundError, type Resource, toCephError } from '../errors.js'
import { native } from '../native.js'
import { checkClone } from '../rbd/clone-parent.js'
import { Config } from '../rbd/config.js'
import { finishFlatten } from '../rbd/finish-flatten.js'
import { Image } from '../rbd/image.js'
import { type ImageDetails, listImageDetails } from '../rbd/listing.js'
import { Metadata } from '../rbd/metadata.js'
import { ask, directoryObject, getImageId } from '../rbd/object-class.js'
import { type CreateImageOptions, imageOptionNames, imageOptions } from '../rbd/options.js'
import type { SnapshotReference } from '../rbd/snapshot.js'
import type { UnreadableImage } from '../rbd/survey.js'
import { type ImportImageOptions, importImage } from '../rbd/transfer.js'
import { Trash, withTrash } from '../rbd/trash.js'
import { type ImageUsage, listImageUsage } from '../rbd/usage.js'
import type { IoctxHandle } from './bindings.js'
import type { Cluster } from './cluster.js'
import { RadosObject } from './object.js'

/**
 * What becomes of writes to a pool that has reached its quota, or whose OSDs are full.
 *
 * - `wait`: they wait until there is room, removals too, or until the cluster's `timeout` is over.
 * - `try`: what needs room fails with a QuotaExceededError, or a NoSpaceError; what needs none is done: the removal of
 *   images, snapshots and objects, and changes of attributes and omaps of objects that are there. What OSDs count is the
 *   object, and its bytes: they let an image with snapshots be written over, and discarded from, though each object is
 *   copied at that, and omaps grow, so OSDs go on filling. The trash's list, an empty object, is made by force where an
 *   image is the first to be moved there.
 * - `force`: the same; and `object.operate()`, and what stands on it (`writeFull()`, `setOmap()`, ...), is done although
 *   there is no room. For small records only: OSDs that are filled to the brim do not start any more. Images are as with
 *   `try`, and so are locks and watches of objects, which may need the object made.
 */
export type WhenFull = 'wait' | 'try' | 'force'

/** @internal */
export const whenFullChoices: readonly WhenFull[] = ['wait', 'try', 'force']

export interface PoolStat {
  /** What the data takes on the OSDs: replicas count. */
  bytes: number
  /** Each once, however many replicas it has; with its clones. */
  objects: number
  /** Old states of objects that snapshots keep. */
  objectClones: number
  /** As many as there are to be, replicas counted. */
  objectCopies: number
  objectsMissingOnPrimary: number
  /** No OSD that is up has them. */
  objectsUnfound: number
  /** Copies that are missing. */
  objectsDegraded: number
  /** Since the pool was made, in operations; the other three likewise. */
  reads: number
  readBytes: number
  writes: number
  writtenBytes: number
  /** Before compression and padding; replicas count. */
  userBytes: number
  /** What compressed data has become, what it was, and what it takes on the OSDs. Replicas count. */
  compressedBytes: number
  compressedBytesOriginal: number
  compressedBytesAllocated: number
}

export interface PoolImageStats {
  images: number
  /** The sizes of the images, added up. */
  provisionedBytes: number
  /** The same, each image with its largest snapshot if that is larger. */
  maxProvisionedBytes: number
  snapshots: number
  trashImages: number
  trashProvisionedBytes: number
  trashMaxProvisionedBytes: number
  trashSnapshots: number
}

export interface ImageListEntry {
  /** Stays the same when the image is renamed. */
  id: string
  name: string
}

export interface ObjectListEntry {
  name: string
  namespace: string
  /** The key that places the object, where that is not its name; else empty. */
  locator: string
}

export interface OpenImageOptions extends CallOptions {
  /** Open the image as it was at this snapshot: read-only. */
  snapshot?: string | undefined
  /** Default: false. A read-only image takes no lock and registers no watch. */
  readOnly?: boolean | undefined
}

export interface CloneImageOptions extends Omit<CreateImageOptions, 'size'> {
  /**
   * 1 needs the parent snapshot protected; 2 does not, and lets it be removed while clones live. Default: what
   * `rbd_default_clone_format` says, and that is 2 once the cluster requires Mimic clients.
   */
  cloneFormat?: 1 | 2 | undefined
}

/** How many names one native call fetches in a listing of objects. */
const objectsPerBatch = 1000

/** LIBRADOS_ALL_NSPACES: the namespace that stands for all when objects are listed. */
const allNamespaces = '\x01'

/**
 * A pool, seen through one namespace: RADOS objects, and RBD images.
 */
export class Pool implements AsyncDisposable {
  readonly cluster: Cluster
  readonly id: number
  readonly name: string
  /** Empty for the pool's own, unnamed namespace. */
  readonly namespace: string
  /** As it was opened. */
  readonly whenFull: WhenFull
  /** The images that are gone by name and may still come back. */
  readonly trash: Trash
  /** Metadata that RBD keeps for the pool, or for the namespace. */
  readonly metadata: Metadata
  /** RBD's settings for all images of the pool, in all namespaces. */
  readonly config: Config
  /** @internal */
  readonly handle: IoctxHandle

  /** @internal */
  constructor(
    cluster: Cluster,
    handle: IoctxHandle,
    fields: { id: number; name: string; namespace: string; whenFull: WhenFull },
  ) {
    this.cluster = cluster
    this.handle = handle
    this.id = fields.id
    this.name = fields.name
    this.namespace = fields.namespace
    this.whenFull = fields.whenFull
    this.trash = new Trash(this)
    this.metadata = new Metadata(
      this.path,
      {
        get: (key, token) => native.poolGetMetadata(handle, key, token),
        set: (key, value, token) => native.poolSetMetadata(handle, key, value, token),
        remove: (key, token) => native.poolRemoveMetadata(handle, key, token),
        list: (after, limit, token) => native.poolListMetadata(handle, after, limit, token),
      },
      // A pool that is gone says so by itself.
      async () => {},
    )
    // librbd reads a pool's settings where there is no namespace, and would let them be written anywhere.
    const settings = this.namespace === '' ? this.metadata : null
    this.config = new Config(this.path, settings, token => native.poolListConfig(handle, token))
  }

  get closed(): boolean {
    return !native.isOpen(this.handle)
  }

  /** `rbd`, or `rbd/tenant-a`. */
  get path(): string {
    return this.namespace ? `${this.name}/${this.namespace}` : this.name
  }

  get #resource(): Resource {
    return { kind: 'pool', name: this.path }
  }

  #image(name: string): Resource {
    return { kind: 'image', name: `${this.path}/${name}` }
  }

  /**
   * Makes the pool one for RBD. Do so once, before the first image: without it, images made at the same time can wait
   * for each other.
   *
   * @param options.force - Even if the pool is for another application already. Default: false.
   * @throws {BusyError} it is for another application, and not forced
   *
   * @implements rbd_pool_init
   */
  async initialize(options: CallOptions & { force?: boolean | undefined } = {}): Promise<void> {
    checkOptions(options, ['force'])
    const { force = false, ...callOptions } = options
    checkBoolean('force', force)
    await call(this.#resource, callOptions, token => native.poolInitialize(this.handle, force, token))
  }

  /**
   * What the pool holds, in all namespaces. The OSDs report every few seconds, so this lags behind.
   *
   * @throws {PoolNotFoundError}
   *
   * @implements rados_ioctx_pool_stat
   */
  async stat(options: CallOptions = {}): Promise<PoolStat> {
    const stat = await call(this.#resource, options, token => native.ioctxStat(this.handle, token))
    return stat as unknown as PoolStat
  }

  /**
   * What the images of this namespace add up to. Looks at each, so it takes the longer the more there are.
   *
   * @throws {PoolNotFoundError}
   *
   * @implements rbd_pool_stats_create rbd_pool_stats_option_add_uint64 rbd_pool_stats_get rbd_pool_stats_destroy
   */
  async imageStats(options: CallOptions = {}): Promise<PoolImageStats> {
    const stats = await call(this.#resource, options, token => native.poolStats(this.handle, token))
    return stats as unknown as PoolImageStats
  }

  /**
   * Says what the pool is for.
   *
   * @param options.force - Even if it is for something else already. Default: false.
   * @throws {BusyError} it is for something else, and not forced
   *
   * @implements rados_application_enable
   */
  async enableApplication(
    application: string,
    options: CallOptions & { force?: boolean | undefined } = {},
  ): Promise<void> {
    checkKey('application', application)
    checkOptions(options, ['force'])
    const { force = false, ...callOptions } = options
    checkBoolean('force', force)
    await call(this.#resource, callOptions, token =>
      native.ioctxEnableApplication(this.handle, application, force, token),
    )
  }

  /** What the pool is for, such as `rbd`. @implements rados_application_list */
  async listApplications(options: CallOptions = {}): Promise<string[]> {
    return call(this.#resource, options, token => native.ioctxListApplications(this.handle, token))
  }

  /** The RADOS object of that name, which need not exist. */
  object(name: string): RadosObject {
    return new RadosObject(this, checkObjectName('name', name))
  }

  /**
   * Lists the objects, in no order that means anything.
   *
   * @param options.allNamespaces - Default: false, only those of this namespace.
   *
   * @implements rados_nobjects_list_open rados_nobjects_list_next2 rados_nobjects_list_close rados_ioctx_create2
   */
  async *listObjects(
    options: CallOptions & { allNamespaces?: boolean | undefined } = {},
  ): AsyncGenerator<ObjectListEntry, void, undefined> {
    checkOptions(options, ['allNamespaces'])
    const resource = this.#resource
    const { allNamespaces: all = false, ...callOptions } = options
    checkBoolean('allNamespaces', all)
    const ioctx = all ? await this.#openAllNamespaces(callOptions) : this.handle
    try {
      const list = await open(resource, callOptions, token => native.ioctxListObjects(ioctx, token))
      try {
        for (;;) {
          const batch = await call(resource, callOptions, token => native.objectListNext(list, objectsPerBatch, token))
          yield* batch
          if (batch.length < objectsPerBatch) return
        }
      } finally {
        await closeAfter(list, callOptions)
      }
    } finally {
      if (all) await closeAfter(ioctx, callOptions)
    }
  }

  /** The namespace is a property of the ioctx, which others use: an own one for another namespace. */
  async #openAllNamespaces(options: CallOptions): Promise<IoctxHandle> {
    return open(this.#resource, options, async token => {
      const id = await native.ioctxId(this.handle, token)
      return native.ioctxOpenById(this.cluster.handle, id, allNamespaces, false, token)
    })
  }

  /**
   * Makes a namespace for images, in the pool: they do not nest.
   *
   * @throws {ExistsError}
   *
   * @implements rbd_namespace_create
   */
  async createNamespace(name: string, options: CallOptions = {}): Promise<void> {
    checkName('name', name)
    await call(this.#namespace(name), options, token => native.poolCreateNamespace(this.handle, name, token))
  }

  /**
   * Removes a namespace.
   *
   * @throws {NotFoundError}
   * @throws {BusyError} it still has images, or trash
   *
   * @implements rbd_namespace_remove
   */
  async removeNamespace(name: string, options: CallOptions = {}): Promise<void> {
    checkName('name', name)
    await call(this.#namespace(name), options, token => native.poolRemoveNamespace(this.handle, name, token))
  }

  /** The names of the namespaces made for images. @throws {PoolNotFoundError} @implements rbd_namespace_list */
  async listNamespaces(options: CallOptions = {}): Promise<string[]> {
    return call(this.#resource, options, token => native.poolListNamespaces(this.handle, token))
  }

  /** Whether the pool has that namespace for images. @implements rbd_namespace_exists */
  async namespaceExists(name: string, options: CallOptions = {}): Promise<boolean> {
    checkName('name', name)
    return call(this.#namespace(name), options, token => native.poolNamespaceExists(this.handle, name, token))
  }

  #namespace(name: string): Resource {
    return { kind: 'namespace', name: `${this.name}/${name}` }
  }

  /** The images, by name. @throws {PoolNotFoundError} @implements rbd_list2 */
  async listImages(options: CallOptions = {}): Promise<ImageListEntry[]> {
    return call(this.#resource, options, token => native.poolListImages(this.handle, token))
  }

  /**
   * Lists the images with what `image.stat()`, `parent()` and `listSnapshots()` would tell, without opening them: one
   * round trip for an image, one more if it has snapshots, two for each parent. In the order of the names, and not as of
   * one moment: who creates, renames and removes images meanwhile may find them listed or not.
   *
   * An image that is removed meanwhile is left out. One that cannot be read has an `error` instead of its details; an
   * ImageNotFoundError there says that its removal has begun or was not completed, or that it is a clone of what is gone.
   * Those of the old format, in migration, or of a format unknown here are opened after all. At most 128 are looked at ahead
   * of the caller, so memory has its bounds however many there are.
   *
   * @throws {PoolNotFoundError}
   * @throws {TimeoutError} as of one image; the others are not listed either
   */
  listImageDetails(options: CallOptions = {}): AsyncGenerator<ImageDetails | UnreadableImage, void, undefined> {
    return listImageDetails(this, options)
  }

  /**
   * Lists the images with the bytes they use, those of their snapshots too: what `rbd du` tells, from their object maps.
   * Two round trips for an image, one more if it has snapshots or fancy striping, and one for each snapshot. An image
   * without a valid object map, or without `fast-diff`, is opened, and librbd asks for every object that it could have.
   * Otherwise as `listImageDetails()`.
   *
   * @throws {PoolNotFoundError}
   * @throws {TimeoutError} as of one image; the others are not listed either
   */
  listImageUsage(options: CallOptions = {}): AsyncGenerator<ImageUsage | UnreadableImage, void, undefined> {
    return listImageUsage(this, options)
  }

  /**
   * Makes an empty image. It takes no space until written to. Abort ends the waiting only: the image may be made all the same.
   *
   * @param options.size - In bytes.
   * @throws {ImageExistsError}
   * @throws {PoolNotFoundError} there is no such pool, namespace or data pool
   * @throws {InvalidArgumentError} settings that do not go together, such as a stripe unit that does not divide the
   *   object size, or a size with more objects than an object map can hold
   * @throws {QuotaExceededError} the pool is at its quota, and `whenFull` is not `wait`
   * @throws {NoSpaceError} the pool's OSDs are full, and `whenFull` is not `wait`
   *
   * @implements rbd_create4
   */
  async createImage(name: string, options: CreateImageOptions): Promise<void> {
    checkName('name', name)
    checkOptions(options, [...imageOptionNames, 'size'])
    const { size, ...rest } = options
    checkBytes('size', size)
    const [layout, callOptions] = imageOptions(rest)
    await call(this.#image(name), callOptions, token => native.poolCreateImage(this.handle, name, size, layout, token))
  }

  /**
   * Makes an image that begins as the snapshot and shares its data. Abort ends the waiting only: the clone may be made all the
   * same.
   *
   * @param parent - A snapshot, of an image in any pool of this cluster. If that is open, it is found whatever it is called.
   * @throws {ImageExistsError}
   * @throws {ImageNotFoundError} there is no such parent; or no pool, namespace or data pool for the clone
   * @throws {SnapshotNotFoundError} the parent has no such snapshot
   * @throws {InvalidArgumentError} the snapshot is not protected, or in another namespace, and the clone's format needs
   *   that; or settings that do not go together
   * @throws {NotSupportedError} `features` without `layering`
   * @throws {QuotaExceededError} the pool is at its quota, and `whenFull` is not `wait`
   * @throws {NoSpaceError} the pool's OSDs are full, and `whenFull` is not `wait`
   *
   * @implements rbd_clone3
   */
  async cloneImage(parent: SnapshotReference, name: string, options: CloneImageOptions = {}): Promise<void> {
    checkObject('parent', parent)
    const { pool: from = this } = parent
    if (!(from instanceof Pool)) throw wrongType('parent.pool', 'a Pool', from)
    checkName('parent.imageName', parent.imageName)
    const snapshot = checkName('parent.name', parent.name)
    checkName('name', name)
    checkOptions(options, [...imageOptionNames, 'cloneFormat'])
    const { cloneFormat, ...rest } = options
    const [clone, callOptions] = imageOptions(rest)
    if (cloneFormat !== undefined) clone.cloneFormat = checkOneOf('cloneFormat', cloneFormat, [1, 2])
    // librbd would do it, and leave a clone that cannot be opened and a parent that cannot tell its children.
    if (!(await this.cluster.isSameAs(from.cluster, callOptions))) {
      throw wrongValue(
        'parent',
        "a snapshot in the clone's own cluster",
        `${from.path}/${parent.imageName}@${snapshot}`,
      )
    }
    const resource = this.#image(name)
    const image = await checkClone(from, parent, clone, resource, callOptions)
    const make = () =>
      call(resource, callOptions, token =>
        native.poolCloneImage(from.handle, image, snapshot, this.handle, name, clone, token),
      )
    try {
      await make()
    } catch (error) {
      if (!(error instanceof ImageNotFoundError)) throw error
      // librbd fails so as well where another snapshot of the parent goes while it reads about them.
      await make()
    }
  }

  /**
   * Makes an image of a file, or of a stream. Holes of the file, and zeroes, take no space. Progress is in bytes; of a
   * stream the total is what has come so far. Abort stops it. When it does not succeed, the image is removed before the
   * call rejects, and a stream destroyed.
   *
   * @param source - The path of a file; or a stream, which is raw. The image is as long as it.
   * @throws {ImageExistsError}
   * @throws {PoolNotFoundError} there is no such pool, namespace or data pool
   * @throws {InvalidArgumentError} settings that do not go together
   * @throws {TypeError} this is no regular file, or not one of that format; or a qcow2 file that needs others, or has no
   *   whole sectors
   * @throws {Error} Node's own: ENOENT, …; or what qemu-img said; or what the stream failed with
   */
  async importImage(name: string, source: string | Readable, options: ImportImageOptions = {}): Promise<void> {
    checkName('name', name)
    await importImage(this, name, source, options)
  }

  /**
   * Opens an image.
   *
   * @throws {ImageNotFoundError} there is none; or it is a clone of what is gone: `finishFlatten()` tells
   * @throws {SnapshotNotFoundError} the image is there, and has no such snapshot
   * @throws {PermissionError} opened for writing by a user who may only read
   *
   * @implements rbd_aio_open rbd_aio_open_read_only
   */
  async openImage(name: string, options: OpenImageOptions = {}): Promise<Image> {
    checkName('name', name)
    return this.#open({ name }, options)
  }

  /**
   * Opens an image by the id that stays when it is renamed, or moved to the trash.
   *
   * @throws {ImageNotFoundError}
   * @throws {SnapshotNotFoundError} the image is there, and has no such snapshot
   *
   * @implements rbd_aio_open_by_id rbd_aio_open_by_id_read_only
   */
  async openImageById(id: string, options: OpenImageOptions = {}): Promise<Image> {
    checkKey('id', id)
    return this.#open({ id }, options)
  }

  async #open(which: { name: string } | { id: string }, options: OpenImageOptions): Promise<Image> {
    checkOptions(options, ['snapshot', 'readOnly'])
    const { snapshot = null, readOnly: asked = false, ...callOptions } = options
    if (options.snapshot !== undefined) checkName('snapshot', snapshot)
    const readOnly = checkBoolean('readOnly', asked) || snapshot !== null
    let name = 'name' in which ? which.name : ''
    const resource = this.#image(name || `id ${'id' in which && which.id}`)
    if (snapshot !== null) resource.name += `@${snapshot}`
    const opening = open(
      resource,
      callOptions,
      token =>
        'name' in which
          ? native.imageOpen(this.handle, which.name, snapshot, readOnly, token)
          : native.imageOpenById(this.handle, which.id, snapshot, readOnly, token),
      async (handle, token) => {
        if (name === '') ({ name } = await native.imageStat(handle, token))
      },
    )
    const handle = await (snapshot === null
      ? opening
      : opening.catch(error => this.#whichIsMissing(which, snapshot, error, callOptions)))
    return new Image(this, handle, { name, snapshot, readOnly })
  }

  /** librbd does not say whether it was the image or the snapshot, or the snapshot's object map. */
  async #whichIsMissing(
    which: { name: string } | { id: string },
    snapshot: string,
    error: unknown,
    options: CallOptions,
  ): Promise<never> {
    if (!(error instanceof ImageNotFoundError)) throw error
    const image = await this.#open(which, { ...options, readOnly: true })
    let isListed: boolean
    try {
      isListed = (await image.listSnapshots(options)).some(({ name }) => name === snapshot)
    } finally {
      await closeAfter(image.handle, options)
    }
    const message = isListed ? 'it has no object map: its creation or removal was cut short, and it can be removed' : ''
    throw toCephError({ ...error, message }, { kind: 'snapshot', name: error.resource })
  }

  /**
   * Finishes a flatten whose process died at the very end. librbd removes the parent's snapshot, if it is in the trash, before
   * it takes the parent from the clone: in between, and for ever if it dies there, nobody can open the clone, whose data is all
   * there. So it is, too, where somebody else removed the snapshot by then. Opening it, and so `image.flatten()`, gives an
   * ImageNotFoundError.
   *
   * Resolves with true when the image is a clone no more, and can be opened. Resolves with false, and changes nothing, if there is nothing
   * to finish, or it is not certain that all is copied: the flatten was not begun by `image.flatten()`, or the whole pool
   * of the parent is gone. An abort ends the waiting only.
   *
   * @throws {ImageNotFoundError} there is no such image
   */
  async finishFlatten(name: string, options: CallOptions = {}): Promise<boolean> {
    checkName('name', name)
    checkOptions(options, [])
    const resource = this.#image(name)
    const [id] = await ask(this.handle, directoryObject, [getImageId(Buffer.from(name))], resource, options)
    return finishFlatten(this, id, resource, options)
  }

  /** The same by the image's id, also of one in the trash. @throws {ImageNotFoundError} there is no such image */
  async finishFlattenById(id: string, options: CallOptions = {}): Promise<boolean> {
    checkKey('id', id)
    checkOptions(options, [])
    return finishFlatten(this, id, this.#image(`id ${id}`), options)
  }

  /**
   * Removes an image and its data. Progress is in objects. Abort stops it at the next object: the image is then still
   * listed, and can no longer be opened by its name, but removed.
   *
   * @throws {ImageNotFoundError}
   * @throws {ImageHasSnapshotsError}
   * @throws {ImageBusyError} it is open somewhere
   *
   * @implements rbd_remove_with_progress
   */
  async removeImage(name: string, options: ProgressOptions = {}): Promise<void> {
    checkName('name', name)
    const remove = () =>
      call(this.#image(name), options, (token, onProgress) =>
        native.poolRemoveImage(this.handle, name, onProgress, token),
      )
    await withTrash(this, name, options, remove)
  }

  /**
   * Renames an image within the namespace. Abort ends the waiting only: it may be renamed all the same.
   *
   * @throws {ImageNotFoundError}
   * @throws {ImageExistsError} there is one of the new name
   * @throws {QuotaExceededError} the pool is at its quota, and `whenFull` is not `wait`
   * @throws {NoSpaceError} the pool's OSDs are full, and `whenFull` is not `wait`
   *
   * @implements rbd_rename
   */
  async renameImage(name: string, newName: string, options: CallOptions = {}): Promise<void> {
    checkName('name', name)
    checkName('newName', newName)
    await call(this.#image(name), options, token => native.poolRenameImage(this.handle, name, newName, token))
  }

  /**
   * Closes the pool, and first what was opened through it, each after its calls in flight. Safe to call again.
   *
   * @implements rados_ioctx_destroy
   */
  async close(): Promise<void> {
    await call(this.#resource, {}, () => native.close(this.handle))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
