/**
 * How many bytes each volume uses, measured anew only where it may have changed.
 *
 * What an image uses follows from its size and its object map, which whoever writes to the image changes before the first
 * write to an object. The OSD counts the writes to an object as its version, so an object map of the same version, of an
 * image of the same size, still says the same. The time of the last change would not tell: librbd notes it once a minute.
 */
import type { Cluster, ImageDetails, Pool } from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import type { Logger } from '../log.js'
import { lookAtId } from '../volumes/find.js'
import { orLeftOut } from './left-out.js'

/** What is to be known of a volume to measure its use. */
export interface Measurable {
  id: string
  name: string
  /** In bytes. */
  size: number
}

interface Measure {
  size: number
  version: number
  usedBytes: number
}

/** By the image's id. */
type Measures = Map<string, Measure>

/** The last ones, by pool, for as long as there is the connection. What has gone since, or is not measured, is not kept. */
const lastMeasures = new WeakMap<Cluster, Map<string, Measures>>()

/** Each is a round trip, and the OSD is busy with fewer. */
const versionsAtOnce = 64
/** Each is a dozen round trips, and computing. */
const imagesAtOnce = 16
/** For how many images the use can be listed in the time that it takes to open one. */
const listedForOneOpened = 10

/** Without a valid object map, RBD would have to ask for every object that the image could have. */
export function canMeasureUse({ features, flags }: Pick<ImageDetails, 'features' | 'flags'>): boolean {
  return features.includes('fast-diff') && flags.length === 0
}

interface Source {
  log: Logger
  signal: AbortSignal
  /** How many images the pool has, those included that cannot be measured. */
  imagesInPool: number
}

/**
 * What was measured, by the image's id. What could not be is not in it.
 *
 * @throws {DOMException} AbortError, or what else is the signal's reason
 */
export async function measureUse(
  pool: Pool,
  images: Measurable[],
  source: Source,
): Promise<ReadonlyMap<string, { usedBytes: number }>> {
  const ofPools = lastMeasures.get(pool.cluster) ?? new Map<string, Measures>()
  const last = ofPools.get(pool.path)
  const measures: Measures = new Map()
  const changed = new Map<string, Omit<Measure, 'usedBytes'>>()
  await forEachLimited(images, versionsAtOnce, async ({ id, name, size }) => {
    source.signal.throwIfAborted()
    // Before the map is read: what is written in between is then looked at again the next time.
    const version = await orLeftOut(objectMapVersion(pool, id), source.log, `use of ${pool.path}/${name}`)
    if (version === undefined) return
    const known = last?.get(id)
    if (known?.version === version && known.size === size) measures.set(id, known)
    else changed.set(id, { size, version })
  })
  const few = changed.size * listedForOneOpened < images.length
  // A listing looks at every image, and would wait for one that has no object map, or does not answer.
  const listable = measures.size + changed.size === source.imagesInPool
  const measured = few || !listable ? measureOpened(pool, images, changed, source) : measureListed(pool, source)
  for (const [id, usedBytes] of await measured) {
    const seen = changed.get(id)
    if (seen) measures.set(id, { ...seen, usedBytes })
  }
  lastMeasures.set(pool.cluster, ofPools.set(pool.path, measures))
  return measures
}

async function objectMapVersion(pool: Pool, id: string): Promise<number> {
  return (await pool.object(`rbd_object_map.${id}`).stat()).version
}

async function measureOpened(
  pool: Pool,
  images: Measurable[],
  changed: ReadonlyMap<string, unknown>,
  { log, signal }: Source,
): Promise<Map<string, number>> {
  const measured = new Map<string, number>()
  const wanted = images.filter(({ id }) => changed.has(id))
  await forEachLimited(wanted, imagesAtOnce, async ({ id, name }) => {
    signal.throwIfAborted()
    const looking = lookAtId(pool, id, image => image.usedBytes())
    const usedBytes = await orLeftOut(looking, log, `use of ${pool.path}/${name}`)
    if (usedBytes !== undefined) measured.set(id, usedBytes)
  })
  return measured
}

async function measureListed(pool: Pool, { log, signal }: Source): Promise<Map<string, number>> {
  const measured = new Map<string, number>()
  for await (const image of pool.listImageUsage({ signal })) {
    if (image.error) log.warn({ what: `use of ${pool.path}/${image.name}`, err: image.error }, 'not measured')
    else measured.set(image.id, image.usedBytes)
  }
  return measured
}
