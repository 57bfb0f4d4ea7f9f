import { z } from 'zod'
import { type Cluster, ImageExistsError, MiB, type Pool } from '../../lib/index.js'
import { findSource } from '../catalog.js'
import type { Config } from '../config.js'
import { ImageNotOursError, InvalidJobError, JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema, nonEmptyText, sizeAliases, sizeInMiB } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { imageName, iqnOf } from '../names.js'
import { clearRemains, findVolume, onceClosed } from './find.js'
import { type Stamp, writeStamp } from './stamp.js'

export const createData = dataSchema(
  {
    name: nonEmptyText(),
    /** A catalog image; without one the volume is blank. */
    imageId: cephName().optional(),
    sizeMB: sizeInMiB(),
    tenantId: nonEmptyText().optional(),
    /** Where the volume is to be reachable. Nothing is exposed yet, so this is checked and no more. */
    portals: portals().optional(),
  },
  { name: ['refId', 'image'], sizeMB: sizeAliases },
)

/** Counted before they are looked at, as each wrong one would be a problem to name. */
function portals() {
  const portal = z.strictObject({ host: nonEmptyText().optional(), ip: nonEmptyText() })
  return z.array(z.unknown(), 'must be a list').max(16, 'must be at most 16').pipe(z.array(portal))
}

interface CreatePlan {
  /** `pool/name` */
  image: string
  name: string
  maker: { agent: string; task: string }
  tenantId: string
  imageId: string | undefined
  sizeBytes: number
}

interface Place {
  cluster: Cluster
  volumes: Pool
  catalogName: string
}

/** An image of this job's; without a stamp if it was made just now. */
interface VolumeImage {
  name: string
  id: string
  stamp?: Stamp
}

/**
 * A volume is a clone of a catalog image, or blank, of the size asked for. Running this twice for one task makes one
 * volume: its name follows from the task, and its stamp says what it is.
 *
 * The stamp is the first thing that an image gets, and comes only when the clone is whole. Without one an image is never
 * taken for ours; what a creation cut short has left is cleared away (`clearRemains` says why that is safe).
 *
 * The name comes first, so that its undo takes away what an earlier delivery of the job has left, however early this one
 * fails.
 */
const create = Saga.of<Place, CreatePlan>()
  .step('name', {
    // A name needs no making.
    make: async (_place, plan) => plan.name,
    undo: ({ volumes }, _name, plan) => freeName(volumes, plan),
    leaves: (_place, { image }) => ({ kind: 'image', name: image }),
  })
  .step('image', {
    find: ({ volumes }, plan): Promise<VolumeImage | undefined> => findVolume(volumes, plan.name, plan.maker),
    make: makeImage,
  })
  .step('stamp', {
    find: async (_place, _plan, at) => at.image.stamp,
    make: ({ volumes }, plan, at) => stampImage(volumes, plan, at.image),
  })
  .step('ready', {
    find: async (_place, _plan, at) => at.stamp.readyAt,
    // Grows it and says so.
    make: ({ volumes }, plan, at) => growAndMark(volumes, plan, at.stamp),
  })

export function planCreate(job: JobMessage, data: z.output<typeof createData>, config: Config): CreatePlan {
  const tenantId = tenantOf(job, data.tenantId)
  const name = imageName({ taskId: job.taskId, tenantId, name: data.name })
  return {
    image: `${config.ceph.volumePool}/${name}`,
    name,
    maker: { agent: config.agentId, task: job.taskId },
    tenantId,
    imageId: data.imageId,
    sizeBytes: data.sizeMB * MiB,
  }
}

export async function createVolume({ cluster, config, log }: Services, plan: CreatePlan): Promise<object> {
  await using volumes = await cluster.openPool(config.ceph.volumePool)
  const place = { cluster, volumes, catalogName: config.ceph.catalogPool }
  const { image } = await create.run(place, plan, { log, signal: AbortSignal.timeout(config.createTimeoutMs) })
  const { name, tenantId } = plan
  return {
    disk: { refId: iqnOf(name), name, id: image.id, tenantId },
    imageExisted: image.stamp !== undefined,
    targetExisted: false,
  }
}

function tenantOf(job: JobMessage, inData: string | undefined): string {
  const tenantId = job.tenantId ?? inData
  if (tenantId === undefined) throw new InvalidJobError(['tenantId: missing'])
  if (inData !== undefined && inData !== tenantId) throw new InvalidJobError(["tenantId: another than the job's own"])
  return tenantId
}

async function makeImage({ cluster, volumes, catalogName }: Place, plan: CreatePlan): Promise<VolumeImage> {
  const { name, imageId, sizeBytes } = plan
  if (imageId === undefined) {
    await inFreeName(volumes, plan, () => volumes.createImage(name, { size: sizeBytes }))
  } else {
    await using catalog = await cluster.openPool(catalogName)
    const source = await findSource(catalog, imageId)
    checkNotSmaller(plan, source.size)
    await inFreeName(volumes, plan, () => volumes.cloneImage(source.snapshot, name))
  }
  await using image = await volumes.openImage(name, { readOnly: true })
  return { name, id: (await image.stat()).id }
}

function checkNotSmaller({ imageId, sizeBytes }: CreatePlan, sourceBytes: number): void {
  if (sizeBytes >= sourceBytes) return
  const needed = Math.ceil(sourceBytes / MiB)
  throw new JobError('SIZE_TOO_SMALL', `sizeMB: ${sizeBytes / MiB} is less than the ${needed} of ${imageId}`)
}

/** Makes an image, if need be after what has the name has been cleared away. */
async function inFreeName(pool: Pool, plan: CreatePlan, make: () => Promise<void>): Promise<void> {
  try {
    await make()
  } catch (error) {
    if (!(error instanceof ImageExistsError)) throw error
    if (!(await onceClosed(() => clearRemains(pool, plan.name)))) {
      throw new ImageNotOursError(`an image ${plan.image} exists that was not made for this task`)
    }
    await make()
  }
}

async function stampImage(pool: Pool, { name, maker, tenantId }: CreatePlan, { id }: VolumeImage): Promise<Stamp> {
  await using image = await pool.openImage(name)
  const { agent, task } = maker
  const stamp = { image: id, agent, task, tenant: tenantId, createdAt: new Date().toISOString() }
  await writeStamp(image, stamp)
  return stamp
}

async function growAndMark(pool: Pool, { name, sizeBytes }: CreatePlan, stamp: Stamp): Promise<string> {
  await using image = await pool.openImage(name)
  if ((await image.size()) < sizeBytes) await image.resize(sizeBytes)
  const readyAt = new Date().toISOString()
  await writeStamp(image, { ...stamp, readyAt })
  return readyAt
}

/** Takes away what this task has under the name, from this delivery or an earlier one. Looks again: it may be ready by now. */
async function freeName(pool: Pool, { name, maker }: CreatePlan): Promise<void> {
  const volume = await findVolume(pool, name, maker)
  if (volume?.stamp.readyAt !== undefined) {
    throw new JobError('VOLUME_READY', 'it is marked as ready, and so may be in use: send the task again to have it')
  }
  if (volume !== undefined) await pool.removeImage(name)
  else await clearRemains(pool, name)
}
