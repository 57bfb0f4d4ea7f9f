/** Looking at images without assuming anything: absent is what Ceph says is absent, ours is what carries our stamp. */
import { setTimeout as delay } from 'node:timers/promises'
import { type Image, ImageBusyError, ImageNotFoundError, type OpenImageOptions, type Pool } from '../../lib/index.js'
import { readStamp, type Stamp } from './stamp.js'

/** What `look` gives for the image of that name; undefined if there is none. Any other trouble is thrown. */
export function lookAt<T>(pool: Pool, name: string, look: (image: Image) => Promise<T>): Promise<T | undefined> {
  return lookIfThere(() => openWhole(pool, { name }, { readOnly: true }), look)
}

/** The same by the image's id. */
export function lookAtId<T>(pool: Pool, id: string, look: (image: Image) => Promise<T>): Promise<T | undefined> {
  return lookIfThere(() => openWhole(pool, { id }, { readOnly: true }), look)
}

/**
 * Opens an image. A clone whose flatten was cut short at the very end cannot be opened, and would be taken for gone: it is finished
 * here, whoever comes to it, for the job that began it may be cancelled by then.
 *
 * @throws {ImageNotFoundError}
 */
export async function openWhole(
  pool: Pool,
  which: { name: string } | { id: string },
  options: OpenImageOptions = {},
): Promise<Image> {
  const open = () => ('name' in which ? pool.openImage(which.name, options) : pool.openImageById(which.id, options))
  try {
    return await open()
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
    const finishing = 'name' in which ? pool.finishFlatten(which.name) : pool.finishFlattenById(which.id)
    // Which finds no image either, where there is none.
    if (!(await finishing.catch(ifGone))) throw error
    return await open()
  }
}

async function lookIfThere<T>(open: () => Promise<Image>, look: (image: Image) => Promise<T>): Promise<T | undefined> {
  const image = await open().catch(ifGone)
  if (image === undefined) return undefined
  try {
    return await look(image).catch(error => ifGone(error, image))
  } finally {
    await image.close()
  }
}

/** Also one that is removed while it is looked at; another image that is missed then is no reason to take this one for gone. */
function ifGone(error: unknown, image?: Image): undefined {
  if (error instanceof ImageNotFoundError && (image === undefined || error.resource === image.path)) return undefined
  throw error
}

export interface FoundVolume {
  name: string
  id: string
  stamp: Stamp
}

/** The volume of that name if this agent made it for this task. */
export async function findVolume(
  pool: Pool,
  name: string,
  maker: { agent: string; task: string },
): Promise<FoundVolume | undefined> {
  return lookAt(pool, name, async image => {
    const stamp = await readStamp(image)
    if (stamp?.agent !== maker.agent || stamp.task !== maker.task) return undefined
    return { name, id: stamp.image, stamp }
  })
}

/** Whether the image has none of anybody's data. */
async function isBlank(image: Image): Promise<boolean> {
  return (await image.listSnapshots()).length === 0 && (await image.usedBytes()) === 0
}

/**
 * Frees a name from what is left of a creation that was cut short before its stamp. Returns false, and touches nothing, if
 * the name belongs to a whole image.
 *
 * Such an image cannot be adopted: RBD makes a clone in several writes, and one that was cut short can look whole and yet
 * not be known to its parent, which could then be removed from under it. It can be removed, though: the name holds the
 * hash of the task that asks, so nobody else comes to it by chance, and if somebody did all the same, what is removed
 * has nothing in it.
 *
 * @throws {ImageBusyError} somebody has it open
 */
export async function clearRemains(pool: Pool, name: string): Promise<boolean> {
  const isRemains = await lookAt(
    pool,
    name,
    async image => (await readStamp(image)) === undefined && (await isBlank(image)),
  )
  if (isRemains === false) return false
  await finishRemovals(pool, name)
  return true
}

/**
 * Removes what has the name, and what had it: RBD begins a removal by taking the name away, so that another image can have it
 * while the rest is still there.
 */
async function finishRemovals(pool: Pool, name: string): Promise<void> {
  try {
    for (;;) await pool.removeImage(name)
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}

/** How long an agent that died can still count as somebody who has its images open, in milliseconds, and some more. */
const watchTimeoutMs = 45_000
const watchPollMs = 1_000

/** Does something that needs an image nobody has open, when that is so, or after a client that died has been forgotten. */
export async function onceClosed<T>(work: () => Promise<T>): Promise<T> {
  for (const giveUpAt = Date.now() + watchTimeoutMs; ; ) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof ImageBusyError) || Date.now() > giveUpAt) throw error
    }
    await delay(watchPollMs)
  }
}
