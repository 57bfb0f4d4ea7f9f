import { z } from 'zod'
import { ImageExistsError, MiB, type Pool, type SnapshotReference } from '../../lib/index.js'
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

interface Pools {
  volumes: Pool
  catalog: Pool | undefined
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
 */
const create = Saga.of<Pools, CreatePlan>()
  .step('source', {
    make: async ({ catalog }, plan) => (catalog && plan.imageId ? sourceFor(catalog, plan.imageId, plan) : null),
  })
  .step('name', {
    // A name needs no making. Its undo comes after the image's, and frees it from what has no stamp.
    make: async (_pools, plan) => plan.name,
    undo: async ({ volumes }, name) => void (await clearRemains(volumes, name)),
    leaves: thatImage,
  })
  .step('image', {
    find: ({ volumes }, plan): Promise<VolumeImage | undefined> => findVolume(volumes, plan.name, plan.maker),
    make: ({ volumes }, plan, at) => makeImage(volumes, plan, at.source),
    undo: ({ volumes }, image, plan) => removeUnlessReady(volumes, image, plan),
    leaves: thatImage,
  })
  .step('stamp', {
    find: async (_pools, _plan, at) => at.image.stamp,
    make: ({ volumes }, plan, at) => stampImage(volumes, plan, at.image),
  })
  .step('ready', {
    // Grows it and says so. Nothing to undo: undoing the image removes all of it.
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
  // A task that was done before has its answer, whatever has become of the catalog image since.
  const earlier = await findVolume(volumes, plan.name, plan.maker)
  if (earlier?.stamp.readyAt) return answer(plan, earlier, true)
  await using catalog = plan.imageId === undefined ? undefined : await cluster.openPool(config.ceph.catalogPool)
  const at = await create.run({ volumes, catalog }, plan, { log, signal: AbortSignal.timeout(config.createTimeoutMs) })
  return answer(plan, at.image, earlier !== undefined)
}

function answer({ name, tenantId }: CreatePlan, { id }: VolumeImage, imageExisted: boolean): object {
  return { disk: { refId: iqnOf(name), name, id, tenantId }, imageExisted, targetExisted: false }
}

function tenantOf(job: JobMessage, inData: string | undefined): string {
  const tenantId = job.tenantId ?? inData
  if (tenantId === undefined) throw new InvalidJobError(['tenantId: missing'])
  if (inData !== undefined && inData !== tenantId) throw new InvalidJobError(["tenantId: another than the job's own"])
  return tenantId
}

function thatImage(_pools: Pools, { image }: CreatePlan) {
  return { kind: 'image', name: image }
}

async function sourceFor(catalog: Pool, imageId: string, { sizeBytes }: CreatePlan): Promise<SnapshotReference> {
  const source = await findSource(catalog, imageId)
  if (sizeBytes < source.size) {
    const needed = Math.ceil(source.size / MiB)
    throw new JobError('SIZE_TOO_SMALL', `sizeMB: ${sizeBytes / MiB} is less than the ${needed} of ${imageId}`)
  }
  return source.snapshot
}

async function makeImage(pool: Pool, plan: CreatePlan, source: SnapshotReference | null): Promise<VolumeImage> {
  const make = () =>
    source ? pool.cloneImage(source, plan.name) : pool.createImage(plan.name, { size: plan.sizeBytes })
  try {
    await make()
  } catch (error) {
    if (!(error instanceof ImageExistsError)) throw error
    if (!(await onceClosed(() => clearRemains(pool, plan.name)))) {
      throw new ImageNotOursError(`an image ${plan.image} exists that was not made for this task`)
    }
    await make()
  }
  await using image = await pool.openImage(plan.name, { readOnly: true })
  return { name: plan.name, id: (await image.stat()).id }
}

async function stampImage(pool: Pool, { name, maker, tenantId }: CreatePlan, { id }: VolumeImage): Promise<Stamp> {
  await using image = await pool.openImage(name)
  const { agent, task } = maker
  const stamp = { image: id, agent, task, tenant: tenantId, createdAt: new Date().toISOString() }
  await writeStamp(image, stamp)
  return stamp
}

async function growAndMark(pool: Pool, { name, sizeBytes }: CreatePlan, stamp: Stamp): Promise<void> {
  await using image = await pool.openImage(name)
  if ((await image.size()) < sizeBytes) await image.resize(sizeBytes)
  await writeStamp(image, { ...stamp, readyAt: new Date().toISOString() })
}

/** Looks again: what was not ready when it was found or made may be so by now. */
async function removeUnlessReady(pool: Pool, { name, id }: VolumeImage, { maker }: CreatePlan): Promise<void> {
  const volume = await findVolume(pool, name, maker)
  if (volume?.id !== id) return // not stamped yet: freeing the name removes it
  if (volume.stamp.readyAt !== undefined) {
    throw new JobError('VOLUME_READY', 'it is marked as ready, and so may be in use: send the task again to have it')
  }
  await pool.removeImage(name)
}
