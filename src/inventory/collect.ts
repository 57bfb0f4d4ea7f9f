import { z } from 'zod'
import type { Cluster, ImageDetails, Pool, UnreadableImage } from '../../lib/index.js'
import { ImageNotFoundError, PoolNotFoundError, TimeoutError } from '../../lib/index.js'
import { baseSnapshot } from '../catalog.js'
import type { Config } from '../config.js'
import { listAllExposures } from '../iscsi/exposure.js'
import type { Exposing, TargetKeeper } from '../iscsi/keeper.js'
import type { Logger } from '../log.js'
import { orLeftOut } from './left-out.js'
import { canMeasureUse, measureUse } from './used-bytes.js'

const bytes = z.int().min(0)

const volumeSchema = z.object({
  refId: z.string().describe("the image's name"),
  pool: z.string(),
  sizeBytes: bytes.optional(),
  usedBytes: bytes.optional().describe('in whole objects, as rbd du counts'),
  iqn: z.string().optional().describe('while it is exposed over iSCSI'),
  portal: z.object({ host: z.string().optional(), ip: z.string(), port: z.int() }).optional(),
  isAttached: z
    .boolean()
    .optional()
    .describe('whether an initiator has a session with it; absent where that is for another agent to know'),
})

const catalogImageSchema = z.object({
  refId: z.string().describe("the image's name, as storage.create takes it for imageId"),
  pool: z.string(),
  name: z.string(),
  sizeBytes: bytes.optional(),
  source: z
    .object({ image: z.string(), snap: z.string() })
    .optional()
    .describe('the snapshot that volumes are cloned from; absent while there is none'),
})

/** What is optional is left out when it could not be measured; it is never 0 instead. */
export const inventorySchema = z.object({
  schemaVersion: z.literal('storage.inventory.v1'),
  storageId: z.string().describe("the agent's id"),
  collectedAt: z.iso.datetime(),
  cluster: z.object({ fsid: z.string(), health: z.string().optional() }),
  capacity: z
    .object({ totalBytes: bytes, usedBytes: bytes, availBytes: bytes })
    .optional()
    .describe('raw bytes of the whole cluster: replicas count'),
  volumes: z.array(volumeSchema),
  catalog: z.array(catalogImageSchema),
})

export type Inventory = z.output<typeof inventorySchema>
export type InventoryVolume = z.output<typeof volumeSchema>
export type InventoryCatalogImage = z.output<typeof catalogImageSchema>

interface Source {
  cluster: Cluster
  config: Config
  log: Logger
  /** Asked before each image, as each that cannot be measured may take its time until Ceph gives up. */
  signal: AbortSignal
  /** Where volumes are exposed. */
  targets?: TargetKeeper | undefined
}

/**
 * Lists everything. Fails only if it could not be complete: without the lists of images it would deny what exists.
 *
 * @throws {DOMException} AbortError, or what else is the signal's reason
 */
export async function collectInventory(source: Source): Promise<Inventory> {
  const { cluster, config, log } = source
  const [fsid, health, capacity, volumes, catalog] = await Promise.all([
    cluster.fsid(),
    orLeftOut(healthOf(cluster), log, 'health'),
    orLeftOut(capacityOf(cluster), log, 'capacity'),
    collectVolumes(source),
    collectCatalog(source),
  ])
  return {
    schemaVersion: 'storage.inventory.v1',
    storageId: config.agentId,
    collectedAt: new Date().toISOString(),
    cluster: { fsid, ...(health !== undefined && { health }) },
    ...(capacity !== undefined && { capacity }),
    volumes,
    catalog,
  }
}

async function healthOf(cluster: Cluster): Promise<string> {
  const { status } = await cluster.monCommand<{ status: string }>({ prefix: 'health' })
  return status
}

async function capacityOf(cluster: Cluster): Promise<NonNullable<Inventory['capacity']>> {
  const { totalBytes, usedBytes, availableBytes } = await cluster.stat()
  return { totalBytes, usedBytes, availBytes: availableBytes }
}

async function collectVolumes(source: Source): Promise<InventoryVolume[]> {
  await using pool = await source.cluster.openPool(source.config.ceph.volumePool)
  const images = await listImages(pool, source, image => ({
    id: image.id,
    size: image.size,
    measurable: canMeasureUse(image),
  }))
  const readable = images.flatMap(({ name, details }) => (details ? [{ name, ...details }] : []))
  const measurable = readable.filter(image => image.measurable)
  const measures = await measureUse(pool, measurable, { ...source, imagesInPool: images.length })
  const exposingOf = await exposings(source)
  return images.map(({ name, details }) => {
    const measure = details && measures.get(details.id)
    return {
      refId: name,
      pool: pool.name,
      ...(details && { sizeBytes: details.size }),
      ...(measure && { usedBytes: measure.usedBytes }),
      ...exposingOf(name),
    }
  })
}

/** What is not exposed, no initiator can have a session with. What another agent exposes, that one knows more of. */
async function exposings(source: Source): Promise<(name: string) => Partial<Exposing>> {
  const { targets, log } = source
  const own =
    targets === undefined ? new Map<string, Exposing>() : await orLeftOut(targets.describe(), log, 'iSCSI targets')
  const others = await orLeftOut(exposedByOthers(source), log, 'iSCSI targets of other agents')
  const isKnown = own !== undefined && others !== undefined
  return name => own?.get(name) ?? others?.get(name) ?? (isKnown ? { isAttached: false } : {})
}

async function exposedByOthers({ cluster, config }: Source): Promise<Map<string, Partial<Exposing>>> {
  const byName = new Map<string, Partial<Exposing>>()
  for (const [agent, { exposures, unreadable }] of await listAllExposures(cluster, config.ceph.volumePool)) {
    if (agent === config.agentId) continue
    for (const { name } of unreadable) byName.set(name, {})
    for (const { name, iqn } of exposures) byName.set(name, { iqn })
  }
  return byName
}

/** A pool that does not exist is an empty catalog; one that cannot be read is not. */
async function collectCatalog(source: Source): Promise<InventoryCatalogImage[]> {
  try {
    await using pool = await source.cluster.openPool(source.config.ceph.catalogPool)
    const images = await listImages(pool, source, catalogDetails)
    return images.map(({ name, details }) => ({ refId: name, pool: pool.name, name, ...details }))
  } catch (error) {
    if (error instanceof PoolNotFoundError) return []
    throw error
  }
}

function catalogDetails({ name, size, snapshots }: ImageDetails): Pick<InventoryCatalogImage, 'sizeBytes' | 'source'> {
  const base = snapshots.find(snapshot => snapshot.name === baseSnapshot)
  return base ? { sizeBytes: base.size, source: { image: name, snap: base.name } } : { sizeBytes: size }
}

interface Listed<Details> {
  name: string
  /** Undefined for an image that is there, and cannot be read. */
  details?: Details
}

async function listImages<Details>(
  pool: Pool,
  { log, signal }: Source,
  describe: (image: ImageDetails) => Details,
): Promise<Listed<Details>[]> {
  const images: Listed<Details>[] = []
  try {
    for await (const image of pool.listImageDetails({ signal })) {
      if (image.error) logUnreadable(pool, image, log)
      images.push(image.error ? { name: image.name } : { name: image.name, details: describe(image) })
    }
  } catch (error) {
    // Some of the pool does not answer. What is there can be told all the same, if the list of it does.
    if (!(error instanceof TimeoutError)) throw error
    log.warn({ what: pool.path, err: error }, 'not measured from here on')
    const known = new Set(images.map(({ name }) => name))
    for (const { name } of await pool.listImages({ signal })) if (!known.has(name)) images.push({ name })
  }
  return images
}

function logUnreadable(pool: Pool, { name, error }: UnreadableImage, log: Logger): void {
  const what = `${pool.path}/${name}`
  if (error instanceof ImageNotFoundError) log.warn({ what }, 'listed, but cannot be opened')
  else log.warn({ what, err: error }, 'not measured')
}
