/** What Ceph has encoded: little-endian, and read as if a stranger had written it. */

/** Bytes that are cut short, of a newer version, or beyond what JavaScript can say. */
export class UnreadableError extends Error {
  override readonly name = 'UnreadableError'
}

/** Reads one value after the other, and never beyond the end. */
export class Decoder {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  u8(): number {
    return this.#take(1).readUInt8()
  }

  u32(): number {
    return this.#take(4).readUInt32LE()
  }

  /** One that is no safe integer is refused. */
  u64(): number {
    return toNumber(this.#take(8).readBigUInt64LE())
  }

  i64(): number {
    return toNumber(this.#take(8).readBigInt64LE())
  }

  /** Shares the memory that is decoded. */
  bytes(): Buffer {
    return this.#take(this.u32())
  }

  text(): string {
    return this.bytes().toString()
  }

  time(): Date {
    const seconds = this.u32()
    return new Date(seconds * 1000 + Math.floor(this.u32() / 1e6))
  }

  optional<T>(decode: (decoder: Decoder) => T): T | undefined {
    return this.u8() === 0 ? undefined : decode(this)
  }

  list<T>(decode: (decoder: Decoder) => T): T[] {
    const items: T[] = []
    // Not allocated beforehand: the count may be a lie.
    for (let count = this.u32(); count > 0; count--) items.push(decode(this))
    return items
  }

  /**
   * A structure that says its version, the oldest version that can read it, and its length. What a newer version has
   * put behind what this one knows is skipped.
   */
  struct<T>(known: number, decode: (decoder: Decoder) => T): T {
    this.u8()
    const oldest = this.u8()
    if (oldest > known) throw new UnreadableError(`version ${oldest} of a structure, known is ${known}`)
    return decode(new Decoder(this.bytes()))
  }

  /** What is left. Shares the memory that is decoded. */
  rest(): Buffer {
    return this.#take(this.#bytes.length - this.#at)
  }

  #take(length: number): Buffer {
    const end = this.#at + length
    if (end > this.#bytes.length) {
      throw new UnreadableError(`${length} bytes wanted at ${this.#at} of ${this.#bytes.length}`)
    }
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }
}

function toNumber(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new UnreadableError(`${value} is no safe integer`)
  return number
}
