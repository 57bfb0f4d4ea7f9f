/**
 * The mark of a snapshot of this service, as an entry of its image's RBD metadata.
 *
 * Its key is the snapshot's id, which is never given twice: a snapshot that somebody else makes later under the same name is
 * not ours by it. It names the image, too, as the stamp does, because clones have the metadata of their parent. A snapshot
 * is marked before it has the name that it is to have; until then its name follows from the task.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type Image, NotFoundError } from '../../lib/index.js'
import type { Maker } from './volume.js'

const prefix = 'cephkit.snapshot.'

const schema = z.object({
  /** The id of the image. */
  image: z.string(),
  /** The agent that made it. */
  agent: z.string(),
  /** The task it was made for. */
  task: z.string(),
  /** It is there for a clone alone, and goes with it. */
  forClone: z.boolean().optional(),
  /** This service protects it, or is about to. */
  protects: z.boolean().optional(),
})

export type Mark = z.output<typeof schema>

/** What names begin with that are the service's own. */
export const ownPrefix = 'cephkit-'

const taskDigits = 16

/** The name of what a task makes, until it has another one. Nobody else comes to it by chance. */
export function ownName({ agent, task }: Maker): string {
  const hash = createHash('sha256').update(JSON.stringify([agent, task]))
  return ownPrefix + hash.digest('hex').slice(0, taskDigits)
}

/** The mark of the snapshot of that id; undefined if it is not one of ours. */
export async function readMark(image: Image, snapshot: number): Promise<Mark | undefined> {
  const text = await image.metadata.get(prefix + snapshot)
  if (text === undefined) return undefined
  const mark = parse(text)
  return mark?.image === (await image.stat()).id ? mark : undefined
}

/** All marks, by the ids of the snapshots. */
export async function readMarks(image: Image): Promise<Map<number, Mark>> {
  const { id } = await image.stat()
  const marks = new Map<number, Mark>()
  for await (const [key, text] of image.metadata.list()) {
    const mark = key.startsWith(prefix) ? parse(text) : undefined
    if (mark?.image === id) marks.set(Number(key.slice(prefix.length)), mark)
  }
  return marks
}

export async function writeMark(image: Image, snapshot: number, about: Omit<Mark, 'image'>): Promise<Mark> {
  const { id } = await image.stat()
  const mark = { ...about, image: id }
  await image.metadata.set(prefix + snapshot, JSON.stringify(mark))
  return mark
}

/** Whoever removes the last clone of a snapshot, and whoever removes the volume, can come to it at the same time. */
export async function removeMark(image: Image, snapshot: number): Promise<void> {
  try {
    await image.metadata.remove(prefix + snapshot)
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
  }
}

function parse(text: string): Mark | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
