import type { Cluster, Image, ImageStat, Pool } from '../../lib/index.js'
import { PoolNotFoundError } from '../../lib/index.js'
import { baseSnapshot } from '../catalog.js'
import { mapLimited } from '../concurrency.js'
import type { Config } from '../config.js'
import type { Logger } from '../log.js'
import { lookAt } from '../volumes/find.js'

/** `storage.inventory.v1`. What is optional is left out when it could not be measured; it is never 0 instead. */
export interface Inventory {
  schemaVersion: 'storage.inventory.v1'
  storageId: string
  /** As an ISO 8601 date. */
  collectedAt: string
  cluster: { fsid: string; health?: string }
  /** Raw bytes of the whole cluster: replicas count. */
  capacity?: { totalBytes: number; usedBytes: number; availBytes: number }
  volumes: InventoryVolume[]
  catalog: InventoryCatalogImage[]
}

export interface InventoryVolume {
  /** The image's name. */
  refId: string
  pool: string
  sizeBytes?: number
  usedBytes?: number
  /** Whether an initiator has a session with it. */
  isAttached: boolean
}

export interface InventoryCatalogImage {
  /** The image's name, as `storage.create` takes it for `imageId`. */
  refId: string
  pool: string
  name: string
  sizeBytes?: number
  /** The snapshot that volumes are cloned from; absent while there is none. */
  source?: { image: string; snap: string }
}

interface Source {
  cluster: Cluster
  config: Config
  log: Logger
  /** Asked before each image, as each that cannot be measured may take its time until Ceph gives up. */
  signal: AbortSignal
}

/** How many images are open at a time. Each is a few round trips, so this hides their latency; more would not. */
const imagesAtOnce = 16

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
  return await collectImages(pool, source, measureVolume, name => ({
    refId: name,
    pool: pool.name,
    // No volume is exposed over iSCSI yet, so no initiator can have a session.
    isAttached: false,
  }))
}

async function measureVolume(image: Image, log: Logger): Promise<{ sizeBytes: number; usedBytes?: number }> {
  const stat = await image.stat()
  if (!canMeasureUse(stat)) return { sizeBytes: stat.size }
  const usedBytes = await orLeftOut(image.usedBytes(), log, `use of ${image.pool.path}/${image.name}`)
  return { sizeBytes: stat.size, ...(usedBytes !== undefined && { usedBytes }) }
}

/** Without a valid object map, RBD would have to ask for every object that the image could have. */
function canMeasureUse({ features, flags }: ImageStat): boolean {
  return features.includes('fast-diff') && flags.length === 0
}

/** A pool that does not exist is an empty catalog; one that cannot be read is not. */
async function collectCatalog(source: Source): Promise<InventoryCatalogImage[]> {
  try {
    await using pool = await source.cluster.openPool(source.config.ceph.catalogPool)
    return await collectImages(pool, source, measureCatalogImage, name => ({ refId: name, pool: pool.name, name }))
  } catch (error) {
    if (error instanceof PoolNotFoundError) return []
    throw error
  }
}

async function measureCatalogImage(image: Image): Promise<Pick<InventoryCatalogImage, 'sizeBytes' | 'source'>> {
  const base = (await image.listSnapshots()).find(({ name }) => name === baseSnapshot)
  if (base === undefined) return { sizeBytes: await image.size() }
  return { sizeBytes: base.size, source: { image: image.name, snap: base.name } }
}

/**
 * An image that is removed meanwhile is left out. One that cannot be measured, or not even be opened, while the pool lists
 * it, is listed without its measures.
 */
async function collectImages<Known, Measured>(
  pool: Pool,
  { log, signal }: Source,
  measure: (image: Image, log: Logger) => Promise<Measured>,
  known: (name: string) => Known,
): Promise<(Known & Partial<Measured>)[]> {
  const images = await mapLimited(await pool.listImages(), imagesAtOnce, async ({ name }) => {
    signal.throwIfAborted()
    const looking = lookAt(pool, name, image => measure(image, log))
    const measuring = looking.then(measured => ({ name, measured, opened: measured !== undefined }))
    return (await orLeftOut(measuring, log, `${pool.path}/${name}`)) ?? { name, measured: undefined, opened: true }
  })
  const listed = images.every(({ opened }) => opened) ? images : await stillListed(pool, images, log)
  return listed.map(({ name, measured }) => ({ ...known(name), ...measured }))
}

async function stillListed<T extends { name: string; opened: boolean }>(
  pool: Pool,
  images: T[],
  log: Logger,
): Promise<T[]> {
  const names = new Set((await pool.listImages()).map(({ name }) => name))
  return images.filter(({ name, opened }) => {
    if (opened) return true
    if (names.has(name)) log.warn({ what: `${pool.path}/${name}` }, 'listed, but cannot be opened')
    return names.has(name)
  })
}

async function orLeftOut<T>(measuring: Promise<T>, log: Logger, what: string): Promise<T | undefined> {
  try {
    return await measuring
  } catch (error) {
    log.warn({ what, err: error }, 'not measured')
    return undefined
  }
}
