/**
 * Ceph for Node.js, in process.
 *
 * @example
 * await using cluster = await Cluster.connect()
 * await using pool = await cluster.openPool('rbd')
 * await pool.createImage('disk', { size: 10 * GiB })
 */
export type { CallOptions, ProgressOptions } from './call.js'
export * from './errors.js'
export type {
  ClusterStat,
  Command,
  CommandOptions,
  ConnectOptions,
} from './rados/cluster.js'
export { Cluster } from './rados/cluster.js'
export type { ObjectLockOptions, ObjectStat, OmapPage } from './rados/object.js'
export { RadosObject } from './rados/object.js'
export type {
  CloneImageOptions,
  ImageListEntry,
  ObjectListEntry,
  OpenImageOptions,
  PoolImageStats,
  PoolStat,
} from './rados/pool.js'
export { Pool } from './rados/pool.js'
export type { Notification, NotifyResult } from './rados/watch.js'
export { Watch } from './rados/watch.js'
export type { Bytes, Comparison, OmapComparison, OmapEntries } from './rados/write-operation.js'
export { WriteOperation } from './rados/write-operation.js'
export type { ConfigOption, Qos, QosChange, QosLimit } from './rbd/config.js'
export { Config } from './rbd/config.js'
export type { Feature, ImageFlag, OperationFeature } from './rbd/features.js'
export type {
  CopyOptions,
  ImageParent,
  ImageStat,
  ImageWatcher,
  LinkedImage,
  ResizeOptions,
} from './rbd/image.js'
export { Image } from './rbd/image.js'
export type { Lockers, LockOwners } from './rbd/lock.js'
export { AdvisoryLock, ExclusiveLock } from './rbd/lock.js'
export { Metadata } from './rbd/metadata.js'
export type { CreateImageOptions, ImageLayout } from './rbd/options.js'
export type {
  CreateSnapshotOptions,
  RemoveSnapshotOptions,
  SnapshotInfo,
  SnapshotReference,
} from './rbd/snapshot.js'
export { Snapshot } from './rbd/snapshot.js'
export type { TrashEntry } from './rbd/trash.js'
export { Trash } from './rbd/trash.js'
export { GiB, KiB, MiB, TiB } from './units.js'
