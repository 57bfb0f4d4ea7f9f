/** Images as streams, with a bounded number of requests in flight. */
import { Readable, Writable } from 'node:stream'
import { destroyOnAbort } from '../abort.js'
import { checkBoolean, checkBytes, checkInteger, checkMembers, wrongType } from '../check.js'
import { AbortError } from '../errors.js'
import { ChunkWriter, chunkBytes, chunksInFlight } from './chunks.js'
import { type Extent, pieces, withHoles } from './extents.js'
import type { Image } from './image.js'
import { checkStillWhole, checkWhole } from './still-there.js'

export interface ReadStreamOptions {
  /** Where to begin, in bytes. Default: 0. */
  start?: number | undefined
  /** The last byte to read, as in `fs.createReadStream()`: it is part of the stream. Default: that of the image. */
  end?: number | undefined
  /** Make the zeroes of holes, and do not ask the cluster for them. Default: false. */
  skipHoles?: boolean | undefined
  /** How much to read ahead of whoever consumes the stream, in bytes. Default: 32 MiB. */
  highWaterMark?: number | undefined
  /** Destroys the stream with an AbortError. */
  signal?: AbortSignal | undefined
}

export interface WriteStreamOptions {
  /** Where to begin, in bytes. Default: 0. */
  start?: number | undefined
  /** Destroys the stream with an AbortError. */
  signal?: AbortSignal | undefined
}

/** Smaller ones would cost more than they save of memory, unless that is all there is to have. In bytes. */
const minChunkBytes = 64 * 1024

/** `Image.createReadStream()`. */
export function createReadStream(image: Image, options: ReadStreamOptions): Readable {
  checkMembers('options', options, ['start', 'end', 'skipHoles', 'highWaterMark', 'signal'])
  const {
    start = 0,
    end = Number.MAX_SAFE_INTEGER - 1,
    skipHoles = false,
    highWaterMark = chunksInFlight * chunkBytes,
    signal,
  } = options
  checkBytes('start', start)
  checkInteger('end', end, start)
  checkBoolean('skipHoles', skipHoles)
  checkInteger('highWaterMark', highWaterMark, 1)
  checkSignal(signal)
  const size = Math.min(
    chunkBytes,
    Math.max(Math.floor(highWaterMark / chunksInFlight), Math.min(highWaterMark, minChunkBytes)),
  )
  // One chunk waits in the stream itself.
  const ahead = Math.max(1, Math.floor(highWaterMark / size) - 1)
  const chunks = bytesOf(image, { start, limit: end + 1, skipHoles }, size, ahead)
  return destroyOnAbort(Readable.from(chunks, { objectMode: false, highWaterMark: size }), signal)
}

async function* bytesOf(
  image: Image,
  { start, limit, skipHoles }: { start: number; limit: number; skipHoles: boolean },
  size: number,
  ahead: number,
): AsyncGenerator<Buffer, void, undefined> {
  const end = Math.min(limit, await image.size())
  if (end <= start) return
  const extents = skipHoles ? extentsWithin(image, start, end) : [{ offset: start, length: end - start, exists: true }]
  for await (const { length, data } of readAhead(image, extents, size, ahead)) yield data ?? Buffer.alloc(length)
  await checkStillWhole(image, end)
}

function extentsWithin(image: Image, start: number, end: number): AsyncIterable<Extent> {
  const data = image.diff({ wholeObject: true, includeParent: true, offset: start, length: end - start })
  return withHoles(data, start, end)
}

/** A piece of an image, and what is in it; null for a hole. */
export interface Piece {
  offset: number
  length: number
  data: Buffer | null
}

/**
 * Reads so many pieces ahead, and gives them in order. Does not end, or fail, before all reads have ended, for librbd
 * writes to their buffers.
 */
export async function* readAhead(
  image: Image,
  extents: AsyncIterable<Extent> | Iterable<Extent>,
  size: number,
  ahead: number,
): AsyncGenerator<Piece, void, undefined> {
  const reads: Promise<Piece>[] = []
  try {
    for await (const extent of extents) {
      for (const piece of pieces(extent, size)) {
        const read = readPiece(image, piece)
        // A failure is looked at when its turn comes.
        read.catch(() => {})
        reads.push(read)
        if (reads.length === ahead) yield (await reads.shift()) as Piece
      }
    }
    while (reads.length > 0) yield (await reads.shift()) as Piece
  } finally {
    await Promise.allSettled(reads)
  }
}

async function readPiece(image: Image, { offset, length, exists }: Extent): Promise<Piece> {
  if (!exists) return { offset, length, data: null }
  const data = await image.read(offset, length)
  checkWhole(image, data.length, length)
  return { offset, length, data }
}

/** `Image.createWriteStream()`. */
export function createWriteStream(image: Image, options: WriteStreamOptions): Writable {
  checkMembers('options', options, ['start', 'signal'])
  const { start = 0, signal } = options
  let at = checkBytes('start', start)
  checkSignal(signal)
  let work: Promise<void> = Promise.resolve()
  // In a turn of its own, so that an exception of whoever listens is the process's, and not swallowed here.
  const settle = (begun: Promise<void>, done: (error?: Error) => void) => {
    work = begun.then(
      () => process.nextTick(done),
      (error: Error) => process.nextTick(done, error),
    )
  }
  const writer = new ChunkWriter(image, { onFailure: error => stream.destroy(error) })
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      settle(writer.write(at, chunk), done)
      at += chunk.length
    },
    final(done) {
      settle(
        writer.end().then(() => image.flush()),
        done,
      )
    },
    destroy(error, done) {
      writer.stop(error ?? new AbortError({ cause: 'the stream was destroyed' }))
      const settled = Promise.all([work, writer.settled()])
      settled.then(() => process.nextTick(done, error))
    },
  })
  return destroyOnAbort(stream, signal)
}

function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrongType('signal', 'an AbortSignal', signal)
}
