/**
 * How an image becomes a volume. Running this twice for one task makes one volume: its name follows from the task, and its
 * stamp says what it is.
 *
 * The stamp comes last, when the volume is as it is to be. Without one an image is never taken for ours, unless the journal
 * says that it is whole; what was cut short before is cleared away (`clearRemains` says why that is safe).
 */
import { z } from 'zod'
import { type Image, ImageExistsError, type Pool } from '../../lib/index.js'
import type { Config } from '../config.js'
import { ImageNotOursError, InvalidJobError, JobError } from '../errors.js'
import type { Shown } from '../iscsi/exposing.js'
import type { Services } from '../jobs/actions.js'
import type { JobMessage } from '../jobs/message.js'
import { imageName, iqnOf } from '../names.js'
import { depthOf, originOf } from './chain.js'
import { addDue } from './due.js'
import { clearRemains, type FoundVolume, findVolume, onceClosed } from './find.js'
import { writeStamp } from './stamp.js'
import { dueListOf, type Maker } from './volume.js'

export interface NewVolume {
  poolName: string
  name: string
  /** What it is called, also where it is not exposed. */
  iqn: string
  maker: Maker
  tenantId: string
  /** Whether it is to be reachable over iSCSI. */
  exposes: boolean
  /** Of the chain of clones that the volume may be the end of: from when it is flattened, and up to where it is made. */
  depth: { soft: number; hard: number }
}

export interface Made {
  image: { existed: boolean }
  ready: { id: string }
  exposed?: Shown
}

const madePlan = z.object({
  poolName: z.string(),
  name: z.string(),
  depth: z.object({}),
  exposes: z.boolean().optional(),
})

/** The image that a job with this plan makes, as `pool/image`; undefined if it makes none. */
export function madeBy(plan: object): string | undefined {
  const made = readMade(plan)
  return made && `${made.poolName}/${made.name}`
}

/** Whether a job with this plan exposes what it makes. */
export function exposesMade(plan: object): boolean | undefined {
  return readMade(plan)?.exposes
}

function readMade(plan: object) {
  return madePlan.safeParse('clone' in plan ? plan.clone : plan).data
}

export const volumeResult = z.object({
  /** `id` is the one that RBD has given the image. */
  disk: z.object({ refId: z.string(), name: z.string(), id: z.string(), tenantId: z.string() }),
  /** An earlier delivery of the job had made it. */
  imageExisted: z.boolean(),
  targetExisted: z.boolean(),
})

/** @param data - Of the job: it may name the tenant, if the job itself does not. */
export function planNew(
  job: JobMessage,
  data: { name: string; tenantId?: string | undefined },
  config: Config,
): NewVolume {
  const tenantId = job.tenantId ?? data.tenantId
  if (tenantId === undefined) throw new InvalidJobError(['tenantId: missing'])
  if ((data.tenantId ?? tenantId) !== tenantId) throw new InvalidJobError(["tenantId: another than the job's own"])
  const { iqnPrefix } = config.iscsi
  const name = imageName({ taskId: job.taskId, tenantId, name: data.name }, iqnPrefix)
  return {
    poolName: config.ceph.volumePool,
    name,
    iqn: iqnOf(iqnPrefix, name),
    maker: { agent: job.agentId, task: job.taskId },
    tenantId,
    exposes: config.iscsi.driver !== 'none',
    depth: { soft: config.volumes.cloneDepthSoft, hard: config.volumes.cloneDepthHard },
  }
}

export function madeResult({ name, iqn, tenantId }: NewVolume, { image, ready, exposed }: Made) {
  return {
    disk: { refId: iqn, name, id: ready.id, tenantId },
    imageExisted: image.existed,
    targetExisted: exposed?.existed ?? false,
  }
}

/** One that is stamped: by this job, or long ago, by one of the same task that the journal has forgotten. */
export async function findImage(services: Services, volume: NewVolume): Promise<Made['image'] | undefined> {
  const found = await findIn(services, volume)
  return found && { existed: found.stamp.createdAt !== services.begunAt }
}

export async function findReady(services: Services, volume: NewVolume): Promise<Made['ready'] | undefined> {
  const found = await findIn(services, volume)
  return found && { id: found.id }
}

async function findIn({ cluster }: Services, { poolName, name, maker }: NewVolume): Promise<FoundVolume | undefined> {
  await using pool = await cluster.openPool(poolName)
  return await findVolume(pool, name, maker)
}

/** @param make - Makes an image of that name in the pool. */
export async function makeImage(
  services: Services,
  volume: NewVolume,
  make: (pool: Pool) => Promise<void>,
): Promise<Made['image']> {
  await using pool = await services.cluster.openPool(volume.poolName)
  const findOrClear = async () => (await findImage(services, volume)) ?? (await clearName(pool, volume.name))
  const found = services.goesOn ? await findOrClear() : undefined
  if (found) return found
  try {
    await make(pool)
  } catch (error) {
    if (!(error instanceof ImageExistsError)) throw error
    const found = await findOrClear()
    if (found) return found
    await make(pool)
  }
  return { existed: false }
}

async function clearName(pool: Pool, name: string): Promise<undefined> {
  if (await onceClosed(() => clearRemains(pool, name))) return
  throw new ImageNotOursError(`an image ${pool.path}/${name} exists that was not made for this task`)
}

/**
 * Makes the image what it is to be, and stamps it. In one go, as to open it takes longer than all else.
 *
 * @param finish - For what the image has not got yet; it is given the size, in bytes.
 * @throws {JobError} CHAIN_TOO_DEEP
 */
export async function makeReady(
  services: Services,
  volume: NewVolume,
  { existed }: Made['image'],
  finish: (image: Image, size: number) => Promise<void>,
): Promise<Made['ready']> {
  const { poolName, name, maker, tenantId } = volume
  await using pool = await services.cluster.openPool(poolName)
  await using image = await pool.openImage(name)
  const { id, size } = await image.stat()
  // One that was ready long ago may have become another since.
  if (existed) return { id }
  await finish(image, size)
  await checkDepth(services, volume, image, id)
  await writeStamp(image, { image: id, ...maker, tenant: tenantId, createdAt: services.begunAt })
  return { id }
}

/** A long chain makes each read slow, and kernels map none of more than 16 parents. */
async function checkDepth(
  services: Services,
  { poolName, name, depth, maker }: NewVolume,
  image: Image,
  id: string,
): Promise<void> {
  const clones = await depthOf(image)
  if (clones > depth.hard) {
    throw new JobError(
      'CHAIN_TOO_DEEP',
      `the volume would be a clone of a clone, ${clones} deep, where ${depth.hard} is the most: flatten its source first`,
    )
  }
  if (clones < depth.soft) return
  await addDue(dueListOf(services, { maker }), { work: 'flatten', poolName, name, id, origin: await originOf(image) })
}

/** Takes away what this job has made under the name: once it is closed, as a tgtd that died may count as having it open. */
export async function freeName(services: Services, { poolName, name, maker }: NewVolume): Promise<void> {
  await using pool = await services.cluster.openPool(poolName)
  const volume = await findVolume(pool, name, maker)
  if (volume === undefined) {
    await clearRemains(pool, name)
  } else if (volume.stamp.createdAt === services.begunAt) {
    await onceClosed(() => pool.removeImage(name))
  } else {
    throw new JobError('VOLUME_READY', 'it was made by this task before, and may be in use')
  }
}
