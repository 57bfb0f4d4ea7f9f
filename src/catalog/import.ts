import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { checkCallOptions, checkKey, checkName, checkOptions, wrongType } from '../../lib/check.js'
import { AbortError, ImageExistsError, ImageNotFoundError, Pool, type ProgressOptions } from '../../lib/index.js'
import { JobError, messageOf } from '../errors.js'
import { lookAt } from '../volumes/find.js'
import { baseSnapshot, findBase } from './base.js'
import { type Checksums, normalChecksums, Origin } from './origin.js'
import { readRecord, writeRecord } from './record.js'

export interface ImportCatalogImageOptions extends ProgressOptions, Checksums {}

/**
 * Puts an image into the catalog, with the protected snapshot `base`. Zeroes take no space, and memory stays bounded
 * whatever its size. Progress is in bytes of the file; of a qcow2 file there is a second one, in bytes of the disk.
 *
 * Safe to interrupt and to repeat: until the import is complete, its image has a name that no other has, and goes if the
 * import fails. What one that was killed has left under such a name is removed by the next one. A download that breaks
 * off goes on where it was, if the server can give a part of the file and tell that it is still the same.
 *
 * @param pool - Made for RBD already (`pool.initialize()`).
 * @param source - A file in raw format or in qcow2, or its http(s) URL. A download in qcow2 needs its space in the folder
 *   for temporary files.
 * @param options.sha256 - What the checksum of the file must be, in hexadecimal digits. `sha512` likewise.
 * @returns Whether it was imported; false if the same was there.
 * @throws {JobError} IMAGE_EXISTS: there is another image of that name, or one that tells no checksum; IMAGE_BUSY: another
 *   import of that name is at work; CHECKSUM_MISMATCH
 * @throws {TypeError} no pool, name or file; a checksum that is none; a qcow2 file that needs others
 * @throws {AbortError}
 */
export async function importCatalogImage(
  pool: Pool,
  name: string,
  source: string,
  importOptions: ImportCatalogImageOptions = {},
): Promise<boolean> {
  if (!(pool instanceof Pool)) throw wrongType('pool', 'a Pool', pool)
  checkName('name', name)
  checkKey('source', source)
  checkOptions(importOptions, ['sha256', 'sha512'])
  const { sha256, sha512, ...options } = importOptions
  checkCallOptions(options)
  try {
    return await importUnlessThere({ pool, name, source, sums: normalChecksums({ sha256, sha512 }), options })
  } catch (error) {
    if (options.signal?.aborted) throw new AbortError({ cause: options.signal.reason })
    throw error
  }
}

interface Import {
  pool: Pool
  name: string
  source: string
  /** What is expected. */
  sums: Checksums
  options: ProgressOptions
}

async function importUnlessThere(task: Import): Promise<boolean> {
  const { pool, name, source, options } = task
  const busy = await removeLeftovers(pool, name)
  if (await isThere(task)) return false
  if (busy !== undefined) {
    const since = 'or was until half a minute ago'
    throw new JobError('IMAGE_BUSY', `an import is at work on ${pool.path}/${busy}, ${since}`, { retryable: true })
  }
  await using origin = await Origin.open(source, options.signal)
  const unfinished = `${name}.import-${randomUUID()}`
  try {
    await fill(task, origin, unfinished)
    return true
  } catch (error) {
    await removeOrTell(pool, unfinished, error)
    // Somebody else may have been faster.
    if (error instanceof ImageExistsError && (await isThere(task))) return false
    throw error
  }
}

async function fill({ pool, name, sums, options }: Import, origin: Origin, unfinished: string): Promise<void> {
  const { signal } = options
  const found = { ...sums }
  if (origin.format === 'raw') {
    await pool.importImage(unfinished, Readable.from(origin.bytes(found, options)), { signal })
  } else {
    await origin.asFile(found, options, path => pool.importImage(unfinished, path, { format: 'qcow2', ...options }))
  }
  // Open until the end, which shows to others that the import is at work.
  await using image = await pool.openImage(unfinished)
  const { name: source, format } = origin
  const { sha256, sha512 } = found
  if (sha256 === undefined) throw new Error(`${source} was not read to its end`)
  await writeRecord(image, { source, format, sha256, sha512, importedAt: new Date().toISOString() })
  await image.createSnapshot(baseSnapshot, { protect: true })
  signal?.throwIfAborted()
  await pool.renameImage(unfinished, name)
}

/**
 * Whether the catalog has the same already; what is the same shows by the checksums.
 *
 * @throws {JobError} IMAGE_EXISTS: it has something else of that name
 */
async function isThere({ pool, name, source, sums, options }: Import): Promise<boolean> {
  const found = await lookAt(pool, name, async image => ({
    base: await findBase(image),
    record: await readRecord(image),
  }))
  if (found === undefined) return false
  const { base, record } = found
  if (base === undefined) throw nameTaken(pool, name, `without a snapshot ${baseSnapshot}`)
  if (record === undefined) throw nameTaken(pool, name, 'without a record of what it was made of')
  const compared = { ...sums }
  if (!isKnown(sums, record)) {
    await using origin = await Origin.open(source, options.signal)
    for await (const _ of origin.bytes(compared, options));
  }
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const [wanted, recorded] = [compared[algorithm], record[algorithm]]
    if (wanted === undefined || recorded === undefined || wanted === recorded) continue
    throw nameTaken(pool, name, `of a file whose ${algorithm} is ${recorded}`)
  }
  return true
}

/** Whether the caller has said enough to compare: then the file need not be read. */
function isKnown(sums: Checksums, record: Checksums): boolean {
  return (['sha256', 'sha512'] as const).some(
    algorithm => sums[algorithm] !== undefined && record[algorithm] !== undefined,
  )
}

function nameTaken(pool: Pool, name: string, which: string): Error {
  return new JobError('IMAGE_EXISTS', `there is an image ${pool.path}/${name} ${which}`)
}

function isUnfinished(image: string, name: string): boolean {
  const prefix = `${name}.import-`
  return image.startsWith(prefix) && /^[0-9a-f-]{36}$/.test(image.slice(prefix.length))
}

/** Removes what imports of that name have left; answers the name of one that is still at work. */
async function removeLeftovers(pool: Pool, name: string): Promise<string | undefined> {
  let busy: string | undefined
  for (const image of await pool.listImages()) {
    if (isUnfinished(image.name, name) && !(await removeUnfinished(pool, image.name))) busy = image.name
  }
  return busy
}

/** Answers false, and leaves it, if somebody has it open. */
async function removeUnfinished(pool: Pool, name: string): Promise<boolean> {
  const found = await lookAt(pool, name, async image => ({
    watchers: await image.watchers(),
    base: await findBase(image),
  }))
  if (found !== undefined && found.watchers.length > 0) return false
  if (found?.base !== undefined) {
    await using image = await pool.openImage(name)
    const snapshot = image.snapshot(baseSnapshot)
    if (found.base.protected) await snapshot.unprotect()
    await snapshot.remove()
  }
  try {
    // Even if there is no such image: a name without an image can be what is left.
    await pool.removeImage(name)
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
  return true
}

async function removeOrTell(pool: Pool, name: string, failure: unknown): Promise<void> {
  try {
    await removeUnfinished(pool, name)
  } catch (error) {
    const left = `${pool.path}/${name} is left until the next import: ${messageOf(error)}`
    throw new AggregateError([failure, error], `${messageOf(failure)}; and ${left}`)
  }
}
