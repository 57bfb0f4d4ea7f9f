/** The bindings of librbd. */
import type { Handle, NativeVersion, OnProgress, Token } from '../bindings.js'
import type { IoctxHandle, NativeLockers } from '../rados/bindings.js'
import type { ImageParent, ImageStat, ImageWatcher, LinkedImage } from './image-info.js'

export type ImageHandle = Handle<'image'>
export type ImageWatchHandle = Handle<'imageWatch'>
export type QuiesceWatchHandle = Handle<'quiesceWatch'>

export type NativeImageOptions = Partial<{
  features: number
  order: number
  stripeUnit: number
  stripeCount: number
  flatten: number
  cloneFormat: number
  dataPool: string
}>

export interface NativeConfigOption {
  name: string
  value: string
  source: 'config' | 'pool' | 'image'
}

export type QuiesceEvent = 'quiesce' | 'unquiesce'

export interface NativeTrashEntry {
  id: string
  name: string
  source: 'user' | 'mirroring' | 'migration' | 'removing' | 'user-parent' | 'unknown'
  deletedAt: Date
  deferredUntil: Date
}

/** Features and flags as librbd's bits. */
export interface NativeImageStat extends Omit<ImageStat, 'features' | 'operationFeatures' | 'flags'> {
  features: number
  operationFeatures: number
  flags: number
}

export interface NativeSnapshot {
  id: number
  name: string
  size: number
  createdAt: Date
  namespace: 'user' | 'group' | 'trash' | 'mirror' | 'unknown'
  originalName?: string
  protected: boolean
}

export interface RbdBindings {
  rbdVersion(): NativeVersion
  poolInitialize(ioctx: IoctxHandle, force: boolean, token?: Token): Promise<void>
  poolStats(ioctx: IoctxHandle, token?: Token): Promise<Record<string, number>>
  poolListImages(ioctx: IoctxHandle, token?: Token): Promise<{ id: string; name: string }[]>
  poolCreateImage(
    ioctx: IoctxHandle,
    name: string,
    size: number,
    options: NativeImageOptions,
    token?: Token,
  ): Promise<void>
  poolCloneImage(
    parentIoctx: IoctxHandle,
    parent: string,
    snapshot: string,
    ioctx: IoctxHandle,
    name: string,
    options: NativeImageOptions,
    token?: Token,
  ): Promise<void>
  poolRemoveImage(ioctx: IoctxHandle, name: string, onProgress: OnProgress | null, token?: Token): Promise<void>
  poolRenameImage(ioctx: IoctxHandle, name: string, newName: string, token?: Token): Promise<void>
  poolCreateNamespace(ioctx: IoctxHandle, name: string, token?: Token): Promise<void>
  poolRemoveNamespace(ioctx: IoctxHandle, name: string, token?: Token): Promise<void>
  poolListNamespaces(ioctx: IoctxHandle, token?: Token): Promise<string[]>
  poolNamespaceExists(ioctx: IoctxHandle, name: string, token?: Token): Promise<boolean>
  poolGetMetadata(ioctx: IoctxHandle, key: string, token?: Token): Promise<string>
  poolSetMetadata(ioctx: IoctxHandle, key: string, value: string, token?: Token): Promise<void>
  poolRemoveMetadata(ioctx: IoctxHandle, key: string, token?: Token): Promise<void>
  poolListMetadata(ioctx: IoctxHandle, after: string, limit: number, token?: Token): Promise<[string, string][]>
  poolListConfig(ioctx: IoctxHandle, token?: Token): Promise<NativeConfigOption[]>

  trashMove(ioctx: IoctxHandle, name: string, delaySeconds: number, token?: Token): Promise<void>
  trashGet(ioctx: IoctxHandle, id: string, token?: Token): Promise<NativeTrashEntry>
  trashList(ioctx: IoctxHandle, token?: Token): Promise<NativeTrashEntry[]>
  trashRestore(ioctx: IoctxHandle, id: string, name: string, token?: Token): Promise<void>
  trashRemove(
    ioctx: IoctxHandle,
    id: string,
    force: boolean,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  trashPurge(
    ioctx: IoctxHandle,
    expiredBeforeSeconds: number,
    thresholdPercent: number,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>

  imageOpen(
    ioctx: IoctxHandle,
    name: string,
    snapshot: string | null,
    readOnly: boolean,
    token?: Token,
  ): Promise<ImageHandle>
  imageOpenById(
    ioctx: IoctxHandle,
    id: string,
    snapshot: string | null,
    readOnly: boolean,
    token?: Token,
  ): Promise<ImageHandle>
  imageSize(image: ImageHandle, token?: Token): Promise<number>
  imageStat(image: ImageHandle, token?: Token): Promise<NativeImageStat>
  imageParent(image: ImageHandle, token?: Token): Promise<ImageParent | null>
  imageChildren(image: ImageHandle, token?: Token): Promise<LinkedImage[]>
  imageDescendants(image: ImageHandle, token?: Token): Promise<LinkedImage[]>
  imageGroup(image: ImageHandle, token?: Token): Promise<{ name: string; poolId: number } | null>
  imageUsedBytes(
    image: ImageHandle,
    fromSnapshot: string | null,
    offset: number,
    length: number,
    includeParent: boolean,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<number>
  /** Extents as three doubles each: offset, length, and whether there is data. */
  imageDiff(
    image: ImageHandle,
    fromSnapshot: string | null,
    offset: number,
    length: number,
    includeParent: boolean,
    wholeObject: boolean,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<Buffer>
  /** The stretches of a file that are no holes, at most `limit` of them, as extents. Moves the file's position. */
  fileData(fd: number, offset: number, limit: number, token?: Token): Promise<Buffer>
  imageResize(
    image: ImageHandle,
    size: number,
    allowShrink: boolean,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  imageUpdateFeatures(image: ImageHandle, features: number, enabled: boolean, token?: Token): Promise<void>
  imageFlatten(image: ImageHandle, onProgress: OnProgress | null, token?: Token): Promise<void>
  imageSparsify(image: ImageHandle, sparseSize: number, onProgress: OnProgress | null, token?: Token): Promise<void>
  imageRebuildObjectMap(image: ImageHandle, onProgress: OnProgress | null, token?: Token): Promise<void>
  imageCopy(
    image: ImageHandle,
    ioctx: IoctxHandle,
    name: string,
    options: NativeImageOptions,
    sparseSize: number,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  imageDeepCopy(
    image: ImageHandle,
    ioctx: IoctxHandle,
    name: string,
    options: NativeImageOptions,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  imageGetMetadata(image: ImageHandle, key: string, token?: Token): Promise<string>
  imageSetMetadata(image: ImageHandle, key: string, value: string, token?: Token): Promise<void>
  imageRemoveMetadata(image: ImageHandle, key: string, token?: Token): Promise<void>
  imageListMetadata(image: ImageHandle, after: string, limit: number, token?: Token): Promise<[string, string][]>
  imageListConfig(image: ImageHandle, token?: Token): Promise<NativeConfigOption[]>
  imageWatchers(image: ImageHandle, token?: Token): Promise<ImageWatcher[]>

  imageForgetSize(image: ImageHandle): void
  /** In these, `end` is where the range ends: its offset and its length together. */
  imageRead(
    image: ImageHandle,
    end: number,
    offset: number,
    buffer: NodeJS.ArrayBufferView,
    flags: number,
    token?: Token,
  ): Promise<number>
  imageReadv(
    image: ImageHandle,
    end: number,
    offset: number,
    buffers: readonly NodeJS.ArrayBufferView[],
    token?: Token,
  ): Promise<number>
  imageWrite(
    image: ImageHandle,
    end: number,
    offset: number,
    data: NodeJS.ArrayBufferView,
    flags: number,
    token?: Token,
  ): Promise<void>
  imageWritev(
    image: ImageHandle,
    end: number,
    offset: number,
    data: readonly NodeJS.ArrayBufferView[],
    token?: Token,
  ): Promise<void>
  imageWriteZeroes(
    image: ImageHandle,
    end: number,
    offset: number,
    length: number,
    zeroFlags: number,
    flags: number,
    token?: Token,
  ): Promise<void>
  imageWriteSame(
    image: ImageHandle,
    end: number,
    offset: number,
    length: number,
    data: NodeJS.ArrayBufferView,
    flags: number,
    token?: Token,
  ): Promise<void>
  /** Answers at which offset of the image there was something else, or null when it was written. */
  imageCompareAndWrite(
    image: ImageHandle,
    end: number,
    offset: number,
    expected: NodeJS.ArrayBufferView,
    data: NodeJS.ArrayBufferView,
    flags: number,
    token?: Token,
  ): Promise<number | null>
  imageDiscard(image: ImageHandle, end: number, offset: number, length: number, token?: Token): Promise<void>
  imageFlush(image: ImageHandle, token?: Token): Promise<void>
  imageInvalidateCache(image: ImageHandle, token?: Token): Promise<void>

  imageLockIsOwner(image: ImageHandle, token?: Token): Promise<boolean>
  imageLockAcquire(image: ImageHandle, token?: Token): Promise<void>
  imageLockRelease(image: ImageHandle, token?: Token): Promise<void>
  imageLockOwners(image: ImageHandle, token?: Token): Promise<{ mode: 'exclusive' | 'shared'; owners: string[] }>
  imageLockBreak(image: ImageHandle, owner: string, token?: Token): Promise<void>
  imageAdvisoryLockList(image: ImageHandle, token?: Token): Promise<NativeLockers>
  imageAdvisoryLockExclusive(image: ImageHandle, cookie: string, token?: Token): Promise<void>
  imageAdvisoryLockShared(image: ImageHandle, cookie: string, tag: string, token?: Token): Promise<void>
  imageAdvisoryUnlock(image: ImageHandle, cookie: string, token?: Token): Promise<void>
  imageAdvisoryBreakLock(image: ImageHandle, client: string, cookie: string, token?: Token): Promise<void>

  imageFormatEncryption(
    image: ImageHandle,
    luks2: boolean,
    aes256: boolean,
    passphrase: Uint8Array,
    token?: Token,
  ): Promise<void>
  imageLoadEncryption(image: ImageHandle, luks2: boolean, passphrase: Uint8Array, token?: Token): Promise<void>
  imageWatchStart(image: ImageHandle, listener: () => void, token?: Token): Promise<ImageWatchHandle>
  quiesceWatchStart(
    image: ImageHandle,
    imageId: string,
    listener: (event: QuiesceEvent) => void,
    token?: Token,
  ): Promise<QuiesceWatchHandle>
  /** False when nobody waits for it any more. */
  quiesceWatchAnswer(watch: QuiesceWatchHandle, quiesced: boolean): boolean

  snapshotList(image: ImageHandle, readOnly: boolean, token?: Token): Promise<NativeSnapshot[]>
  snapshotCreate(
    image: ImageHandle,
    name: string,
    flags: number,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  snapshotRemove(image: ImageHandle, name: string, unprotect: boolean, token?: Token): Promise<void>
  snapshotRemoveById(image: ImageHandle, id: number, token?: Token): Promise<void>
  snapshotRename(image: ImageHandle, name: string, newName: string, token?: Token): Promise<void>
  snapshotProtect(image: ImageHandle, name: string, token?: Token): Promise<void>
  snapshotUnprotect(image: ImageHandle, name: string, token?: Token): Promise<void>
  snapshotRollback(image: ImageHandle, name: string, onProgress: OnProgress | null, token?: Token): Promise<void>
  snapshotExists(image: ImageHandle, name: string, token?: Token): Promise<boolean>
  snapshotId(image: ImageHandle, name: string, token?: Token): Promise<number>
  /** With the image's id. */
  snapshotAsParent(
    image: ImageHandle,
    name: string,
    token?: Token,
  ): Promise<{ id: string; features: number; protected: boolean }>
  snapshotGetLimit(image: ImageHandle, token?: Token): Promise<number | null>
  snapshotSetLimit(image: ImageHandle, limit: number, token?: Token): Promise<void>
  snapshotClearLimit(image: ImageHandle, token?: Token): Promise<void>
}
