/** Images, snapshots and trash of the pool of the volumes, beside what the journal says of them. */
import { type Image, ImageNotFoundError, NotFoundError, type Pool, type TrashEntry } from '../../lib/index.js'
import { mapLimited } from '../concurrency.js'
import { addDue, type Due, listDue } from '../volumes/due.js'
import { clearRemains, lookAt, lookAtId } from '../volumes/find.js'
import { type Mark, ownPrefix, readMarks, removeMark } from '../volumes/mark.js'
import { finishSnapshotRemoval, removeOwn } from '../volumes/snapshots.js'
import { readStamp, type Stamp } from '../volumes/stamp.js'
import type { Finding, Place } from './audit.js'
import { isDeletion, type Job, type JournalState } from './state.js'

interface Snapshot {
  id: number
  name: string
  hasClones: boolean
}

export interface Volume {
  name: string
  id: string
  stamp: Stamp | undefined
  snapshots: Snapshot[]
  /** In RBD's trash, and not for a clone. */
  removed: { id: number; name: string }[]
  marks: Map<number, Mark>
}

interface Trashed extends TrashEntry {
  stamp: Stamp | undefined
}

export interface Volumes {
  images: Volume[]
  trash: Trashed[]
  /** By agent. */
  due: Map<string, Due[]>
}

const openAtOnce = 16

/** Opens each image. One that cannot be read rejects: an audit that leaves something out says nothing. */
export async function readVolumes({ cluster, poolName, records, signal }: Place): Promise<Volumes> {
  await using pool = await cluster.openPool(poolName)
  const listed = await pool.listImages({ signal })
  const images = await mapLimited(listed, openAtOnce, async ({ name, id }) => {
    signal?.throwIfAborted()
    const volume = await lookAt(pool, name, describe)
    return volume?.id === id ? volume : undefined
  })
  const nameless = listed.filter((_, index) => images[index] === undefined)
  const entries = (await pool.trash.list({ signal })).filter(({ source }) => source === 'user')
  entries.push(...(await halfRemoved(pool, nameless)))
  const trash = await mapLimited(entries, openAtOnce, async entry => {
    return { ...entry, stamp: await lookAtId(pool, entry.id, readStamp) }
  })
  const due = new Map<string, Due[]>()
  for (const agent of await records.listAgents()) {
    due.set(agent, await listDue({ cluster, volumePool: poolName, agent }))
  }
  return { images: images.filter(image => image !== undefined), trash, due }
}

/** RBD lists what it has begun to remove among the images, and not in the trash. Its name is free for another one. */
async function halfRemoved(pool: Pool, images: readonly { id: string }[]): Promise<TrashEntry[]> {
  const entries = await mapLimited(images, openAtOnce, ({ id }) => pool.trash.get(id).catch(ifNotThere))
  return entries.filter(entry => entry?.source === 'removing') as TrashEntry[]
}

function ifNotThere(error: unknown): undefined {
  if (!(error instanceof ImageNotFoundError)) throw error
}

async function describe(image: Image): Promise<Volume> {
  const { id } = await image.stat()
  const marks = await readMarks(image)
  const listed = await image.listSnapshots()
  const removed = listed
    .filter(({ clones }) => clones === 0)
    .map(({ id, name, originalName = name }) => ({ id, name: originalName }))
  const snapshots: Snapshot[] = []
  for (const snapshot of listed.filter(({ namespace }) => namespace === 'user')) {
    const hasClones = marks.has(snapshot.id) && (await hasClonesAt(image, snapshot.name))
    snapshots.push({ id: snapshot.id, name: snapshot.name, hasClones })
  }
  return { name: image.name, id, stamp: await readStamp(image), snapshots, removed, marks }
}

/** Those of one snapshot are told by an image that is open there. */
async function hasClonesAt({ pool, name }: Image, snapshot: string): Promise<boolean> {
  try {
    await using at = await pool.openImage(name, { snapshot, readOnly: true })
    return (await at.children()).length > 0
  } catch (error) {
    // Gone meanwhile: the second look does not find it.
    if (error instanceof NotFoundError) return false
    throw error
  }
}

export function auditVolumes(place: Place, state: JournalState, volumes: Volumes): Finding[] {
  const finished = finishedByImage(state)
  return [
    ...volumes.images.flatMap(volume => [
      ...image(place, state, finished, volume),
      ...snapshots(place, state, volumes, volume),
      ...halfRemovedSnapshots(place, state, volume),
      ...marks(place, volume),
    ]),
    ...volumes.trash.flatMap(entry => trash(place, state, volumes, finished, entry)),
  ]
}

/** Those that work on it or make it, by `pool/image`, in no order. */
function finishedByImage(state: JournalState): Map<string, Job[]> {
  const byImage = new Map<string, Job[]>()
  for (const job of state.jobs) {
    if (job.ok === undefined) continue
    for (const path of imagesOf(job)) byImage.set(path, [...(byImage.get(path) ?? []), job])
  }
  return byImage
}

/** Whether a job may still be at work on it, or its result be on its way. */
export function isInHand(state: JournalState, path: string): boolean {
  for (const job of state.jobs) if (imagesOf(job).has(path) && state.isOpen(job.agent, job.task)) return true
  return false
}

function imagesOf({ image, makes }: Job): Set<string> {
  return new Set([image, makes].filter(path => path !== undefined))
}

function image(place: Place, state: JournalState, finished: Map<string, Job[]>, volume: Volume): Finding[] {
  const path = `${place.poolName}/${volume.name}`
  const jobs = finished.get(path) ?? []
  if (isInHand(state, path)) return []
  const { stamp } = volume
  if (stamp === undefined) {
    // Names hold a hash of the task: one that a job of ours has given is nobody else's.
    const maker = jobs.find(job => !job.ok && job.makes === path)
    if (maker === undefined) return []
    const says = `is left over from task ${maker.task}, which failed`
    const fix = () => unlessRetried(place, maker, () => clear(place, volume.name))
    return [{ kind: 'image', name: path, agent: maker.agent, says, fix }]
  }
  const { agent, task } = stamp
  const maker = state.job(agent, task)
  if (maker?.ok === false && maker.createdAt === stamp.createdAt) {
    const says = `was made for task ${task}, which failed`
    const fix = () => unlessRetried(place, maker, () => remove(place, volume))
    return [{ kind: 'image', name: path, agent, says, fix }]
  }
  const deletion = jobs.find(job => job.ok && isDeletion(job.action) && job.createdAt > stamp.createdAt)
  if (deletion === undefined) return []
  // Somebody may have taken it out of the trash; or it was not there yet when the deletion looked.
  return [{ kind: 'image', name: path, agent, says: `was deleted by task ${deletion.task}, and is there` }]
}

function snapshots(place: Place, state: JournalState, { due }: Volumes, volume: Volume): Finding[] {
  if (isInHand(state, `${place.poolName}/${volume.name}`)) return []
  return volume.snapshots.flatMap(({ id, name, hasClones }): Finding[] => {
    const path = `${place.poolName}/${volume.name}@${name}`
    const mark = volume.marks.get(id)
    if (mark === undefined) {
      return name.startsWith(ownPrefix)
        ? [{ kind: 'snapshot', name: path, says: 'has a name of ours and no mark' }]
        : []
    }
    const { agent, task, forClone } = mark
    if (state.isOpen(agent, task)) return []
    const maker = state.job(agent, task)
    const fix = () => unlessRetried(place, maker, () => removeSnapshot(place, volume, agent, id))
    if (maker?.ok === false && !hasClones) {
      return [{ kind: 'snapshot', name: path, agent, says: `was made for task ${task}, which failed`, fix }]
    }
    if (!forClone || hasClones) return []
    const isDue = ({ work, id: of, origin }: Due) => work === 'release' && of === volume.id && origin?.snapshot === id
    if (due.get(agent)?.some(isDue)) return []
    return [{ kind: 'snapshot', name: path, agent, says: 'was made for a clone, and has none', fix }]
  })
}

/** Their removal was cut short. Nobody can use them any more. */
function halfRemovedSnapshots(place: Place, state: JournalState, { name, id, stamp, removed }: Volume): Finding[] {
  const path = `${place.poolName}/${name}`
  if (stamp === undefined || isInHand(state, path)) return []
  return removed.map(snapshot => ({
    kind: 'snapshot',
    name: `${path}@${snapshot.name}`,
    agent: stamp.agent,
    says: 'is half removed',
    fix: () => onImage(place, id, image => finishSnapshotRemoval(image, snapshot.id)),
  }))
}

function marks(place: Place, volume: Volume): Finding[] {
  const there = new Set(volume.snapshots.map(({ id }) => id))
  return [...volume.marks]
    .filter(([id]) => !there.has(id))
    .map(([id, { agent }]) => ({
      kind: 'mark',
      name: `${place.poolName}/${volume.name}`,
      agent,
      says: `has the mark of snapshot ${id}, which is gone`,
      fix: () => onImage(place, volume.id, image => removeMark(image, id)),
    }))
}

function trash(
  place: Place,
  state: JournalState,
  { due }: Volumes,
  finished: Map<string, Job[]>,
  { id, name, source, stamp }: Trashed,
): Finding[] {
  const path = `${place.poolName}/${name}`
  if (isInHand(state, path)) return []
  const jobs = finished.get(path) ?? []
  if (source === 'removing') {
    // The data goes before the stamp.
    const agent = stamp?.agent ?? jobs[0]?.agent
    if (agent === undefined) return []
    return [{ kind: 'trash', name: path, agent, says: 'is half removed', fix: () => finishRemoval(place, name, id) }]
  }
  if (stamp === undefined) return []
  const { agent } = stamp
  if (due.get(agent)?.some(each => each.work === 'purge' && each.id === id)) return []
  const finding: Finding = {
    kind: 'trash',
    name: path,
    agent,
    says: 'is in the trash, and no agent is going to purge it',
  }
  // What no job has deleted, somebody has put there by hand, perhaps to have it back.
  if (!jobs.some(job => job.ok && isDeletion(job.action))) return [finding]
  const entry: Due = { work: 'purge', poolName: place.poolName, name, id, origin: null }
  const fix = () => addDue({ cluster: place.cluster, volumePool: place.poolName, agent }, entry)
  return [{ ...finding, fix }]
}

/** It may be some time until something is fixed; and what a failed job has left is its own again when it is retried. */
async function unlessRetried({ records }: Place, job: Job | undefined, fix: () => Promise<void>): Promise<void> {
  const record = job && (await records.read(job.agent, job.task))
  if (record?.outcome?.finishedAt !== job?.finishedAt) {
    throw new Error(`task ${job?.task} is being done again: what it has left is left alone`)
  }
  await fix()
}

async function inPool<T>({ cluster, poolName }: Place, work: (pool: Pool) => Promise<T>): Promise<T> {
  await using pool = await cluster.openPool(poolName)
  return await work(pool)
}

/** Of what is gone meanwhile nothing is left to fix. */
async function onImage(place: Place, id: string, work: (image: Image) => Promise<void>): Promise<void> {
  await unlessGone(
    inPool(place, async pool => {
      await using image = await pool.openImageById(id)
      await work(image)
    }),
  )
}

async function remove(place: Place, { name, id }: { name: string; id: string }): Promise<void> {
  await unlessGone(
    inPool(place, async pool => {
      if ((await idOf(pool, name)) === id) await pool.removeImage(name)
    }),
  )
}

/** Another image may have the name by now. Where none has, something of it may have to go, too. */
async function finishRemoval(place: Place, name: string, id: string): Promise<void> {
  await unlessGone(
    inPool(place, async pool => {
      if ((await idOf(pool, name)) === undefined) await pool.removeImage(name)
      else await pool.trash.remove(id, { force: true })
    }),
  )
}

function idOf(pool: Pool, name: string): Promise<string | undefined> {
  return lookAt(pool, name, async image => (await image.stat()).id)
}

async function clear(place: Place, name: string): Promise<void> {
  const isCleared = await inPool(place, pool => clearRemains(pool, name))
  if (!isCleared)
    throw new Error(`${place.poolName}/${name} has data or snapshots in it, and no stamp: it is left alone`)
}

function removeSnapshot(place: Place, { id }: Volume, agent: string, snapshot: number): Promise<void> {
  return onImage(place, id, image => removeOwn(image, agent, own => own.id === snapshot))
}

async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}
