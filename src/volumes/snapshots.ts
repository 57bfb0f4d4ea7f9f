/** Snapshots of volumes: which are ours, and how they are made and removed, whatever has been done of it before. */
import {
  type Image,
  InvalidArgumentError,
  SnapshotBusyError,
  type SnapshotInfo,
  SnapshotNotFoundError,
} from '../../lib/index.js'
import { type Mark, ownName, readMarks, removeMark, writeMark } from './mark.js'
import type { Maker } from './volume.js'

export interface OwnSnapshot extends SnapshotInfo {
  mark: Mark
}

/** A snapshot that can be used by that name. */
export async function findSnapshot(image: Image, name: string): Promise<SnapshotInfo | undefined> {
  return (await image.listSnapshots()).find(snapshot => snapshot.namespace === 'user' && snapshot.name === name)
}

/** Those that this agent has made. */
export async function findOwn(image: Image, agent: string): Promise<OwnSnapshot[]> {
  return [...(await findMarked(image)).values()].flatMap(({ mark, snapshot }) =>
    snapshot !== undefined && isUsable(snapshot) && mark.agent === agent ? [{ ...snapshot, mark }] : [],
  )
}

/** All marks, by the ids of their snapshots, with those of the snapshots that are there, or in RBD's trash. */
async function findMarked(image: Image): Promise<Map<number, { mark: Mark; snapshot: SnapshotInfo | undefined }>> {
  const marks = await readMarks(image)
  const snapshots = marks.size === 0 ? [] : await image.listSnapshots()
  const byId = new Map(snapshots.map(each => [each.id, each]))
  return new Map([...marks].map(([id, mark]) => [id, { mark, snapshot: byId.get(id) }]))
}

const isUsable = (snapshot: SnapshotInfo | undefined) => snapshot?.namespace === 'user'

/** The one that a task has made, as far as it has come. */
export async function findMade(image: Image, { agent, task }: Maker): Promise<OwnSnapshot | undefined> {
  return (await findOwn(image, agent)).find(({ mark }) => mark.task === task)
}

/**
 * Makes one under the task's own name, and marks it; or finds what the task has made and marked before. One without a mark
 * was cut short, and is made anew: RBD lists a snapshot before it has an object map, and without that it cannot be opened.
 */
export async function makeOwn(image: Image, maker: Maker, about: Pick<Mark, 'forClone'> = {}): Promise<OwnSnapshot> {
  const found = await findMade(image, maker)
  if (found !== undefined) return found
  await removeUnmarked(image, maker)
  const name = ownName(maker)
  await image.createSnapshot(name)
  const made = await findSnapshot(image, name)
  if (made === undefined) throw new Error(`${image.path}@${name} is gone just after it was made`)
  return { ...made, mark: await writeMark(image, made.id, { ...maker, ...about }) }
}

/** Removes what a task has made, as far as it has come. */
export async function removeMade(image: Image, maker: Maker): Promise<void> {
  await removeOwn(image, maker.agent, ({ mark }) => mark.task === maker.task)
  await removeUnmarked(image, maker)
}

/** To be called when there is none that the task has marked. Taking it back may have been cut short before. */
async function removeUnmarked(image: Image, maker: Maker): Promise<void> {
  const made = ownName(maker)
  for (const { id, name, originalName, clones } of await image.listSnapshots()) {
    if (name === made) await image.snapshot(name).remove()
    else if (originalName === made && clones === 0) await finishSnapshotRemoval(image, id)
  }
}

/**
 * Removes those of ours that are wanted, what is left of such as were removed before, and their marks: a removal that is cut
 * short leaves its mark. If clones of format 2 hang on one, RBD keeps its data until they are gone.
 *
 * @throws {SnapshotBusyError} clones of format 1 hang on it, or somebody else protects it
 */
export async function removeOwn(
  image: Image,
  agent: string,
  isWanted: (snapshot: OwnSnapshot) => boolean,
): Promise<void> {
  for (const [id, { mark, snapshot }] of await findMarked(image)) {
    if (mark.agent !== agent) continue
    if (snapshot !== undefined && isUsable(snapshot)) {
      if (!isWanted({ ...snapshot, mark })) continue
      await removeSnapshot(image, snapshot.name, mark)
    } else if (snapshot?.clones === 0) await finishSnapshotRemoval(image, id)
    await removeMark(image, id)
  }
}

/** Of one in RBD's trash that has no clones. Whoever has removed the last of them can be about to do the same. */
export async function finishSnapshotRemoval(image: Image, snapshot: number): Promise<void> {
  try {
    await image.removeSnapshotById(snapshot)
  } catch (error) {
    if (!(error instanceof SnapshotNotFoundError)) throw error
  }
}

async function removeSnapshot(image: Image, name: string, mark: Mark): Promise<void> {
  try {
    if (mark.protects) await unprotect(image, name)
    await image.snapshot(name).remove()
  } catch (error) {
    if (!(error instanceof SnapshotNotFoundError)) throw error
    // The image may have heard of it late: the mark stays as long as the snapshot is there.
    if ((await findSnapshot(image, name)) !== undefined) throw error
  }
}

/** Lets clones of format 1 be made of it. That it is ours to protect is kept first. */
export async function protectOwn(image: Image, { id, name, mark }: OwnSnapshot): Promise<void> {
  await writeMark(image, id, { ...mark, protects: true })
  try {
    await image.snapshot(name).protect()
  } catch (error) {
    // It is protected already.
    if (!(error instanceof SnapshotBusyError)) throw error
  }
}

async function unprotect(image: Image, name: string): Promise<void> {
  try {
    await image.snapshot(name).unprotect()
  } catch (error) {
    // It is not protected.
    if (!(error instanceof InvalidArgumentError)) throw error
  }
}
