/**
 * Golden images. Volumes are cloned from the snapshot `base`; an image without it is none of the catalog's.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import {
  type Image,
  ImageExistsError,
  ImageNotFoundError,
  type Pool,
  type ProgressOptions,
  type SnapshotInfo,
  type SnapshotReference,
} from '../lib/index.js'
import { forEachLimited } from './concurrency.js'
import { JobError } from './errors.js'
import { lookAt } from './volumes/find.js'

/** The snapshot that a catalog image offers. */
export const baseSnapshot = 'base'

/** As much as one object of the image holds, unless the pool has its own idea. */
const chunkBytes = 4 * 1024 * 1024

/** Chunks being read or written at a time: what an import takes of memory. */
const chunksAtOnce = 8

/** Zeroes are left out in pieces of this size. */
const blockBytes = 64 * 1024
const zeroes = Buffer.alloc(blockBytes)

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

/**
 * Puts a raw image file into the catalog. What the file has no data for takes no space, and memory stays bounded
 * whatever its size. Progress is in bytes.
 *
 * Safe to interrupt and to repeat: until the import is complete, its image has a name that no other has. What an import
 * that was cut short has left under such a name is removed by the next one.
 *
 * @param pool - Made for RBD already (`pool.initialize()`).
 * @param path - A file in raw format.
 * @returns Whether it was imported; false if it was there, complete.
 * @throws {JobError} IMAGE_EXISTS: there is another image of that name, of another size or without the snapshot `base`;
 *   IMAGE_BUSY: another import of that name is at work
 * @throws {AbortError}
 */
export async function importCatalogImage(
  pool: Pool,
  name: string,
  path: string,
  options: ProgressOptions = {},
): Promise<boolean> {
  await using file = await openFile(path)
  if (await isComplete(pool, name, file.size)) return false
  for (const image of await pool.listImages()) {
    if (isUnfinished(image.name, name)) await removeUnfinished(pool, image.name)
  }
  const unfinished = unfinishedName(name)
  await pool.createImage(unfinished, { size: file.size })
  try {
    await fillAndRename(pool, { unfinished, name }, file, options)
    return true
  } catch (error) {
    if (!(error instanceof ImageExistsError)) throw error
    // Somebody else has been faster.
    await removeUnfinished(pool, unfinished)
    if (await isComplete(pool, name, file.size)) return false
    throw error
  }
}

/** Has the image open until the end, which shows to others that the import is at work. */
async function fillAndRename(
  pool: Pool,
  { unfinished, name }: { unfinished: string; name: string },
  file: RawFile,
  options: ProgressOptions,
): Promise<void> {
  await using image = await pool.openImage(unfinished)
  await copyInto(image, file, options)
  await image.flush()
  options.signal?.throwIfAborted()
  await image.createSnapshot(baseSnapshot, { protect: true })
  await pool.renameImage(unfinished, name)
}

/** Whether there is nothing left to do. */
async function isComplete(pool: Pool, name: string, size: number): Promise<boolean> {
  const base = await lookAt(pool, name, async image => (await findBase(image)) ?? null)
  if (base === undefined) return false
  if (base === null) throw nameTaken(pool, name, `without a snapshot ${baseSnapshot}`)
  if (base.size !== size) throw nameTaken(pool, name, `of ${base.size} bytes`)
  return true
}

function unfinishedName(name: string): string {
  return `${name}.import-${randomUUID()}`
}

function isUnfinished(image: string, name: string): boolean {
  const prefix = `${name}.import-`
  return image.startsWith(prefix) && /^[0-9a-f-]{36}$/.test(image.slice(prefix.length))
}

async function removeUnfinished(pool: Pool, name: string): Promise<void> {
  const base = await lookAt(pool, name, async image => {
    if ((await image.watchers()).length === 0) return findBase(image)
    throw new JobError('IMAGE_BUSY', `an import is at work on ${pool.path}/${name}`, { retryable: true })
  })
  if (base !== undefined) await removeBase(pool, name, base)
  try {
    await pool.removeImage(name)
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}

async function removeBase(pool: Pool, name: string, base: SnapshotInfo): Promise<void> {
  await using image = await pool.openImage(name)
  const snapshot = image.snapshot(baseSnapshot)
  if (base.protected) await snapshot.unprotect()
  await snapshot.remove()
}

async function findBase(image: Image): Promise<SnapshotInfo | undefined> {
  return (await image.listSnapshots()).find(({ name }) => name === baseSnapshot)
}

function nameTaken(pool: Pool, name: string, which: string): Error {
  return new JobError('IMAGE_EXISTS', `there is an image ${pool.path}/${name} ${which}`)
}

interface RawFile extends AsyncDisposable {
  handle: FileHandle
  /** In bytes. */
  size: number
}

async function openFile(path: string): Promise<RawFile> {
  const handle = await open(path)
  const stat = await handle.stat()
  if (!stat.isFile() || stat.size === 0) {
    await handle.close()
    throw new Error(`${path} is no image: it must be a file, and not empty`)
  }
  return { handle, size: stat.size, [Symbol.asyncDispose]: () => handle.close() }
}

async function copyInto(image: Image, { handle, size }: RawFile, options: ProgressOptions): Promise<void> {
  let done = 0
  await forEachLimited(chunkOffsets(size), chunksAtOnce, async offset => {
    options.signal?.throwIfAborted()
    const chunk = await readChunk(handle, offset, Math.min(chunkBytes, size - offset))
    for (const [start, end] of dataIn(chunk)) await image.write(offset + start, chunk.subarray(start, end))
    done += chunk.length
    options.onProgress?.(done, size)
  })
}

function* chunkOffsets(size: number): Generator<number> {
  for (let offset = 0; offset < size; offset += chunkBytes) yield offset
}

async function readChunk(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const chunk = Buffer.allocUnsafe(length)
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(chunk, filled, length - filled, offset + filled)
    if (bytesRead === 0) throw new Error(`the file became shorter while it was read, at byte ${offset + filled}`)
    filled += bytesRead
  }
  return chunk
}

/** Where the chunk has anything but zeroes: from and to, in whole blocks, neighbours joined. */
function dataIn(chunk: Buffer): [start: number, end: number][] {
  const stretches: [number, number][] = []
  for (let start = 0; start < chunk.length; start += blockBytes) {
    const end = Math.min(start + blockBytes, chunk.length)
    if (chunk.subarray(start, end).equals(zeroes.subarray(0, end - start))) continue
    const last = stretches.at(-1)
    if (last?.[1] === start) last[1] = end
    else stretches.push([start, end])
  }
  return stretches
}
