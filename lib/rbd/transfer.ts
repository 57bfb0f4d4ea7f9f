/** Images to and from files: raw ones here, with their holes, and qcow2 by qemu-img. */
import { constants } from 'node:fs'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkCallOptions, checkKey, checkOneOf, checkOptions, outOfRange, wrongType, wrongValue } from '../check.js'
import { ImageBusyError, ImageNotFoundError } from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import { forEachInFlight, pieceBytes, toldOfFailure, writeNonZero } from './chunks.js'
import { type Extent, nonZero, pieces, unpackExtents, withHoles } from './extents.js'
import type { Image } from './image.js'
import { type CreateImageOptions, type ImageLayout, imageOptionNames } from './options.js'
import { presentNameOf } from './present-name.js'
import { Progress } from './progress.js'
import { checkForQcow2, convertFromImage, convertToImage, qcow2Size } from './qcow2.js'
import { consume } from './source.js'
import { checkStillWhole, checkWhole } from './still-there.js'
import { importStream } from './stream-import.js'

const formats = ['raw', 'qcow2'] as const

/** For the OSDs, as `rbd` has it: nobody else will want the same soon. */
const fadvise = ['sequential', 'nocache'] as const

export interface TransferOptions extends ProgressOptions {
  /** `qcow2` needs `qemu-img`, with its driver for RBD. Default: `raw`. */
  format?: (typeof formats)[number] | undefined
}

export interface ImportImageOptions extends TransferOptions, ImageLayout {}

/** `Image.exportTo()`. */
export async function exportTo(image: Image, path: string, options: TransferOptions): Promise<void> {
  checkKey('path', path)
  const { qcow2, callOptions } = checkTransfer(options)
  const progress = new Progress(await image.size(signalOf(callOptions)), callOptions)
  if (qcow2) checkForQcow2(image, progress.total)
  const file = await open(path, 'wx')
  try {
    try {
      if (qcow2) await convertFromImage(image, file, path, progress)
      else await exportRaw(image, file, progress)
      await checkStillWhole(image, progress.total, signalOf(callOptions))
    } finally {
      await file.close()
    }
  } catch (error) {
    throw await undone(error, () => unlink(path))
  }
}

/** `Image.importFrom()`. */
export async function importFrom(image: Image, source: string | Readable, options: TransferOptions): Promise<void> {
  const { qcow2, callOptions } = checkTransfer(options, source)
  if (source instanceof Readable) {
    await consume(source, callOptions, async progress => {
      await checkEmpty(image, progress)
      await importStream(image, source, progress)
    })
    return
  }
  if (qcow2) checkForQcow2(image, 0)
  await using file = await openFile(source)
  const progress = new Progress(await (qcow2 ? qcow2Size : rawSize)(file, source), callOptions)
  await checkEmpty(image, progress)
  if (qcow2) await convertToImage(image, file, source, progress)
  else await importRaw(image, file, progress)
  await image.flush(signalOf(callOptions))
}

/** `Pool.importImage()`. */
export async function importImage(
  pool: Pool,
  name: string,
  source: string | Readable,
  options: ImportImageOptions,
): Promise<void> {
  checkOptions(options, [...imageOptionNames, 'format'])
  const { format, signal, onProgress, ...layout } = options
  const transfer = { format, signal, onProgress }
  const { qcow2, callOptions } = checkTransfer(transfer, source)
  if (source instanceof Readable) {
    await consume(source, callOptions, progress =>
      makeImage(pool, name, { ...layout, size: 0 }, image => importStream(image, source, progress, { grows: true })),
    )
    return
  }
  const size = await sizeOf(source, qcow2)
  new Progress(size, transfer).throwIfAborted()
  const patienceMs = qcow2 ? killedClientMs : 0
  await makeImage(pool, name, { ...layout, size }, image => image.importFrom(source, transfer), patienceMs)
}

/** For so long the OSDs take a client for one that has the image open which was killed, as qemu-img is by an abort. */
const killedClientMs = 45_000

/** Without the signal, for an abort would not tell whether the image was made. */
async function makeImage(
  pool: Pool,
  name: string,
  options: CreateImageOptions,
  fill: (image: Image) => Promise<void>,
  patienceMs = 0,
): Promise<void> {
  await pool.createImage(name, options)
  let id = ''
  try {
    await using image = await pool.openImage(name)
    id = (await image.stat()).id
    await fill(image)
  } catch (error) {
    throw await undone(error, () => removeMade(pool, name, id, patienceMs))
  }
}

/** By its id, for another image may have its name by now. */
async function removeMade(pool: Pool, name: string, id: string, patienceMs: number): Promise<void> {
  const giveUpAt = performance.now() + patienceMs
  const made = { pool, name, resource: { kind: 'image', name: `${pool.path}/${name}` } } as const
  for (;;) {
    try {
      return await pool.removeImage(await presentNameOf(made, id, {}))
    } catch (error) {
      if (error instanceof ImageNotFoundError) return removeDiscarded(pool, id)
      if (!(error instanceof ImageBusyError) || performance.now() > giveUpAt) throw error
      await sleep(1000)
    }
  }
}

/**
 * In the trash, where somebody else may have put it, or a removal that could not go on. Images of the old format have no id, and
 * are never there.
 */
async function removeDiscarded(pool: Pool, id: string): Promise<void> {
  if (id === '') return
  try {
    await pool.trash.remove(id, { force: true })
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}

function checkTransfer(options: TransferOptions, source: unknown = '') {
  const isStream = source instanceof Readable
  if (!isStream && typeof source !== 'string') {
    throw wrongType('source', 'a path, or a Readable of node:stream', source)
  }
  checkOptions(options, ['format'])
  const { format = 'raw', ...callOptions } = options
  checkCallOptions(callOptions)
  const qcow2 = checkOneOf('format', format, formats) === 'qcow2'
  if (isStream && qcow2) throw wrongValue('format', 'raw, where the source is a stream', format)
  return { qcow2, callOptions }
}

const signalOf = ({ signal }: CallOptions): CallOptions => ({ signal })

/** Takes back what a failure has left half made; if that fails as well, both are told. */
async function undone(error: unknown, undo: () => Promise<unknown>): Promise<unknown> {
  try {
    await undo()
    return error
  } catch (other) {
    return new AggregateError([error, other], `${error}; and what was made of it could not be removed: ${other}`)
  }
}

async function exportRaw(image: Image, file: FileHandle, progress: Progress): Promise<void> {
  const { signal, total: size } = progress
  await file.truncate(size)
  const data = image.diff({ wholeObject: true, includeParent: true, length: size, signal })
  await forEachInFlight(dataPieces(withHoles(data, 0, size), progress), async ({ offset, length }, buffer) => {
    const piece = buffer.subarray(0, length)
    checkWhole(image, await image.read(offset, piece, { signal, fadvise }), length)
    for (const [start, end] of nonZero(piece)) await writeToFile(file, piece.subarray(start, end), offset + start)
    progress.add(length)
  })
}

async function importRaw(image: Image, file: FileHandle, progress: Progress): Promise<void> {
  const { signal } = progress
  const size = progress.total
  // As `writeNonZero()` has it.
  const all = [{ offset: 0, length: size, exists: true }]
  const data = image.encrypted ? all : withHoles(fileData(image, file), 0, size)
  await forEachInFlight(dataPieces(data, progress), async ({ offset, length }, buffer) => {
    const piece = buffer.subarray(0, length)
    await readFromFile(file, piece, offset)
    await writeNonZero(image, offset, piece, { signal, fadvise: [...fadvise, ...toldOfFailure] })
    progress.add(length)
  })
  if ((await rawSize(file)) < progress.total) throw becameShorter()
}

/** What is to be copied, piece by piece; the holes count as done when their turn comes. */
async function* dataPieces(
  extents: AsyncIterable<Extent> | Iterable<Extent>,
  progress: Progress,
): AsyncGenerator<Extent, void, undefined> {
  for await (const extent of extents) {
    if (extent.exists) yield* pieces(extent, pieceBytes)
    else progress.add(extent.length)
  }
}

/** How many stretches of a file one native call finds. */
const extentsPerCall = 4096

async function* fileData(image: Image, file: FileHandle): AsyncGenerator<Extent, void, undefined> {
  for (let at = 0; ; ) {
    const packed = await call(image.resource, {}, () => native.fileData(file.fd, at, extentsPerCall))
    const found = [...unpackExtents(packed)]
    yield* found
    const last = found.at(-1)
    if (last === undefined || found.length < extentsPerCall) return
    at = last.offset + last.length
  }
}

async function openFile(path: string): Promise<FileHandle> {
  checkKey('path', path)
  // A pipe that nobody writes to would have one of libuv's four threads wait for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  if ((await file.stat()).isFile()) return file
  await file.close()
  throw wrongValue('path', 'that of a regular file', path)
}

async function rawSize(file: FileHandle): Promise<number> {
  return (await file.stat()).size
}

async function sizeOf(path: string, qcow2: boolean): Promise<number> {
  await using file = await openFile(path)
  return await (qcow2 ? qcow2Size : rawSize)(file, path)
}

/** Holes and zeroes are left out, so there must be nothing where they are; and room for what is known to come. */
async function checkEmpty(image: Image, { total: size, signal }: Progress): Promise<void> {
  const room = await image.size({ signal })
  if (size > room) throw outOfRange('path', `that of at most ${room} bytes, the size of ${image.path}`, size)
  for await (const _ of image.diff({ wholeObject: true, includeParent: true, signal })) {
    throw wrongValue('image', 'empty', image.path)
  }
}

async function readFromFile(file: FileHandle, into: Buffer, position: number): Promise<void> {
  for (let filled = 0; filled < into.length; ) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled)
    if (bytesRead === 0) throw becameShorter()
    filled += bytesRead
  }
}

function becameShorter(): Error {
  return new Error('the file became shorter while it was read')
}

async function writeToFile(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let written = 0; written < data.length; ) {
    written += (await file.write(data, written, data.length - written, position + written)).bytesWritten
  }
}
