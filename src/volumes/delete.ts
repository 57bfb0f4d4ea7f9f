import type { z } from 'zod'
import {
  type Image,
  ImageBusyError,
  ImageHasSnapshotsError,
  ImageNotFoundError,
  type ImageWatcher,
  type LinkedImage,
  type Pool,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import { ImageNotOursError, JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema, sizeAliases, sizeInMiB } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { imageOf } from '../names.js'
import { lookAt, lookAtId } from './find.js'
import { readStamp } from './stamp.js'

export const deleteData = dataSchema(
  {
    /** An iqn, or the name of an image. */
    refId: cephName(),
    /** Default: the pool of the volumes. */
    pool: cephName().optional(),
    /** Only repeated in the result. */
    sizeMB: sizeInMiB().optional(),
  },
  { refId: ['iqn'], sizeMB: sizeAliases },
)

interface DeletePlan {
  /** `pool/name` */
  image: string
  poolName: string
  name: string
  refId: string
  agentId: string
  /** The tenant that asks, if the job says so. */
  tenantId: string | undefined
  sizeMB: number | undefined
}

export function planDelete(job: JobMessage, data: z.output<typeof deleteData>, config: Config): DeletePlan {
  const name = imageOf(data.refId)
  const poolName = data.pool ?? config.ceph.volumePool
  return {
    image: `${poolName}/${name}`,
    poolName,
    name,
    refId: data.refId,
    agentId: config.agentId,
    tenantId: job.tenantId,
    sizeMB: data.sizeMB,
  }
}

/**
 * Removes a volume of this agent's. Nothing of it can be undone; but a removal that was cut short is finished by the same
 * job, sent again.
 */
export async function deleteVolume({ cluster, signal }: Services, plan: DeletePlan): Promise<object> {
  await using pool = await cluster.openPool(plan.poolName)
  const check = (image: Image) => checkIsOurs(image, plan)
  const isThere = (await lookAt(pool, plan.name, check)) ?? (await isHalfRemoved(pool, plan, check))
  const removed = isThere && (await removeImage(pool, plan.name, signal))
  return {
    refId: plan.refId,
    // No volume is exposed yet, so there is no target to delete.
    targetDeleted: false,
    deletedDisks: removed ? [{ pool: plan.poolName, image: plan.name }] : [],
    ...(plan.sizeMB !== undefined && { sizeMB: plan.sizeMB }),
  }
}

async function checkIsOurs(image: Image, plan: DeletePlan): Promise<true> {
  const stamp = await readStamp(image)
  if (stamp?.agent !== plan.agentId) {
    throw new ImageNotOursError(`${plan.image} was not made by agent ${plan.agentId}: it is left alone`)
  }
  if (plan.tenantId !== undefined && stamp.tenant !== plan.tenantId) {
    throw new ImageNotOursError(`${plan.image} is not a volume of tenant ${plan.tenantId}: it is left alone`)
  }
  return true
}

/**
 * Whether a removal of it was cut short. RBD begins one by taking the image away from its name, so that only its id leads
 * there, and lists both until the end. The data goes before the stamp: without one there is nothing left but the listing.
 */
async function isHalfRemoved(pool: Pool, plan: DeletePlan, check: (image: Image) => Promise<true>): Promise<boolean> {
  const listed = (await pool.listImages()).find(({ name }) => name === plan.name)
  if (listed === undefined) return false
  if (!(await isBeingRemoved(pool, listed.id))) {
    throw new ImageNotOursError(`${plan.image} is listed, but cannot be opened: it is left alone`)
  }
  return (await lookAtId(pool, listed.id, check)) ?? true
}

async function isBeingRemoved(pool: Pool, id: string): Promise<boolean> {
  try {
    return (await pool.trash.get(id)).source === 'removing'
  } catch (error) {
    if (error instanceof ImageNotFoundError) return false
    throw error
  }
}

/** Returns false if it was gone by then. RBD refuses before it removes anything; what is in the way is named. */
async function removeImage(pool: Pool, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await pool.removeImage(name, { signal })
    return true
  } catch (error) {
    if (error instanceof ImageNotFoundError) return false
    if (error instanceof ImageBusyError) throw await watchersError(pool, name, error)
    if (error instanceof ImageHasSnapshotsError) throw await snapshotsError(pool, name, error)
    throw error
  }
}

async function watchersError(pool: Pool, name: string, cause: Error): Promise<Error> {
  const watchers = (await lookAt(pool, name, image => image.watchers())) ?? []
  const by = watchers.length > 0 ? ` by ${watchers.map(describeWatcher).join(', ')}` : ''
  return new JobError('IMAGE_BUSY', `${pool.path}/${name} is open${by}`, { retryable: true, cause })
}

/**
 * The agent makes no snapshots, so whoever made these still wants them. Without snapshots of its own an image can have no
 * clones; where it has clones, they are what has to go first.
 */
async function snapshotsError(pool: Pool, name: string, cause: Error): Promise<Error> {
  const found = await lookAt(pool, name, async image => ({
    children: await image.children(),
    snapshots: await image.listSnapshots(),
  }))
  if (found === undefined) return cause
  const path = `${pool.path}/${name}`
  if (found.children.length > 0) {
    const clones = found.children.map(describeChild).join(', ')
    return new JobError('IMAGE_HAS_CHILDREN', `${path} has clones: ${clones}`, { cause })
  }
  const snapshots = found.snapshots.map(snapshot => snapshot.originalName ?? snapshot.name).join(', ')
  return new JobError('IMAGE_HAS_SNAPSHOTS', `${path} has snapshots: ${snapshots}`, { cause })
}

function describeWatcher({ address, client }: ImageWatcher): string {
  return `${address} (client.${client})`
}

function describeChild({ pool, poolId, namespace, name, inTrash }: LinkedImage): string {
  const path = [pool ?? `pool ${poolId}`, namespace, name].filter(part => part !== '').join('/')
  return inTrash ? `${path} (in the trash)` : path
}
