/** Images, snapshots and trash of the pool of the volumes, beside what the journal says of them. */
import { type Image, ImageNotFoundError, NotFoundError, type Pool, type TrashEntry } from '../../lib/index.js'
import { mapLimited } from '../concurrency.js'
import { addDue, type Due, listDue } from '../volumes/due.js'
import { clearRemains, lookAt, lookAtId } from '../volumes/find.js'
import { type Mark, ownPrefix, readMarks, removeMark } from '../volumes/mark.js'
import { removeOwn } from '../volumes/snapshots.js'
import { readStamp, type Stamp } from '../volumes/stamp.js'
import type { Finding, Place } from './audit.js'
import type { Job, JournalState } from './state.js'

interface Snapshot {
  id: number
  name: string
  hasClones: boolean
}

interface Volume {
  name: string
  id: string
  stamp: Stamp | undefined
  snapshots: Snapshot[]
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
  const names = (await pool.listImages({ signal })).map(({ name }) => name)
  const images = await mapLimited(names, openAtOnce, name => {
    signal?.throwIfAborted()
    return lookAt(pool, name, describe)
  })
  const entries = (await pool.trash.list({ signal })).filter(({ source }) => source === 'user' || source === 'removing')
  const trash = await mapLimited(entries, openAtOnce, async entry => {
    return { ...entry, stamp: await lookAtId(pool, entry.id, readStamp) }
  })
  const due = new Map<string, Due[]>()
  for (const agent of await records.listAgents()) {
    due.set(agent, await listDue({ cluster, volumePool: poolName, agent }))
  }
  return { images: images.filter(image => image !== undefined), trash, due }
}

async function describe(image: Image): Promise<Volume> {
  const { id } = await image.stat()
  const marks = await readMarks(image)
  const listed = (await image.listSnapshots()).filter(({ namespace }) => namespace === 'user')
  const snapshots: Snapshot[] = []
  for (const snapshot of listed) {
    const hasClones = marks.has(snapshot.id) && (await hasClonesAt(image, snapshot.name))
    snapshots.push({ id: snapshot.id, name: snapshot.name, hasClones })
  }
  return { name: image.name, id, stamp: await readStamp(image), snapshots, marks }
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
      ...snapshots(place, state, volume),
      ...marks(place, volume),
    ]),
    ...volumes.trash.flatMap(entry => trash(place, state, volumes, finished, entry)),
  ]
}

/** By `pool/image`, in no order. */
function finishedByImage(state: JournalState): Map<string, Job[]> {
  const byImage = new Map<string, Job[]>()
  for (const job of state.jobs) {
    if (job.image === undefined || job.ok === undefined) continue
    const jobs = byImage.get(job.image) ?? []
    byImage.set(job.image, jobs)
    jobs.push(job)
  }
  return byImage
}

/** Whether a job may still be at work on it, or its result be on its way. */
function isInHand(state: JournalState, path: string): boolean {
  for (const job of state.jobs) if (job.image === path && state.isOpen(job.agent, job.task)) return true
  return false
}

function image(place: Place, state: JournalState, finished: Map<string, Job[]>, volume: Volume): Finding[] {
  const path = `${place.poolName}/${volume.name}`
  const jobs = finished.get(path) ?? []
  if (isInHand(state, path)) return []
  const { stamp } = volume
  if (stamp === undefined) {
    // Names hold a hash of the task: one that a job of ours has given is nobody else's.
    const maker = jobs.find(job => !job.ok && makesImages(job))
    if (maker === undefined) return []
    const says = `is left over from task ${maker.task}, which failed`
    return [{ kind: 'image', name: path, agent: maker.agent, says, fix: () => clear(place, volume.name) }]
  }
  const { agent, task } = stamp
  const maker = state.job(agent, task)
  if (maker?.ok === false && maker.createdAt === stamp.createdAt) {
    const says = `was made for task ${task}, which failed`
    return [{ kind: 'image', name: path, agent, says, fix: () => remove(place, volume) }]
  }
  const deletion = jobs.find(job => job.ok && deletesImages(job) && job.createdAt > stamp.createdAt)
  if (deletion === undefined) return []
  // Somebody may have taken it out of the trash; or it was not there yet when the deletion looked.
  return [{ kind: 'image', name: path, agent, says: `was deleted by task ${deletion.task}, and is there` }]
}

function makesImages({ action }: Job): boolean {
  return ['storage.create', 'disk.create', 'storage.clone'].includes(action)
}

function deletesImages({ action }: Job): boolean {
  return ['storage.delete', 'disk.delete'].includes(action)
}

function snapshots(place: Place, state: JournalState, volume: Volume): Finding[] {
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
    const fix = () => removeSnapshot(place, volume, agent, id)
    if (state.job(agent, task)?.ok === false && !hasClones) {
      return [{ kind: 'snapshot', name: path, agent, says: `was made for task ${task}, which failed`, fix }]
    }
    if (!forClone || hasClones) return []
    return [{ kind: 'snapshot', name: path, agent, says: 'was made for a clone, and has none', fix }]
  })
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
  if (source === 'removing') {
    // The data goes before the stamp.
    const agent = stamp?.agent ?? finished.get(path)?.[0]?.agent
    if (agent === undefined) return []
    return [{ kind: 'trash', name: path, agent, says: 'is half removed', fix: () => remove(place, { name }) }]
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
  if (!finished.get(path)?.some(job => job.ok && deletesImages(job))) return [finding]
  const entry: Due = { work: 'purge', poolName: place.poolName, name, id, origin: null }
  const fix = () => addDue({ cluster: place.cluster, volumePool: place.poolName, agent }, entry)
  return [{ ...finding, fix }]
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

async function remove(place: Place, { name, id }: { name: string; id?: string }): Promise<void> {
  await unlessGone(
    inPool(place, async pool => {
      const now = id === undefined ? undefined : await lookAt(pool, name, async image => (await image.stat()).id)
      if (now === id) await pool.removeImage(name)
    }),
  )
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
