import { z } from 'zod'
import { type Image, MiB, NotFoundError, type Pool } from '../../lib/index.js'
import { baseSnapshot, findSource } from '../catalog.js'
import type { Config } from '../config.js'
import { InvalidJobError, JobError } from '../errors.js'
import { type ExposedAtFirst, exposeNew, hideNew, targetOf } from '../iscsi/exposing.js'
import type { Plan, Services } from '../jobs/actions.js'
import { cephName, dataSchema, nonEmptyText, sizeAliases, sizeInMiB } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { findImage, findReady, freeName, makeImage, makeReady, planNew } from './make.js'

export const createData = dataSchema(
  {
    name: nonEmptyText(),
    /** A catalog image; without one the volume is blank. */
    imageId: cephName().optional(),
    sizeMB: sizeInMiB(),
    tenantId: nonEmptyText().optional(),
    /** Where the volume is to be reachable, if that is not as the settings say. Only gateways have a choice. */
    portals: portals().optional(),
  },
  { name: ['refId', 'image'], sizeMB: sizeAliases },
)

/** A gateway is known by its name. tgtd is on this host, so for it they are checked, and no more. */
function gatewaysIn({ portals }: z.output<typeof createData>, { iscsi }: Config): Pick<ExposedAtFirst, 'portals'> {
  if (iscsi.driver !== 'ceph-iscsi' || portals === undefined || portals.length === 0) return {}
  return {
    portals: portals.map(({ host, ip }, index) => {
      if (host === undefined) throw new InvalidJobError([`portals.${index}.host is needed: the name of the gateway`])
      return { host, ip }
    }),
  }
}

/** Counted before they are looked at, as each wrong one would be a problem to name. */
function portals() {
  const portal = z.strictObject({ host: nonEmptyText().optional(), ip: nonEmptyText() })
  return z.array(z.unknown(), 'must be a list').max(16, 'must be at most 16').pipe(z.array(portal))
}

interface CreatePlan extends Plan, ExposedAtFirst {
  /** `pool/name` */
  image: string
  catalogName: string
  imageId?: string
  sizeBytes: number
}

/**
 * A volume is a clone of a catalog image, or blank, of the size asked for.
 *
 * The name comes first, so that its undo takes away whatever the task has left under it, however early this fails.
 */
export const createVolume = Saga.of<Services, CreatePlan>()
  .step('name', {
    find: async (_services, plan) => plan.name,
    undo: (services, _name, plan) => freeName(services, plan),
    leaves: (_services, { image }) => ({ kind: 'image', name: image }),
  })
  .step('image', {
    find: findImage,
    make: (services, plan) => makeImage(services, plan, pool => makeIn(pool, services, plan)),
  })
  .step('ready', {
    find: findReady,
    // Grows it and stamps it.
    make: (services, plan, at) => makeReady(services, plan, at.image, (image, size) => grow(image, plan, size)),
  })

/** The same, and then it is exposed. */
export const createExposedVolume = createVolume
  .step('target', {
    find: async (_services, plan) => plan.name,
    undo: (services, _name, plan) => hideNew(services, plan),
    leaves: (_services, plan) => targetOf(plan),
  })
  .step('exposed', { make: (services, plan, at) => exposeNew(services, plan, at.ready.id) })

export function planCreate(job: JobMessage, data: z.output<typeof createData>, config: Config): CreatePlan {
  const volume = planNew(job, data, config)
  return {
    ...volume,
    image: `${volume.poolName}/${volume.name}`,
    limitMs: config.createTimeoutMs,
    catalogName: config.ceph.catalogPool,
    ...(data.imageId !== undefined && { imageId: data.imageId }),
    sizeBytes: data.sizeMB * MiB,
    ...gatewaysIn(data, config),
  }
}

async function makeIn(volumes: Pool, { cluster }: Services, plan: CreatePlan): Promise<void> {
  const { name, imageId, catalogName, sizeBytes } = plan
  if (imageId === undefined) return volumes.createImage(name, { size: sizeBytes })
  await using catalog = await cluster.openPool(catalogName)
  try {
    await volumes.cloneImage({ pool: catalog, imageName: imageId, name: baseSnapshot }, name)
  } catch (error) {
    // In words of the catalog.
    if (error instanceof NotFoundError) await findSource(catalog, imageId)
    throw error
  }
}

/** A clone is as large as its source at first. */
async function grow(image: Image, { imageId, sizeBytes }: CreatePlan, size: number): Promise<void> {
  if (size > sizeBytes) {
    const needed = Math.ceil(size / MiB)
    throw new JobError('SIZE_TOO_SMALL', `sizeMB: ${sizeBytes / MiB} is less than the ${needed} of ${imageId}`)
  }
  if (size < sizeBytes) await image.resize(sizeBytes)
}
