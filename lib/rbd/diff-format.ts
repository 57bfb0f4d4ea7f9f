/** rbd's own format for what differs between two snapshots, as `rbd export-diff` writes it: "rbd diff v1". */
import { constants } from 'node:os'
import { Readable } from 'node:stream'
import { destroyOnAbort } from '../abort.js'
import type { CallOptions, ProgressOptions } from '../call.js'
import { checkBoolean, checkCallOptions, checkName, checkOptions, wrongType } from '../check.js'
import { toCephError } from '../errors.js'
import { ByteReader } from './byte-reader.js'
import { ChunkWriter, chunkBytes, chunksInFlight } from './chunks.js'
import { type Extent, nonZero, pieces } from './extents.js'
import type { Image } from './image.js'
import { Progress } from './progress.js'
import { consume } from './source.js'
import { checkStillWhole } from './still-there.js'
import { readAhead } from './streams.js'

export interface ExportDiffOptions extends ProgressOptions {
  /** Only what has changed since this snapshot. Default: since there was nothing. */
  from?: string | undefined
  /** Whole objects, as for `image.diff()`. Default: false. */
  wholeObject?: boolean | undefined
}

/** What was to be a diff of rbd's is none, or ends in the middle. */
export class DiffFormatError extends Error {
  readonly code = 'ERR_DIFF_FORMAT'
  override readonly name = 'DiffFormatError'
}

const banner = 'rbd diff v1\n'

const tags = { from: 'f', to: 't', size: 's', write: 'w', zero: 'z', end: 'e' } as const

/** As much of a name as `rbd import-diff` takes, in bytes. */
const maxNameBytes = 4096

/** `Image.exportDiff()`. */
export function exportDiff(image: Image, options: ExportDiffOptions): Readable {
  checkOptions(options, ['from', 'wholeObject'])
  const { from, wholeObject = false, ...callOptions } = options
  checkCallOptions(callOptions)
  if (from !== undefined) checkName('from', from)
  checkBoolean('wholeObject', wholeObject)
  const records = encode(image, from, wholeObject, callOptions)
  return destroyOnAbort(Readable.from(records, { objectMode: false, highWaterMark: chunkBytes }), options.signal)
}

async function* encode(
  image: Image,
  from: string | undefined,
  wholeObject: boolean,
  options: ProgressOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const size = await image.size()
  const progress = new Progress(size, options)
  yield header(image, from, size)
  const extents = image.diff({ from, wholeObject, includeParent: true, length: size })
  for await (const { offset, length, data } of readAhead(image, extents, chunkBytes, chunksInFlight - 1)) {
    if (data === null || nonZero(data).next().done) {
      yield record(tags.zero, offset, length)
    } else {
      yield record(tags.write, offset, length)
      yield data
    }
    progress.at(offset + length)
  }
  await checkStillWhole(image, size)
  yield Buffer.from(tags.end)
  progress.at(size)
}

function header(image: Image, from: string | undefined, size: number): Buffer {
  const parts: Buffer[] = [Buffer.from(banner)]
  if (from !== undefined) parts.push(named(tags.from, from))
  if (image.snapshotName !== null) parts.push(named(tags.to, image.snapshotName))
  parts.push(record(tags.size, size))
  return Buffer.concat(parts)
}

function named(tag: string, name: string): Buffer {
  const text = Buffer.from(`${tag}....${name}`)
  text.writeUInt32LE(text.length - 5, 1)
  return text
}

function record(tag: string, ...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(1 + 8 * numbers.length, tag)
  for (const [i, number] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(number), 1 + 8 * i)
  return bytes
}

/** `Image.importDiff()`. */
export async function importDiff(image: Image, source: Readable, options: ProgressOptions): Promise<void> {
  if (!(source instanceof Readable)) throw wrongType('source', 'a Readable of node:stream', source)
  checkCallOptions(options)
  await consume(source, options, async progress => {
    const writer = new ChunkWriter(image)
    const reader = new ByteReader(source, () => new DiffFormatError('the diff ends in the middle'))
    try {
      await decode(image, reader, writer, progress)
    } finally {
      // What is in flight when something else has failed.
      await writer.settled()
    }
  })
}

async function decode(image: Image, reader: ByteReader, writer: ChunkWriter, progress: Progress): Promise<void> {
  const { signal } = progress
  if ((await reader.take(banner.length)).toString() !== banner) {
    throw new DiffFormatError(`a diff begins with ${JSON.stringify(banner)}`)
  }
  let to: string | undefined
  for (;;) {
    const tag = (await reader.take(1)).toString('latin1')
    switch (tag) {
      case tags.from:
        await checkSnapshot(image, await takeName(reader), true, { signal })
        break
      case tags.to:
        to = await takeName(reader)
        await checkSnapshot(image, to, false, { signal })
        break
      case tags.size:
        progress.total = await takeNumber(reader)
        await resize(image, progress.total, { signal })
        break
      case tags.write:
        await write(reader, writer, await takeExtent(reader, true), progress)
        break
      case tags.zero:
        await writeZeroes(writer, await takeExtent(reader, false), progress)
        break
      case tags.end:
        await reader.expectEnd(() => new DiffFormatError('the diff goes on behind its end'))
        await writer.end()
        await image.flush({ signal })
        progress.at(progress.total)
        // The last thing that is done, and without the signal: an abort would not tell whether it was made.
        if (to !== undefined) await image.createSnapshot(to)
        return
      default:
        throw new DiffFormatError(`a diff has no records of type ${JSON.stringify(tag)}`)
    }
  }
}

async function write(
  reader: ByteReader,
  writer: ChunkWriter,
  { offset, length }: Extent,
  progress: Progress,
): Promise<void> {
  let at = offset
  for await (const data of reader.stream(length)) {
    await writer.write(at, data)
    at += data.length
  }
  progress.at(at)
}

/** A bit at a time, for librbd makes a request for each object of a range, all at once. */
async function writeZeroes(writer: ChunkWriter, extent: Extent, progress: Progress): Promise<void> {
  for (const { offset, length } of pieces(extent, chunkBytes)) {
    await writer.writeZeroes(offset, length)
    progress.at(offset + length)
  }
}

async function takeExtent(reader: ByteReader, exists: boolean): Promise<Extent> {
  const offset = await takeNumber(reader)
  const length = await takeNumber(reader)
  checkNumber(BigInt(offset) + BigInt(length))
  return { offset, length, exists }
}

async function takeNumber(reader: ByteReader): Promise<number> {
  return checkNumber((await reader.take(8)).readBigUInt64LE())
}

function checkNumber(number: bigint): number {
  if (number > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiffFormatError(`${number} is too large for a diff`)
  return Number(number)
}

async function takeName(reader: ByteReader): Promise<string> {
  const length = (await reader.take(4)).readUInt32LE()
  if (length > maxNameBytes) throw new DiffFormatError(`the name of a snapshot has ${length} bytes`)
  const name = (await reader.take(length)).toString()
  try {
    return checkName('a snapshot that a diff names', name)
  } catch (error) {
    throw new DiffFormatError((error as Error).message, { cause: error })
  }
}

async function resize(image: Image, size: number, options: CallOptions): Promise<void> {
  const current = await image.size(options)
  if (current === size) return
  // To resize, librbd counts the header too, and nobody can ask how long it is.
  if (image.encrypted) {
    const message = `with an encryption loaded, the size of ${current} bytes cannot become ${size}`
    throw toCephError({ errno: -constants.errno.ENOTSUP, syscall: 'rbd_resize2', message }, image.resource)
  }
  await image.resize(size, { ...options, allowShrink: true })
}

async function checkSnapshot(image: Image, name: string, expected: boolean, options: CallOptions): Promise<void> {
  const snapshot = image.snapshot(name)
  if ((await snapshot.exists(options)) === expected) return
  const [errno, message] = expected
    ? [-constants.errno.ENOENT, 'the diff begins there']
    : [-constants.errno.EEXIST, 'the diff ends there']
  throw toCephError({ errno, message, syscall: 'rbd_snap_exists' }, { kind: 'snapshot', name: snapshot.path })
}
