/**
 * The mark that an image of this service carries, as one entry of its RBD metadata.
 *
 * RBD gives a clone all the metadata of its parent, and a copy all of its original: without more, the clone that somebody
 * makes of one of our volumes would look like ours. So the stamp names the image's id too, which is never given twice, and
 * on any other image it counts for nothing.
 */

import { z } from 'zod'
import type { Image } from '../../lib/index.js'

export const stampKey = 'cephkit.stamp'

const schema = z.object({
  /** The id of the image. */
  image: z.string(),
  /** The agent that made it. */
  agent: z.string(),
  /** The task it was made for. */
  task: z.string(),
  tenant: z.string(),
  /** When the task was begun that made it, as an ISO 8601 date. */
  createdAt: z.string(),
})

export type Stamp = z.output<typeof schema>

/** The image's own stamp; undefined if it has none, or only one that belongs to another image. */
export async function readStamp(image: Image): Promise<Stamp | undefined> {
  const text = await image.metadata.get(stampKey)
  if (text === undefined) return undefined
  const stamp = parse(text)
  if (stamp === undefined) return undefined
  return stamp.image === (await image.stat()).id ? stamp : undefined
}

/** Stamps in one write, so that there is no half of a stamp. */
export async function writeStamp(image: Image, stamp: Stamp): Promise<void> {
  await image.metadata.set(stampKey, JSON.stringify(stamp))
}

/** What anybody can write, anybody can write wrongly: then it is no stamp. */
function parse(text: string): Stamp | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
