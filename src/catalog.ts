/**
 * Golden images. Volumes are cloned from the snapshot `base`; an image without it is none of the catalog's.
 */
import type { Pool, SnapshotReference } from '../lib/index.js'
import { baseSnapshot, findBase } from './catalog/base.js'
import { type CatalogRecord, readRecord } from './catalog/record.js'
import { mapLimited } from './concurrency.js'
import { JobError } from './errors.js'
import { lookAt } from './volumes/find.js'

export { baseSnapshot } from './catalog/base.js'
export { type ImportCatalogImageOptions, importCatalogImage } from './catalog/import.js'

/**
 * The snapshot that a catalog image is cloned from, and its size in bytes.
 *
 * @throws {JobError} IMAGE_NOT_FOUND, SNAPSHOT_NOT_FOUND
 */
export async function findSource(catalog: Pool, name: string): Promise<{ snapshot: SnapshotReference; size: number }> {
  const base = await lookAt(catalog, name, async image => (await findBase(image)) ?? null)
  const path = `${catalog.path}/${name}`
  if (base === undefined) throw new JobError('IMAGE_NOT_FOUND', `there is no catalog image ${path}`)
  if (base === null) throw new JobError('SNAPSHOT_NOT_FOUND', `catalog image ${path} has no snapshot ${baseSnapshot}`)
  return { snapshot: { pool: catalog, imageName: name, name: baseSnapshot }, size: base.size }
}

export interface CatalogImage {
  name: string
  pool: string
  /** Of the snapshot `base`, in bytes. */
  sizeBytes: number
  /** What an import has noted; absent for an image that was made by other means. */
  record?: CatalogRecord
}

/** How many images are open at a time. */
const imagesAtOnce = 16

/** The images that volumes can be cloned from, by name. */
export async function listCatalog(pool: Pool): Promise<CatalogImage[]> {
  const images = await mapLimited(await pool.listImages(), imagesAtOnce, ({ name }) => findCatalogImage(pool, name))
  return images.filter(image => image !== undefined)
}

/** Undefined for what is none of the catalog's. */
export async function findCatalogImage(pool: Pool, name: string): Promise<CatalogImage | undefined> {
  return lookAt(pool, name, async image => {
    const base = await findBase(image)
    if (base === undefined) return undefined
    const record = await readRecord(image)
    return { name, pool: pool.path, sizeBytes: base.size, ...(record && { record }) }
  })
}
