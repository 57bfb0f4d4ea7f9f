/**
 * The addon: every native function declared once. Only the files of this folder call them.
 *
 * Calls that answer a promise take one argument more than declared here, an abort token. They check their arguments,
 * but in the words of a maintainer: the callers in this folder have checked before, in the words of a user.
 *
 * Sizes and offsets are bytes; `null` stands for "absent".
 */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

declare const kind: unique symbol
interface Handle<Kind extends string> {
  readonly [kind]: Kind
}
export type ClusterHandle = Handle<'cluster'>
export type IoctxHandle = Handle<'ioctx'>
export type ObjectListHandle = Handle<'objectList'>
export type WatchHandle = Handle<'watch'>
export type ImageHandle = Handle<'image'>
export type ImageWatchHandle = Handle<'imageWatch'>
export type QuiesceWatchHandle = Handle<'quiesceWatch'>
export type FileSystemHandle = Handle<'fileSystem'>
export type FileHandle = Handle<'file'>
export type OpenDirectoryHandle = Handle<'openDirectory'>
export type DirectoryHandle = Handle<'directory'>
export type RemovalHandle = Handle<'removal'>
export type AnyHandle =
  | ClusterHandle
  | IoctxHandle
  | ObjectListHandle
  | WatchHandle
  | ImageHandle
  | ImageWatchHandle
  | QuiesceWatchHandle
  | FileSystemHandle
  | FileHandle
  | OpenDirectoryHandle
  | DirectoryHandle
  | RemovalHandle
export type AbortToken = Handle<'abortToken'>

export type OnProgress = (done: number, total: number) => void

export interface NativeVersion {
  major: number
  minor: number
  extra: number
}

export interface NativeLinkedImage {
  poolId: number
  pool?: string
  namespace: string
  id: string
  name: string
  inTrash: boolean
}

export interface NativeLockers {
  exclusive: boolean
  tag: string
  lockers: { client: string; cookie: string; address: string }[]
}

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

export type NativeWriteStep =
  | ['create', boolean]
  | ['assertExists']
  | ['assertVersion', number]
  | ['compareXattr' | 'compareOmap', string, string, Uint8Array]
  | ['write', Uint8Array, number]
  | ['writeFull' | 'append', Uint8Array]
  | ['truncate', number]
  | ['zero', number, number]
  | ['remove']
  | ['setXattr', string, Uint8Array]
  | ['removeXattr', string]
  | ['setOmap', [string, Uint8Array][]]
  | ['removeOmap', string[]]
  | ['clearOmap']
  | ['exec', string, string, Uint8Array]

export type NativeReadStep =
  | ['read', number, number]
  | ['stat']
  | ['getXattrs']
  | ['getOmap', string, string, number]
  | ['getOmapByKeys', string[]]
  | ['exec', string, string, Uint8Array]
  | ['assertVersion', number]

export interface NativeOmapPage {
  entries: [string, Buffer][]
  more: boolean
}

export type NativeWatchEvent = { notifyId: bigint; notifier: bigint; payload: Buffer } | { errno: number }

export type QuiesceEvent = 'quiesce' | 'unquiesce'

/** Of the threads that do what Ceph has only blocking calls for, in this thread of JavaScript. */
export interface WorkerLoad {
  threads: number
  /** Threads that are in a call. */
  busy: number
  /** Calls that wait for a thread. */
  queued: number
}

interface CommandResult {
  output: Buffer
  status: string
}

type Token = AbortToken | undefined

export interface Native {
  /**
   * Closes all that is open, and waits for it; but not for ever when the process exits, which it does with that status.
   * Nothing can be called after it.
   */
  end(exitStatus: number | null): void
  close(handle: AnyHandle): Promise<void>
  isOpen(handle: AnyHandle): boolean
  workerLoad(): WorkerLoad
  newAbortToken(): AbortToken
  abort(token: AbortToken): void

  radosVersion(): NativeVersion
  clusterCreate(clusterName: string, name: string, token?: Token): Promise<ClusterHandle>
  clusterReadConfigFile(cluster: ClusterHandle, path: string | null, token?: Token): Promise<void>
  clusterSetOption(cluster: ClusterHandle, option: string, value: string, token?: Token): Promise<void>
  clusterGetOption(cluster: ClusterHandle, option: string, token?: Token): Promise<string>
  clusterConnect(cluster: ClusterHandle, token?: Token): Promise<void>
  clusterStat(
    cluster: ClusterHandle,
    token?: Token,
  ): Promise<{ totalBytes: number; usedBytes: number; availableBytes: number; objects: number }>
  clusterFsid(cluster: ClusterHandle, token?: Token): Promise<string>
  clusterInstanceId(cluster: ClusterHandle, token?: Token): Promise<bigint>
  clusterAddresses(cluster: ClusterHandle, token?: Token): Promise<string>
  clusterMinCompatibleClient(cluster: ClusterHandle, token?: Token): Promise<number>
  clusterListPools(cluster: ClusterHandle, token?: Token): Promise<string[]>
  clusterLookUpPool(cluster: ClusterHandle, name: string, token?: Token): Promise<number>
  clusterReverseLookUpPool(cluster: ClusterHandle, id: number, token?: Token): Promise<string>
  clusterCreatePool(cluster: ClusterHandle, name: string, token?: Token): Promise<void>
  clusterDeletePool(cluster: ClusterHandle, name: string, token?: Token): Promise<void>
  clusterWaitForLatestOsdmap(cluster: ClusterHandle, token?: Token): Promise<void>
  clusterBlocklistAdd(cluster: ClusterHandle, address: string, expireSeconds: number, token?: Token): Promise<void>
  clusterMonCommand(cluster: ClusterHandle, command: string, input: Uint8Array, token?: Token): Promise<CommandResult>
  clusterMgrCommand(cluster: ClusterHandle, command: string, input: Uint8Array, token?: Token): Promise<CommandResult>
  clusterOsdCommand(
    cluster: ClusterHandle,
    id: number,
    command: string,
    input: Uint8Array,
    token?: Token,
  ): Promise<CommandResult>
  clusterPgCommand(
    cluster: ClusterHandle,
    pg: string,
    command: string,
    input: Uint8Array,
    token?: Token,
  ): Promise<CommandResult>

  ioctxOpen(
    cluster: ClusterHandle,
    pool: string,
    namespace: string,
    fullTry: boolean,
    token?: Token,
  ): Promise<IoctxHandle>
  ioctxOpenById(
    cluster: ClusterHandle,
    id: number,
    namespace: string,
    fullTry: boolean,
    token?: Token,
  ): Promise<IoctxHandle>
  ioctxId(ioctx: IoctxHandle, token?: Token): Promise<number>
  ioctxStat(ioctx: IoctxHandle, token?: Token): Promise<Record<string, number>>
  ioctxEnableApplication(ioctx: IoctxHandle, application: string, force: boolean, token?: Token): Promise<void>
  ioctxListApplications(ioctx: IoctxHandle, token?: Token): Promise<string[]>
  ioctxListObjects(ioctx: IoctxHandle, token?: Token): Promise<ObjectListHandle>
  objectListNext(
    list: ObjectListHandle,
    limit: number,
    token?: Token,
  ): Promise<{ name: string; namespace: string; locator: string }[]>

  objectWrite(
    ioctx: IoctxHandle,
    object: string,
    steps: NativeWriteStep[],
    fullForce: boolean,
    token?: Token,
  ): Promise<{ version: number }>
  objectRead(
    ioctx: IoctxHandle,
    object: string,
    steps: NativeReadStep[],
    token?: Token,
  ): Promise<{ version: number; results: unknown[] }>
  objectLockExclusive(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    cookie: string,
    description: string,
    durationMs: number,
    flags: number,
    token?: Token,
  ): Promise<void>
  objectLockShared(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    cookie: string,
    tag: string,
    description: string,
    durationMs: number,
    flags: number,
    token?: Token,
  ): Promise<void>
  objectUnlock(ioctx: IoctxHandle, object: string, name: string, cookie: string, token?: Token): Promise<void>
  objectBreakLock(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    client: string,
    cookie: string,
    token?: Token,
  ): Promise<void>
  objectListLockers(ioctx: IoctxHandle, object: string, name: string, token?: Token): Promise<NativeLockers>
  objectNotify(
    ioctx: IoctxHandle,
    object: string,
    payload: Uint8Array,
    timeoutMs: number,
    token?: Token,
  ): Promise<{
    acks: { client: bigint; cookie: bigint; payload: Buffer }[]
    timeouts: { client: bigint; cookie: bigint }[]
  }>
  watchStart(
    ioctx: IoctxHandle,
    object: string,
    timeoutSeconds: number,
    listener: (event: NativeWatchEvent) => void,
    token?: Token,
  ): Promise<WatchHandle>
  watchAcknowledge(watch: WatchHandle, notifyId: bigint, reply: Uint8Array, token?: Token): Promise<void>

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
  imageParent(
    image: ImageHandle,
    token?: Token,
  ): Promise<(NativeLinkedImage & { snapshot: { id: number; name: string } }) | null>
  imageChildren(image: ImageHandle, token?: Token): Promise<NativeLinkedImage[]>
  imageDescendants(image: ImageHandle, token?: Token): Promise<NativeLinkedImage[]>
  imageGroup(image: ImageHandle, token?: Token): Promise<{ name: string; poolId: number } | null>
  imageUsedBytes(
    image: ImageHandle,
    fromSnapshot: string | null,
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
  imageWatchers(image: ImageHandle, token?: Token): Promise<{ address: string; client: number; cookie: bigint }[]>

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
  snapshotRemove(
    image: ImageHandle,
    name: string,
    flags: number,
    onProgress: OnProgress | null,
    token?: Token,
  ): Promise<void>
  snapshotRemoveById(image: ImageHandle, id: number, token?: Token): Promise<void>
  snapshotRename(image: ImageHandle, name: string, newName: string, token?: Token): Promise<void>
  snapshotProtect(image: ImageHandle, name: string, token?: Token): Promise<void>
  snapshotUnprotect(image: ImageHandle, name: string, token?: Token): Promise<void>
  snapshotRollback(image: ImageHandle, name: string, onProgress: OnProgress | null, token?: Token): Promise<void>
  snapshotExists(image: ImageHandle, name: string, token?: Token): Promise<boolean>
  snapshotAsParent(image: ImageHandle, name: string, token?: Token): Promise<{ features: number; protected: boolean }>
  snapshotGetLimit(image: ImageHandle, token?: Token): Promise<number | null>
  snapshotSetLimit(image: ImageHandle, limit: number, token?: Token): Promise<void>
  snapshotClearLimit(image: ImageHandle, token?: Token): Promise<void>

  /** A uid or gid of -1 is the process's own. */
  fileSystemMount(
    cluster: ClusterHandle,
    name: string | null,
    root: NativePath,
    uid: number,
    gid: number,
    token?: Token,
  ): Promise<FileSystemHandle>
  fileSystemStat(mount: FileSystemHandle, path: NativePath, follow: boolean, token?: Token): Promise<NativeFileStat>
  fileSystemStatfs(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<NativeStatfs>
  fileSystemMkdir(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemMkdirs(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemRmdir(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<void>
  fileSystemUnlink(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<void>
  fileSystemRename(mount: FileSystemHandle, path: NativePath, newPath: NativePath, token?: Token): Promise<void>
  fileSystemLink(mount: FileSystemHandle, existing: NativePath, path: NativePath, token?: Token): Promise<void>
  fileSystemSymlink(mount: FileSystemHandle, target: NativePath, path: NativePath, token?: Token): Promise<void>
  fileSystemReadlink(
    mount: FileSystemHandle,
    path: NativePath,
    asBuffer: boolean,
    token?: Token,
  ): Promise<string | Buffer>
  fileSystemChmod(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemChown(
    mount: FileSystemHandle,
    path: NativePath,
    uid: number,
    gid: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  /** Times are in microseconds since 1970. */
  fileSystemUtimes(
    mount: FileSystemHandle,
    path: NativePath,
    atime: number,
    mtime: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  fileSystemTruncate(mount: FileSystemHandle, path: NativePath, size: number, token?: Token): Promise<void>
  fileSystemSync(mount: FileSystemHandle, token?: Token): Promise<void>
  fileSystemGetXattr(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    follow: boolean,
    token?: Token,
  ): Promise<Buffer>
  fileSystemGetXattrs(
    mount: FileSystemHandle,
    path: NativePath,
    names: readonly string[],
    follow: boolean,
    token?: Token,
  ): Promise<(Buffer | null)[]>
  /** For each name in the directory, the same as `fileSystemGetXattrs` without follow; null where there is no directory. */
  fileSystemSurvey(
    mount: FileSystemHandle,
    path: NativePath,
    names: readonly Uint8Array[],
    xattrs: readonly string[],
    token?: Token,
  ): Promise<((Buffer | null)[] | null)[]>
  fileSystemListXattrs(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<string[]>
  fileSystemSetXattr(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    value: Uint8Array,
    flags: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  fileSystemRemoveXattr(mount: FileSystemHandle, path: NativePath, name: string, token?: Token): Promise<void>
  fileSystemCreateSnapshot(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    mode: number,
    metadata: Record<string, string>,
    token?: Token,
  ): Promise<void>
  fileSystemRemoveSnapshot(mount: FileSystemHandle, path: NativePath, name: string, token?: Token): Promise<void>
  fileSystemListSnapshots(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<NativeFileSnapshot[]>

  fileOpen(mount: FileSystemHandle, path: NativePath, flags: number, mode: number, token?: Token): Promise<FileHandle>
  /** A position of -1 is the file's own, which goes on with each. */
  fileRead(file: FileHandle, length: number, position: number, token?: Token): Promise<Buffer>
  fileWrite(file: FileHandle, data: Uint8Array, position: number, token?: Token): Promise<number>
  fileSync(file: FileHandle, dataOnly: boolean, token?: Token): Promise<void>
  fileStat(file: FileHandle, token?: Token): Promise<NativeFileStat>
  fileTruncate(file: FileHandle, size: number, token?: Token): Promise<void>

  /**
   * Of a CephFS that the kernel or ceph-fuse has mounted. Neither the event loop nor the end of the process waits for these,
   * as they may hang.
   */
  mountedCheck(mount: NativePath, token?: Token): Promise<MountClient>
  /** Null for those that are not there. */
  mountedGetXattrs(
    mount: NativePath,
    path: NativePath,
    names: readonly string[],
    follow: boolean,
    token?: Token,
  ): Promise<(Buffer | null)[]>
  mountedSetXattr(mount: NativePath, path: NativePath, name: string, value: Uint8Array, token?: Token): Promise<void>
  /** Answers how many microseconds it took. */
  mountedProbe(mount: NativePath, name: string, content: Uint8Array, token?: Token): Promise<number>

  /** Holds a directory, found by one name after the other; no symbolic link is followed. */
  directoryHold(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<OpenDirectoryHandle>
  directoryStat(directory: OpenDirectoryHandle, token?: Token): Promise<NativeFileStat>
  /** Null for those that are not there. */
  directoryGetXattrs(
    directory: OpenDirectoryHandle,
    names: readonly string[],
    token?: Token,
  ): Promise<(Buffer | null)[]>
  directorySetXattr(
    directory: OpenDirectoryHandle,
    name: string,
    value: Uint8Array,
    flags: number,
    token?: Token,
  ): Promise<void>
  /** What has been changed has `was`. */
  directoryEnsure(
    directory: OpenDirectoryHandle,
    directories: readonly { path: string; uid: number; gid: number; mode: number }[],
    token?: Token,
  ): Promise<{ made: boolean; was?: { uid: number; gid: number; mode: number } }[]>

  directoryOpen(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<DirectoryHandle>
  /** Fewer than the limit at the end only. */
  directoryRead(
    directory: DirectoryHandle,
    limit: number,
    asBuffers: boolean,
    token?: Token,
  ): Promise<NativeDirectoryEntry[]>

  removalBegin(mount: FileSystemHandle, path: NativePath, snapshots: boolean, token?: Token): Promise<RemovalHandle>
  /** Until it is done, or for so long. */
  removalGo(
    removal: RemovalHandle,
    milliseconds: number,
    token?: Token,
  ): Promise<{ done: boolean; removed: number; kept: NativeKeptEntry[] }>
}

export interface NativeKeptEntry {
  path: Buffer
  /** Negative. */
  errno: number
  syscall: string
  snapshots: Buffer[]
}

/** What has mounted a CephFS. */
export type MountClient = 'kernel' | 'ceph-fuse'

/** Bytes where it is no UTF-8. */
export type NativePath = string | Uint8Array

export interface NativeFileStat {
  ino: bigint
  mode: number
  nlink: number
  uid: number
  gid: number
  size: number
  blksize: number
  blocks: number
  atime: Date
  mtime: Date
  ctime: Date
  birthtime: Date
}

export interface NativeStatfs {
  bsize: number
  blocks: number
  bfree: number
  bavail: number
  files: number
  namelen: number
}

export interface NativeFileSnapshot {
  name: string
  id: number
  metadata: Record<string, string>
  /** Seconds since 1970, with a fraction. */
  createdAt?: string
}

export interface NativeDirectoryEntry {
  name: string | Buffer
  type: DirectoryEntryType
}

export type DirectoryEntryType =
  | 'file'
  | 'directory'
  | 'symbolicLink'
  | 'fifo'
  | 'socket'
  | 'characterDevice'
  | 'blockDevice'
  | 'unknown'

export interface NativeTrashEntry {
  id: string
  name: string
  source: 'user' | 'mirroring' | 'migration' | 'removing' | 'user-parent' | 'unknown'
  deletedAt: Date
  deferredUntil: Date
}

export interface NativeImageStat {
  name: string
  id: string
  size: number
  objectSize: number
  objects: number
  order: number
  blockNamePrefix: string
  format: 1 | 2
  features: number
  operationFeatures: number
  flags: number
  stripeUnit: number
  stripeCount: number
  overlap: number
  dataPoolId?: number
  createdAt: Date
  accessedAt: Date
  modifiedAt: Date
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

/** Which Debian package has the library that the loader did not find. */
const packages: Record<string, string> = { 'librados.so.2': 'librados2', 'librbd.so.1': 'librbd1' }

function load(): Native {
  const require = createRequire(import.meta.url)
  const packageRoot = fileURLToPath(new URL('../..', import.meta.url))
  try {
    return require('node-gyp-build')(packageRoot)
  } catch (error) {
    const message = String((error as Error).message)
    const library = /(lib\w+\.so\.\d+): cannot open shared object file/.exec(message)?.[1]
    const advice = library
      ? `${library} is missing. Install it (Debian: apt-get install ${packages[library] ?? library}).`
      : /No native build was found/.test(message)
        ? 'the addon is not built. Install librbd-dev, librados-dev, libcephfs-dev, make and g++, and run npm rebuild cephkit.'
        : message
    throw new Error(`cephkit cannot load its native part: ${advice}`, { cause: error })
  }
}

export const native: Native = load()

let lastCalled: string | undefined

/**
 * Does what is given, and says which function of the addon it called last before it returned; '' is none. From the first
 * time on, every call of the addon costs a little more: so this is for who wants to know.
 */
export function nameOf<T>(work: () => T): { answer: T; name: string } {
  if (lastCalled === undefined) Object.assign(native, Object.fromEntries(Object.entries(native).map(noting)))
  lastCalled = ''
  const answer = work()
  return { answer, name: lastCalled }
}

function noting([name, work]: [string, (...given: unknown[]) => unknown]) {
  const noted = (...given: unknown[]) => {
    lastCalled = name
    return work(...given)
  }
  return [name, noted] as const
}

// process.exit() runs no cleanup hooks, and exit(3) would take librados apart under the feet of its threads.
process.once('exit', code => native.end(isMainThread ? Number(code) : null))
