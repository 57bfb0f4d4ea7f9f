/** The data of an image in chunks, several of them in flight: what streams, imports and exports go by. */
import { nonZero } from './extents.js'
import type { Image } from './image.js'
import type { IoOptions } from './io.js'

/** In bytes: as much as an object of the usual size holds. */
export const chunkBytes = 4 * 2 ** 20

/** With the chunk's size, this is what a stream, an import or an export takes of memory. */
export const chunksInFlight = 8

/** For librbd would tell of a write that fails after it has been taken to a flush that is under way then, and to no other. */
export const toldOfFailure = ['fua'] as const

/** In bytes: with whole chunks, less of reading a file, sending and storing goes on at once. */
export const pieceBytes = chunkBytes / 2

/**
 * Does the work for each item, so many at a time, each in a buffer of a piece. After a failure none begins any more,
 * those that run are waited for, unless by an abort of their own, and then it is thrown.
 */
export async function forEachInFlight<T>(
  items: AsyncIterator<T, void, undefined>,
  work: (item: T, buffer: Buffer) => Promise<void>,
): Promise<void> {
  let failed = false
  const worker = async () => {
    const buffer = Buffer.allocUnsafeSlow(pieceBytes)
    try {
      while (!failed) {
        const { value, done } = await items.next()
        if (done) return
        await work(value, buffer)
      }
    } catch (error) {
      failed = true
      throw error
    }
  }
  const workers = await Promise.allSettled(Array.from({ length: chunksInFlight }, worker))
  await items.return?.()
  const failure = workers.find(outcome => outcome.status === 'rejected')
  if (failure) throw failure.reason
}

/**
 * Writes to an empty image what of the data is not zeroes; where an encryption is loaded, all: what nobody has written to reads
 * as noise there, beside what somebody has.
 */
export async function writeNonZero(image: Image, offset: number, data: Buffer, options?: IoOptions): Promise<void> {
  if (image.encrypted) return image.write(offset, data, options)
  for (const [start, end] of nonZero(data)) await image.write(offset + start, data.subarray(start, end), options)
}

/** From and to, in bytes. */
type Range = readonly [start: number, end: number]

interface ChunkWriterOptions {
  sparse?: boolean
  onFailure?: (error: Error) => void
}

/**
 * Gathers bytes into whole chunks, and writes several of them at a time. One call after the other; when one of them
 * settles, its data has been copied.
 */
export class ChunkWriter {
  readonly #image: Image
  readonly #sparse: boolean
  readonly #onFailure: (error: Error) => void
  readonly #running = new Map<Promise<void>, Range>()
  readonly #spare: Buffer[] = []
  #failure: Error | undefined
  /** What is being gathered, and where in the image it begins. */
  #chunk: Buffer | undefined
  #start = 0
  #length = 0

  /**
   * @param options.sparse - Leave zeroes out. Default: false.
   * @param options.onFailure - Told at once of the first failure; every later call throws it too.
   */
  constructor(image: Image, { sparse = false, onFailure = () => {} }: ChunkWriterOptions = {}) {
    this.#image = image
    this.#sparse = sparse
    this.#onFailure = onFailure
  }

  async write(offset: number, data: Buffer): Promise<void> {
    for (let taken = 0; taken < data.length; ) {
      const at = offset + taken
      if (this.#chunk !== undefined && at !== this.#start + this.#length) this.#submit()
      this.#chunk ??= await this.#begin(at)
      taken += this.#gather(this.#chunk, data.subarray(taken))
    }
  }

  /** Makes the range, of no more than a chunk, read as zeroes. */
  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#submit()
    const range: Range = [offset, offset + length]
    await this.#room(range)
    this.#run(range, this.#image.writeZeroes(offset, length))
  }

  /** Writes what has been gathered, and waits for all. */
  async end(): Promise<void> {
    this.#submit()
    await this.settled()
    if (this.#failure) throw this.#failure
  }

  /** Begins no write any more: what has been gathered is left, and a call under way throws the reason. */
  stop(reason: Error): void {
    this.#failure ??= reason
  }

  /** When nothing is in flight any more, however it ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#running.keys())
  }

  async #begin(at: number): Promise<Buffer> {
    await this.#room([at, endOfChunk(at)])
    this.#start = at
    this.#length = 0
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(chunkBytes)
  }

  /** Takes what there is room for, up to the next multiple of a chunk. */
  #gather(chunk: Buffer, data: Buffer): number {
    const at = this.#start + this.#length
    const count = data.copy(chunk, this.#length, 0, endOfChunk(at) - at)
    this.#length += count
    if (at + count === endOfChunk(at)) this.#submit()
    return count
  }

  #submit(): void {
    const chunk = this.#chunk
    if (chunk === undefined) return
    this.#chunk = undefined
    if (this.#failure) return
    const data = chunk.subarray(0, this.#length)
    const options = { fadvise: toldOfFailure }
    const written = this.#sparse
      ? writeNonZero(this.#image, this.#start, data, options)
      : this.#image.write(this.#start, data, options)
    this.#run([this.#start, this.#start + this.#length], written, chunk)
  }

  #run(range: Range, work: Promise<void>, chunk?: Buffer): void {
    const running = work
      .catch(error => {
        if (this.#failure) return
        this.#failure = error
        this.#onFailure(error)
      })
      .finally(() => {
        this.#running.delete(running)
        if (chunk) this.#spare.push(chunk)
      })
    this.#running.set(running, range)
  }

  /** Waits until there may be one more in flight, and none for the same bytes: these would have no order. */
  async #room([start, end]: Range): Promise<void> {
    const overlaps = () => [...this.#running.values()].some(([from, to]) => from < end && start < to)
    while (this.#running.size >= chunksInFlight || overlaps()) await Promise.race(this.#running.keys())
    if (this.#failure) throw this.#failure
  }
}

const endOfChunk = (at: number) => at - (at % chunkBytes) + chunkBytes
