/** Stretches of an image or a file, and where in them there is data. */

/** A stretch of bytes that has data, or has none. */
export interface Extent {
  /** In bytes. */
  offset: number
  /** In bytes. */
  length: number
  /** False for a hole, which reads as zeroes. */
  exists: boolean
}

/** The addon's extents: offset, length and existence, as doubles. */
export function* unpackExtents(packed: Buffer): Generator<Extent, void, undefined> {
  for (let at = 0; at < packed.length; at += 24) {
    yield {
      offset: packed.readDoubleLE(at),
      length: packed.readDoubleLE(at + 8),
      exists: packed.readDoubleLE(at + 16) !== 0,
    }
  }
}

/** The extents with data, in order, and the holes between them: all of the range. */
export async function* withHoles(
  extents: AsyncIterable<Extent>,
  start: number,
  end: number,
): AsyncGenerator<Extent, void, undefined> {
  let at = start
  for await (const { offset, length, exists } of extents) {
    if (!exists) continue
    if (offset > at) yield { offset: at, length: offset - at, exists: false }
    yield { offset, length, exists: true }
    at = offset + length
  }
  if (at < end) yield { offset: at, length: end - at, exists: false }
}

/** The extent in pieces that end where a multiple of `size` does. */
export function* pieces({ offset, length, exists }: Extent, size: number): Generator<Extent, void, undefined> {
  const end = offset + length
  for (let start = offset; start < end; ) {
    const next = Math.min(end, start - (start % size) + size)
    yield { offset: start, length: next - start, exists }
    start = next
  }
}

/** As fine as holes are looked for in data, in bytes: what `rbd` and `qemu-img` do. */
const blockBytes = 4096
const zeroes = Buffer.alloc(blockBytes)

/** Where the data has anything but zeroes: from and to, in whole blocks, neighbours joined. */
export function* nonZero(data: Buffer): Generator<[start: number, end: number], void, undefined> {
  let start: number | undefined
  for (let at = 0; at < data.length; at += blockBytes) {
    const end = Math.min(at + blockBytes, data.length)
    if (data.compare(zeroes, 0, end - at, at, end) === 0) {
      if (start !== undefined) yield [start, at]
      start = undefined
    } else {
      start ??= at
    }
  }
  if (start !== undefined) yield [start, data.length]
}
