/**
 * Does random things to an image from many writers at once, and checks every byte against a model of what it must hold.
 *
 * Changes that overlap are kept apart, for nobody could say which of them wins. All others are in flight together, also
 * while snapshots are made and removed, and the image is flattened or grows; for a rollback, a clone and a shrink they
 * pause.
 */
import { buffer } from 'node:stream/consumers'
import { finished } from 'node:stream/promises'
import { type Image, KiB, MiB, MismatchError, type Pool } from '../../lib/index.js'
import { randomNumbers } from './random.js'
import { RangeLocks } from './range-locks.js'

export interface VerifierOptions {
  /** What is done follows from it; what meets what in time does not. */
  seed: number
  operations: number
  /** How many writers there are. */
  depth: number
}

export interface Change {
  /** Of the operation: its place among all. */
  number: number
  kind: string
  offset: number
  data: Buffer
}

/** What an image, or a snapshot of it, must hold. */
export interface Expectation {
  imageName: string
  snapshot?: string
  content: Buffer
}

type Random = (below: number) => number
type Perform = (offset: number, length: number) => Promise<void>

const layout = { size: 4 * MiB, objectSize: 64 * KiB }
/** Ranges that no data has, each of which is taken once. */
const beyondImages = 2 ** 40
const maxSize = 8 * MiB
const sector = 512
/** How many images the last clone can be apart from the first image. */
const maxGenerations = 5

export class Verifier {
  /** How often each kind of operation was done. */
  readonly counts: Record<string, number> = {}
  /** How many reads and writes were in flight at the same time at most. */
  maxInFlight = 0
  #busy = 0
  readonly #options: VerifierOptions
  readonly #ranges = new RangeLocks()
  /** What concerns the image as a whole is done one at a time. */
  readonly #whole = new RangeLocks()
  readonly #inFlight = new Set<Change>()
  /** The changes that a snapshot which is being made may or may not have. */
  #undecided: Change[] | undefined
  readonly #history: Change[] = []
  #started = 0
  #names = 0
  #generation = 0
  #elsewhere = 0
  #image: Image
  #content = Buffer.alloc(layout.size)
  /** Of the image that is worked on. */
  #snapshots: Expectation[] = []
  /** The images that it is a clone of, directly or not, and their snapshots. */
  readonly #ancestors: Expectation[] = []

  /** @param image - From `firstImage()`. */
  constructor(image: Image, options: VerifierOptions) {
    this.#image = image
    this.#options = options
  }

  get #pool(): Pool {
    return this.#image.pool
  }

  /** All that must be as the model says, once `run()` is over: the image itself comes first. */
  get expectations(): Expectation[] {
    return [{ imageName: this.#image.name, content: this.#content }, ...this.#snapshots, ...this.#ancestors]
  }

  /** Rejects when something is not as the model says. */
  async run(): Promise<void> {
    const writers = Array.from({ length: this.#options.depth }, (_, index) => this.#write(index))
    const failed = (await Promise.allSettled(writers)).find(result => result.status === 'rejected')
    if (failed) throw failed.reason
    await this.#image.close()
    await this.check()
  }

  /** The same of what is there now. */
  async check(): Promise<void> {
    for (const expectation of this.expectations) await this.#checkOne(expectation)
  }

  async #write(index: number): Promise<void> {
    const random = randomNumbers(this.#options.seed * 1000 + index)
    while (this.#started < this.#options.operations) {
      this.#started++
      const [kind, operate] = this.#choose(random)
      this.counts[kind] = (this.counts[kind] ?? 0) + 1
      try {
        await operate()
      } catch (error) {
        this.#started = this.#options.operations // nobody goes on
        throw error
      }
    }
  }

  /** How often each is done, of a thousand. */
  #choose(random: Random): [kind: string, operate: () => Promise<void>] {
    const kinds: [number, string, () => Promise<void>][] = [
      [280, 'write', () => this.#inRange(random, this.#writeOnce)],
      [100, 'writev', () => this.#inRange(random, (offset, length) => this.#writev(random, offset, length))],
      [60, 'writeSame', () => this.#inSectors(random, this.#writeSame)],
      [80, 'writeZeroes', () => this.#inRange(random, (offset, length) => this.#writeZeroes(random, offset, length))],
      [100, 'discard', () => this.#inRange(random, this.#discard)],
      [100, 'compareAndWrite', () => this.#inSectors(random, offset => this.#compareAndWrite(random, offset))],
      [130, 'read', () => this.#inRange(random, this.#read)],
      [60, 'readv', () => this.#inRange(random, (offset, length) => this.#readv(random, offset, length))],
      [20, 'writeStream', () => this.#inRange(random, this.#writeStream)],
      [20, 'readStream', () => this.#inRange(random, (offset, length) => this.#readStream(random, offset, length))],
      [12, 'flush', () => this.#besides(() => this.#image.flush())],
      [8, 'invalidateCache', () => this.#besides(() => this.#image.invalidateCache())],
      [8, 'createSnapshot', () => this.#alone(() => this.#createSnapshot())],
      [6, 'readSnapshot', () => this.#alone(() => this.#readSnapshot(random))],
      [4, 'removeSnapshot', () => this.#alone(() => this.#removeSnapshot(random))],
      [2, 'rollback', () => this.#paused(() => this.#rollback(random))],
      [4, 'grow', () => this.#alone(() => this.#grow(random))],
      [3, 'shrink', () => this.#paused(() => this.#shrink(random))],
      [1, 'clone', () => this.#paused(() => this.#clone())],
      [1, 'flatten', () => this.#alone(() => this.#flatten())],
      [1, 'reopen', () => this.#paused(() => this.#reopen(this.#image.name))],
    ]
    let chosen = random(kinds.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, kind, operate] of kinds) {
      chosen -= weight
      if (chosen < 0) return [kind, operate]
    }
    throw new Error('the weights do not add up')
  }

  /** Alone in a range that may be anywhere, though more often where objects meet and at the end. */
  async #inRange(random: Random, perform: Perform): Promise<void> {
    const size = this.#content.length
    const length = 1 + random([sector, 8 * KiB, 32 * KiB, 160 * KiB][random(4)] ?? 1)
    const border = random(size / layout.objectSize) * layout.objectSize
    const offset = [random(size), random(size), border - random(length), size - length][random(4)] ?? 0
    await this.#locked(Math.max(0, Math.min(offset, size - length)), length, perform)
  }

  /** The same, of whole sectors. */
  async #inSectors(random: Random, perform: Perform): Promise<void> {
    const length = (1 + random(16)) * sector
    await this.#locked(random(Math.floor((this.#content.length - length) / sector)) * sector, length, perform)
  }

  async #locked(offset: number, length: number, perform: Perform): Promise<void> {
    const release = await this.#ranges.take(offset, offset + length)
    this.maxInFlight = Math.max(this.maxInFlight, ++this.#busy)
    try {
      // The image may have been shrunk in the meantime.
      if (offset + length <= this.#content.length) await perform.call(this, offset, length)
    } finally {
      this.#busy--
      release()
    }
  }

  async #alone(perform: () => Promise<void>): Promise<void> {
    const release = await this.#whole.takeAll()
    await perform().finally(release)
  }

  /** Beside whatever is done to the data, and not while that pauses. */
  async #besides(perform: () => Promise<void>): Promise<void> {
    const place = beyondImages + this.#elsewhere++
    const release = await this.#ranges.take(place, place + 1)
    await perform().finally(release)
  }

  async #paused(perform: () => Promise<void>): Promise<void> {
    await this.#alone(async () => {
      const release = await this.#ranges.takeAll()
      await perform().finally(release)
    })
  }

  /** What the change has written counts from when it has resolved. */
  async #change(kind: string, offset: number, data: Buffer, perform: () => Promise<void>): Promise<void> {
    const change = { number: this.#history.length, kind, offset, data }
    this.#history.push(change)
    this.#inFlight.add(change)
    this.#undecided?.push(change)
    await perform()
    this.#inFlight.delete(change)
    this.apply(change)
  }

  /** The model's half of a change. */
  protected apply({ offset, data }: Change): void {
    data.copy(this.#content, offset)
  }

  async #writeOnce(offset: number, length: number): Promise<void> {
    const data = this.#newData(offset, length)
    await this.#change('write', offset, data, () => this.#image.write(offset, data))
  }

  async #writev(random: Random, offset: number, length: number): Promise<void> {
    const data = this.#newData(offset, length)
    await this.#change('writev', offset, data, () => this.#image.writev(offset, pieces(random, data)))
  }

  async #writeSame(offset: number, length: number): Promise<void> {
    const once = this.#newData(offset, sector)
    await this.#change('writeSame', offset, Buffer.alloc(length, once), () =>
      this.#image.writeSame(offset, length, once),
    )
  }

  async #writeZeroes(random: Random, offset: number, length: number): Promise<void> {
    const thickProvision = random(2) === 0
    await this.#change(thickProvision ? 'writeZeroes (thick)' : 'writeZeroes', offset, Buffer.alloc(length), () =>
      this.#image.writeZeroes(offset, length, { thickProvision }),
    )
  }

  async #writeStream(offset: number, length: number): Promise<void> {
    const data = this.#newData(offset, length)
    const write = () => finished(this.#image.createWriteStream({ start: offset }).end(data))
    await this.#change('writeStream', offset, data, write)
  }

  async #discard(offset: number, length: number): Promise<void> {
    await this.#change('discard', offset, Buffer.alloc(length), () => this.#image.discard(offset, length))
  }

  /** Every other one expects a byte that is not there. */
  async #compareAndWrite(random: Random, offset: number): Promise<void> {
    const expected = Buffer.from(this.#content.subarray(offset, offset + sector))
    const data = this.#newData(offset, sector)
    if (random(2) === 0) {
      await this.#change('compareAndWrite', offset, data, () => this.#image.compareAndWrite(offset, expected, data))
      return
    }
    const wrong = random(sector)
    expected[wrong] = (expected[wrong] ?? 0) ^ 1
    const error = await this.#image.compareAndWrite(offset, expected, data).catch(error => error)
    if (!(error instanceof MismatchError) || error.offset !== offset + wrong) {
      const came = `and this came of it: ${error}; seed ${this.#options.seed}`
      throw new Error(`byte ${offset + wrong} is not as expected, ${came}`)
    }
  }

  async #read(offset: number, length: number): Promise<void> {
    const expected = this.#content.subarray(offset, offset + length)
    this.#compare({ imageName: this.#image.name, content: expected }, await this.#image.read(offset, length), offset)
  }

  async #readv(random: Random, offset: number, length: number): Promise<void> {
    const expected = this.#content.subarray(offset, offset + length)
    const data = Buffer.alloc(length)
    await this.#image.readv(offset, pieces(random, data))
    this.#compare({ imageName: this.#image.name, content: expected }, data, offset)
  }

  async #readStream(random: Random, offset: number, length: number): Promise<void> {
    const expected = this.#content.subarray(offset, offset + length)
    const range = { start: offset, end: offset + length - 1, skipHoles: random(2) === 0 }
    const data = await buffer(this.#image.createReadStream(range))
    this.#compare({ imageName: this.#image.name, content: expected }, data, offset)
  }

  /** Has all that had resolved when it began; of what was in flight during it, each byte or not. */
  async #createSnapshot(): Promise<void> {
    const content = Buffer.from(this.#content)
    const undecided = [...this.#inFlight]
    const expectation = { imageName: this.#image.name, snapshot: `snapshot-${++this.#names}`, content }
    this.#undecided = undecided
    await this.#image.createSnapshot(expectation.snapshot)
    this.#undecided = undefined
    const actual = await this.#readAll(expectation)
    for (const { offset, data } of undecided) {
      for (let i = 0; i < data.length; i++) {
        if (actual[offset + i] === data[i]) content[offset + i] = data[i] ?? 0
      }
    }
    this.#compare(expectation, actual)
    this.#snapshots.push(expectation)
  }

  async #readSnapshot(random: Random): Promise<void> {
    const expectation = this.#snapshots[random(this.#snapshots.length)]
    if (expectation) await this.#checkOne(expectation)
  }

  async #removeSnapshot(random: Random): Promise<void> {
    const [removed] = this.#snapshots.splice(random(this.#snapshots.length), 1)
    if (removed?.snapshot) await this.#image.snapshot(removed.snapshot).remove()
  }

  async #rollback(random: Random): Promise<void> {
    const to = this.#snapshots[random(this.#snapshots.length)]
    if (!to?.snapshot) return
    await this.#image.snapshot(to.snapshot).rollback()
    this.#content = Buffer.from(to.content)
  }

  async #grow(random: Random): Promise<void> {
    const size = this.#content.length + random((maxSize - this.#content.length) / sector) * sector
    await this.#image.resize(size)
    const grown = Buffer.alloc(size)
    this.#content.copy(grown)
    this.#content = grown
  }

  async #shrink(random: Random): Promise<void> {
    const size = layout.size / 2 + random((this.#content.length - layout.size / 2) / sector) * sector
    await this.#image.resize(size, { allowShrink: true })
    this.#content = Buffer.from(this.#content.subarray(0, size))
  }

  /** The work goes on in a clone. */
  async #clone(): Promise<void> {
    if (this.#generation === maxGenerations) return
    await this.#createSnapshot()
    const parent = this.expectations
    const { imageName, snapshot: name = '' } = this.#snapshots.at(-1) ?? { imageName: '' }
    const clone = `generation-${++this.#generation}`
    await this.#pool.cloneImage({ imageName, name }, clone, { cloneFormat: 2 })
    this.#ancestors.splice(0, Number.POSITIVE_INFINITY, ...parent)
    this.#snapshots = []
    this.#content = Buffer.from(this.#content)
    await this.#reopen(clone)
  }

  async #flatten(): Promise<void> {
    if (await this.#image.parent()) await this.#image.flatten()
  }

  async #reopen(imageName: string): Promise<void> {
    await this.#image.close()
    this.#image = await this.#pool.openImage(imageName)
  }

  async #checkOne(expectation: Expectation): Promise<void> {
    this.#compare(expectation, await this.#readAll(expectation))
  }

  async #readAll({ imageName, snapshot }: Expectation): Promise<Buffer> {
    await using image = await this.#pool.openImage(imageName, { snapshot, readOnly: true })
    return image.read(0, await image.size())
  }

  #compare({ imageName, snapshot, content }: Expectation, actual: Buffer, start = 0): void {
    if (actual.equals(content)) return
    const at = content.findIndex((byte, index) => byte !== actual[index])
    const where = start + (at < 0 ? content.length : at)
    const lately = this.#history.filter(({ offset, data }) => offset <= where && where < offset + data.length).slice(-5)
    const shown = lately.map(({ number, kind, offset, data }) => `${kind} ${number} of ${offset}+${data.length}`)
    throw new Error(
      `${snapshot === undefined ? imageName : `${imageName}@${snapshot}`} has ${actual.length} bytes of ` +
        `${content.length}, and is wrong from byte ${where}, where there were ${shown.join(', ') || 'no changes'}; ` +
        `seed ${this.#options.seed}`,
    )
  }

  /** Tells which operation wrote it, and where to. */
  #newData(offset: number, length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4))
    const first = Math.imul(this.#history.length + 1, 2654435761)
    for (let i = 0; i < words.length; i++) words[i] = first ^ (offset + i)
    return Buffer.from(words.buffer, 0, length)
  }
}

/** @param pool - Of a client with `rbd_skip_partial_discard` off, so that a discard is to the byte. */
export async function firstImage(pool: Pool): Promise<Image> {
  await pool.createImage('generation-0', layout)
  return pool.openImage('generation-0')
}

function pieces(random: Random, data: Buffer): Buffer[] {
  const cuts = [0, random(data.length), random(data.length), data.length].sort((a, b) => a - b)
  return cuts.slice(1).map((end, index) => data.subarray(cuts[index], end))
}
