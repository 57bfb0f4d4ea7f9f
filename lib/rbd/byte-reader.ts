import { toBuffer } from './source.js'

/** Takes a stream apart, by so many bytes at a time. */
export class ByteReader {
  readonly #source: AsyncIterator<Buffer>
  readonly #endError: () => Error
  #rest: Buffer = Buffer.alloc(0)

  /** @param endError - What to throw where the stream ends too early. */
  constructor(source: AsyncIterable<Buffer>, endError: () => Error) {
    this.#source = source[Symbol.asyncIterator]()
    this.#endError = endError
  }

  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = []
    for await (const part of this.stream(count)) parts.push(part)
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
  }

  /** The next bytes as they come, in parts. */
  async *stream(count: number): AsyncGenerator<Buffer, void, undefined> {
    for (let missing = count; missing > 0; ) {
      if (this.#rest.length === 0 && !(await this.#fill())) throw this.#endError()
      const part = this.#rest.subarray(0, missing)
      this.#rest = this.#rest.subarray(part.length)
      missing -= part.length
      yield part
    }
  }

  async expectEnd(error: () => Error): Promise<void> {
    if (this.#rest.length > 0 || (await this.#fill())) throw error()
  }

  /** Until there are some bytes. */
  async #fill(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#source.next()
      if (done) return false
      this.#rest = toBuffer(value)
    }
    return true
  }
}
