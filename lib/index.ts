/**
 * Ceph for Node.js, in process.
 *
 * @example
 * await using cluster = await Cluster.connect()
 * await using pool = await cluster.openPool('rbd')
 * await pool.createImage('disk', { size: 10 * GiB })
 */

export type { OnProgress, WorkerLoad } from './bindings.js'
export type { CallOptions, CallReport, ProgressOptions } from './call.js'
export { workerLoad } from './call.js'
export type { DirectoryEntryType, MountClient } from './cephfs/bindings.js'
export type { DirectoryEntry, NameOptions } from './cephfs/directory.js'
export { Directory } from './cephfs/directory.js'
export type { OpenFlags, ReadOptions } from './cephfs/file.js'
export { File } from './cephfs/file.js'
export type { MountOptions } from './cephfs/file-system.js'
export { FileSystem } from './cephfs/file-system.js'
export type { MountedPathOptions, MountState } from './cephfs/mounted-path.js'
export { MountedPath } from './cephfs/mounted-path.js'
export type {
  DirectoryOwnership,
  EnsuredDirectory,
  WantedDirectory,
} from './cephfs/open-directory.js'
export { OpenDirectory } from './cephfs/open-directory.js'
export type { FilePath } from './cephfs/path.js'
export type { DirectoryUsage, EffectiveQuota, Quota, QuotaChange } from './cephfs/quota.js'
export type { KeptEntry, RemovedTree, RemoveTreeOptions } from './cephfs/removal.js'
export type { CreateFileSnapshotOptions, FileSnapshot } from './cephfs/snapshot.js'
export type { FileStat } from './cephfs/stat.js'
export type { DirectoryReport } from './cephfs/survey.js'
export type { FileSystemStat, MkdirOptions, OpenOptions, RmOptions } from './cephfs/tree.js'
export type { SetXattrOptions } from './cephfs/xattr.js'
export {
  AbortError,
  BlocklistedError,
  BusyError,
  CephError,
  ClosedError,
  ConflictError,
  DirectoryNotEmptyError,
  ExistsError,
  FileExistsError,
  FileNotFoundError,
  ImageBusyError,
  ImageDeferredError,
  ImageExistsError,
  ImageHasSnapshotsError,
  ImageNotFoundError,
  IncompleteSnapshotError,
  InvalidArgumentError,
  IOError,
  IsDirectoryError,
  LockBusyError,
  MismatchError,
  MissingLibraryError,
  NoSpaceError,
  NotConnectedError,
  NotDirectoryError,
  NotEncryptedError,
  NotFoundError,
  NotMountedError,
  NotSupportedError,
  ObjectExistsError,
  ObjectNotFoundError,
  PermissionError,
  PoolExistsError,
  PoolNotFoundError,
  QuiesceError,
  QuotaExceededError,
  ReadOnlyFileSystemError,
  ReadOnlyImageError,
  ShrinkNotAllowedError,
  SnapshotBusyError,
  SnapshotExistsError,
  SnapshotNotFoundError,
  SymbolicLinkError,
  TimeoutError,
  WrongPassphraseError,
  XattrNotFoundError,
} from './errors.js'
export type {
  ClusterStat,
  Command,
  CommandOptions,
  ConnectOptions,
  OpenPoolOptions,
} from './rados/cluster.js'
export { Cluster } from './rados/cluster.js'
export type { Lockers, ObjectLockOptions, ObjectStat, OmapPage } from './rados/object.js'
export { RadosObject } from './rados/object.js'
export type {
  CloneImageOptions,
  ImageListEntry,
  ObjectListEntry,
  OpenImageOptions,
  PoolImageStats,
  PoolStat,
  WhenFull,
} from './rados/pool.js'
export { Pool } from './rados/pool.js'
export type { Notification, NotifyResult, WatchListener } from './rados/watch.js'
export { Watch } from './rados/watch.js'
export type { Bytes, Comparison, OmapComparison, OmapEntries } from './rados/write-operation.js'
export { WriteOperation } from './rados/write-operation.js'
export type { ConfigOption, Qos, QosChange, QosLimit } from './rbd/config.js'
export { Config } from './rbd/config.js'
export type { CopyOptions, DeepCopyOptions } from './rbd/copy.js'
export type { DiffOptions } from './rbd/diff.js'
export type { ExportDiffOptions } from './rbd/diff-format.js'
export { DiffFormatError } from './rbd/diff-format.js'
export type { FormatEncryptionOptions, LoadEncryptionOptions } from './rbd/encryption.js'
export type { Extent } from './rbd/extents.js'
export type { Feature, ImageFlag, OperationFeature } from './rbd/features.js'
export { Image } from './rbd/image.js'
export type { ImageParent, ImageStat, ImageWatcher, LinkedImage } from './rbd/image-info.js'
export type { ImageWatchListener } from './rbd/image-watch.js'
export { ImageWatch } from './rbd/image-watch.js'
export type { Fadvise, IoOptions, WriteZeroesOptions } from './rbd/io.js'
export type { ImageDetails } from './rbd/listing.js'
export type { LockOwners } from './rbd/lock.js'
export { AdvisoryLock, ExclusiveLock } from './rbd/lock.js'
export { Metadata } from './rbd/metadata.js'
export type { CreateImageOptions, ImageLayout } from './rbd/options.js'
export type { QuiesceHooks, WatchQuiesceOptions } from './rbd/quiesce.js'
export { QuiesceWatch } from './rbd/quiesce.js'
export type { ResizeOptions } from './rbd/resize.js'
export type {
  CreateSnapshotOptions,
  RemoveSnapshotOptions,
  SnapshotInfo,
  SnapshotReference,
} from './rbd/snapshot.js'
export { Snapshot } from './rbd/snapshot.js'
export type { ReadStreamOptions, WriteStreamOptions } from './rbd/streams.js'
export type { UnreadableImage } from './rbd/survey.js'
export type { ImportImageOptions, TransferOptions } from './rbd/transfer.js'
export type { TrashEntry } from './rbd/trash.js'
export { Trash } from './rbd/trash.js'
export type { ImageUsage, SnapshotUsage } from './rbd/usage.js'
export type { UsedBytesOptions } from './rbd/used-bytes.js'
export { GiB, KiB, MiB, TiB } from './units.js'
