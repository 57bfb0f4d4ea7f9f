/** What is told of an image. */
import type { Feature, ImageFlag, OperationFeature } from './features.js'

export interface ImageStat {
  /** As when the image was opened. */
  name: string
  /** Stays the same when the image is renamed. */
  id: string
  /** In bytes. */
  size: number
  /** The size of the objects that hold the data, in bytes. */
  objectSize: number
  /** How many objects the image would take if it were full. */
  objects: number
  /** log2 of the object size. */
  order: number
  blockNamePrefix: string
  format: 1 | 2
  features: Feature[]
  operationFeatures: OperationFeature[]
  flags: ImageFlag[]
  /** In bytes. */
  stripeUnit: number
  stripeCount: number
  /** How much of the parent a clone still shows, in bytes. */
  overlap: number
  /** The id of the pool that holds the data, where it is not the image's own. */
  dataPoolId?: number
  createdAt: Date
  /** Exact to `rbd_atime_update_interval`, 60 s by default. */
  accessedAt: Date
  /** Exact to `rbd_mtime_update_interval`, 60 s by default. */
  modifiedAt: Date
}

/** An image as another one's parent, child or descendant. */
export interface LinkedImage {
  poolId: number
  /** Absent when the pool is gone. */
  pool?: string
  namespace: string
  id: string
  name: string
  inTrash: boolean
}

export interface ImageParent extends LinkedImage {
  snapshot: { id: number; name: string }
}

export interface ImageWatcher {
  /** As the OSD sees it, such as `127.0.0.1:0/1234567890`; what a blocklist names. */
  address: string
  /** The client's id, as in `client.4123`: what `cluster.instanceId()` gives. */
  client: bigint
  cookie: bigint
}
