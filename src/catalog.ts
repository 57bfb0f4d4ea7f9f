/**
 * Golden images. One that has the snapshot `base` is complete, and volumes are cloned from that snapshot; one without is
 * still being imported, or never was.
 */
import { type FileHandle, open } from 'node:fs/promises'
import {
  type Image,
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
 * Safe to interrupt and to repeat: the pool's metadata says that the import was begun before anything is made, the
 * snapshot `base` comes last, and protected, and what has been begun and has no `base` is made anew.
 *
 * @param pool - Made for RBD already (`pool.initialize()`).
 * @param path - A file in raw format.
 * @returns Whether it was imported; false if it was there, complete.
 * @throws {JobError} IMAGE_EXISTS: there is another image of that name, of another size or not from an import
 * @throws {ImageBusyError} another import of that name is at work
 * @throws {AbortError}
 */
export async function importCatalogImage(
  pool: Pool,
  name: string,
  path: string,
  options: ProgressOptions = {},
): Promise<boolean> {
  await using file = await openFile(path)
  const begunKey = `cephkit.import.${name}`
  const begun = (await pool.metadata.get(begunKey)) !== undefined
  if (await isComplete(pool, name, file.size, begun)) {
    if (begun) await pool.metadata.remove(begunKey)
    return false
  }
  if (begun) await removeHalf(pool, name)
  else await pool.metadata.set(begunKey, new Date().toISOString())
  await pool.createImage(name, { size: file.size })
  await using image = await pool.openImage(name)
  await copyInto(image, file, options)
  await image.flush()
  options.signal?.throwIfAborted()
  await image.createSnapshot(baseSnapshot, { protect: true })
  await pool.metadata.remove(begunKey)
  return true
}

/** Whether there is nothing left to do. */
async function isComplete(pool: Pool, name: string, size: number, begun: boolean): Promise<boolean> {
  const base = await lookAt(pool, name, async image => (await findBase(image)) ?? null)
  if (base === undefined) return false
  if (base === null) {
    if (begun) return false
    throw nameTaken(pool, name, 'that no import has made')
  }
  if (base.size !== size) throw nameTaken(pool, name, `of ${base.size} bytes`)
  if (!base.protected) await protectBase(pool, name)
  return true
}

/** What an import was cut short in: an image, only its name, or nothing yet. */
async function removeHalf(pool: Pool, name: string): Promise<void> {
  try {
    await pool.removeImage(name)
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}

/** The import was cut short after the snapshot was made. */
async function protectBase(pool: Pool, name: string): Promise<void> {
  await using image = await pool.openImage(name)
  await image.snapshot(baseSnapshot).protect()
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
