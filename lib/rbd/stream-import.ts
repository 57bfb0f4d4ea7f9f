/** Images of raw streams, whose length nobody knows before they end. */
import type { Readable } from 'node:stream'
import { outOfRange } from '../check.js'
import { GiB } from '../units.js'
import { ChunkWriter } from './chunks.js'
import type { Image } from './image.js'
import type { Progress } from './progress.js'
import { toBuffer } from './source.js'

/** Fills an empty image. One that grows becomes as long as the stream is; another must be long enough. */
export async function importStream(
  image: Image,
  source: Readable,
  progress: Progress,
  { grows = false }: { grows?: boolean } = {},
): Promise<void> {
  const { signal } = progress
  let size = await image.size({ signal })
  const makeRoom = async (end: number): Promise<void> => {
    if (end <= size) return
    if (!grows) throw outOfRange('source', `at most ${size} bytes long, the size of ${image.path}`, end)
    // Seldom, for each time changes the header.
    size = Math.max(end, 2 * size, GiB)
    await image.resize(size, { signal })
  }
  const writer = new ChunkWriter(image, { sparse: true })
  let at = 0
  try {
    for await (const chunk of source) {
      const data = toBuffer(chunk)
      await makeRoom(at + data.length)
      await writer.write(at, data)
      at += data.length
      progress.total = at
      progress.at(at)
    }
    await writer.end()
  } finally {
    // What is in flight when something else has failed.
    await writer.settled()
  }
  if (grows) await image.resize(at, { signal, allowShrink: true })
  await image.flush({ signal })
}
