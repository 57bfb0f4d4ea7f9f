import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import {
  type Image,
  ImageBusyError,
  ImageHasSnapshotsError,
  ImageNotFoundError,
  type LinkedImage,
  type Pool,
  SnapshotBusyError,
  SnapshotNotFoundError,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import { BlockedError, ImageNotOursError, JobError } from '../errors.js'
import type { Session } from '../iscsi/driver.js'
import { attachedBy } from '../iscsi/errors.js'
import { exposeAgain, exposureOf, hide, openersOf, sessionsOf, targetOf } from '../iscsi/exposing.js'
import type { Exposure } from '../iscsi/exposure.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema, sizeAliases, sizeInMiB } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { withTimeLimit } from '../time-limit.js'
import { clonedTo, keptBy, openBy, othersAt, pathOf, strangersAt, throwBlocked } from './blockers.js'
import { type Origin, originOf, releaseOrigin } from './chain.js'
import { addDue } from './due.js'
import { lookAt, lookAtId, openWhole } from './find.js'
import { flattenImage } from './flatten.js'
import { findOwn, finishSnapshotRemoval, removeOwn } from './snapshots.js'
import { changeVolume, checkOurs, dueListOf, orWhy, planVolume, type VolumePlan } from './volume.js'

export const deleteData = dataSchema(
  {
    /** An iqn, or the name of an image. */
    refId: cephName(),
    /** Default: the pool of the volumes. */
    pool: cephName().optional(),
    /** What becomes of clones of the volume. Default: they keep it from being deleted. */
    children: z.enum(['refuse', 'flatten'], 'must be refuse or flatten').optional(),
    /** Although an initiator is logged in, who loses the disk. */
    force: z.boolean('must be true or false').optional(),
    /** Only repeated in the result. */
    sizeMB: sizeInMiB().optional(),
  },
  { refId: ['iqn'], sizeMB: sizeAliases },
)

export const deleteResult = z.object({
  refId: z.string(),
  targetDeleted: z.boolean(),
  deletedDisks: z.array(z.object({ pool: z.string(), image: z.string() })),
  sizeMB: z.int().optional(),
})

interface DeletePlan extends VolumePlan {
  flattensChildren: boolean
  force: boolean
  /** How long it can still be had back from the trash, in milliseconds. */
  trashDelayMs: number
  sizeMB?: number
}

export function planDelete(job: JobMessage, data: z.output<typeof deleteData>, config: Config): DeletePlan {
  return {
    ...planVolume(job, data.refId, config, data.pool),
    flattensChildren: data.children === 'flatten',
    force: data.force ?? false,
    trashDelayMs: config.volumes.trashDelayMs,
    ...(data.sizeMB !== undefined && { sizeMB: data.sizeMB }),
  }
}

interface Found {
  id: string
  hasSnapshots: boolean
  origin: Origin | null
  /** RBD has begun to remove it, and it has no name any more. */
  isHalfRemoved: boolean
}

interface Deletable extends Found {
  /** How initiators can reach it; null: they cannot. */
  exposure: Exposure | null
  /** Its clones, where they are to be flattened: one whose flatten is cut short at the end is not listed any more. */
  children: LinkedImage[]
}

/**
 * Removes a volume of this agent's, or moves it to the trash for a while. Nothing of it can be undone, except that initiators
 * cannot reach it any more; so all that could be in its way is looked for first; and what was cut short is finished.
 *
 * That there was something to remove is in the journal before it is removed, for later it cannot be seen any more.
 */
export const deleteVolume = Saga.of<Services, DeletePlan>()
  .step('found', {
    make: findDeletable,
    undo: exposeUnlessGone,
    leaves: (_services, plan) => targetOf(plan),
  })
  .step('cleared', {
    make: async (services, plan, at) => {
      const wasThere = await hide(services, plan, plan.force)
      if (at.found?.hasSnapshots) await clear(services, plan, at.found.children)
      return { targetDeleted: wasThere || (at.found?.exposure ?? null) !== null }
    },
  })
  .step('removed', {
    find: async (services, plan) => ((await findVolume(services, plan)) === null ? true : undefined),
    make: (services, plan, at) => (at.found === null ? Promise.resolve(false) : remove(services, plan, at.found)),
    undo: refuse,
    leaves: (_services, { image }) => ({ kind: 'image', name: image }),
  })
  .step('released', {
    make: async (services, plan, at) => {
      await releaseOrigin(dueListOf(services, plan), services.withImage, at.found?.origin ?? null)
      return true
    },
    inAnyCase: true,
  })

async function refuse(_services: Services, removed: boolean): Promise<void> {
  if (removed) throw new JobError('NOT_UNDONE', 'it is removed')
}

export function deletedResult(
  plan: DeletePlan,
  { removed, cleared: { targetDeleted } }: { removed: boolean; cleared: { targetDeleted: boolean } },
) {
  return {
    refId: plan.refId,
    targetDeleted,
    deletedDisks: removed ? [{ pool: plan.poolName, image: plan.name }] : [],
    ...(plan.sizeMB !== undefined && { sizeMB: plan.sizeMB }),
  }
}

/** A target that the volume has. */
interface Served {
  iqn: string
  sessions: readonly Session[]
  /** How many have the image open for it. */
  openers: number
}

/** Null if there is none: one in the trash is deleted already. */
async function findDeletable(services: Services, plan: DeletePlan): Promise<Deletable | null> {
  const exposure = await exposureOf(services, plan)
  const target = exposure && {
    iqn: exposure.iqn,
    sessions: await sessionsOf(services, exposure),
    openers: openersOf(services, exposure),
  }
  const children: LinkedImage[] = []
  const found = await findVolume(services, plan, async image => {
    await checkFree(image, plan, target)
    if (plan.flattensChildren) children.push(...(await image.children()))
  })
  return found && { ...found, exposure, children }
}

/** What was hidden is shown again, where the volume is there still. */
async function exposeUnlessGone(services: Services, before: Deletable | null, plan: DeletePlan): Promise<void> {
  if (before === null || before.exposure === null) return
  const found = await findVolume(services, plan)
  if (found !== null && !found.isHalfRemoved) await exposeAgain(services, plan, before.exposure)
}

async function findVolume(
  { cluster }: Services,
  plan: DeletePlan,
  check: (image: Image) => Promise<void> = async () => {},
): Promise<Found | null> {
  await using pool = await cluster.openPool(plan.poolName)
  const whole = await lookAt(pool, plan.name, async image => {
    const found = await describe(image, plan)
    await check(image)
    return found
  })
  return whole ?? (await findHalfRemoved(pool, plan))
}

async function describe(image: Image, plan: DeletePlan): Promise<Found> {
  const { image: id } = await checkOurs(image, plan)
  const hasSnapshots = (await image.listSnapshots()).length > 0
  return { id, hasSnapshots, origin: await originOf(image), isHalfRemoved: false }
}

/**
 * One whose removal was cut short. RBD begins one by taking the image away from its name, so that only its id leads
 * there, and lists both until the end. The data goes before the stamp: without one there is nothing left but the listing.
 */
async function findHalfRemoved(pool: Pool, plan: DeletePlan): Promise<Found | null> {
  const listed = (await pool.listImages()).find(({ name }) => name === plan.name)
  if (listed === undefined) return null
  const { id } = listed
  if (!(await isBeingRemoved(pool, id))) {
    throw new ImageNotOursError(`${plan.image} is listed, but cannot be opened: it is left alone`)
  }
  const found = await lookAtId(pool, id, image => describe(image, plan))
  return { id, hasSnapshots: false, origin: found?.origin ?? null, isHalfRemoved: true }
}

async function isBeingRemoved(pool: Pool, id: string): Promise<boolean> {
  try {
    return (await pool.trash.get(id)).source === 'removing'
  } catch (error) {
    if (error instanceof ImageNotFoundError) return false
    throw error
  }
}

/**
 * Names all that keeps the volume from being deleted: clones, unless they are to be flattened and may be; snapshots of
 * others; initiators that are logged in, unless they are to lose it; whoever has it open.
 *
 * @param target - Null: it has none.
 */
async function checkFree(image: Image, plan: DeletePlan, target: Served | null): Promise<void> {
  const children = await lastingChildren(image, plan)
  const kept = await snapshotsOfOthers(image, plan)
  const others = await strangersAt(image, target?.openers ?? 0)
  const isInUse = target !== null && target.sessions.length > 0 && !plan.force
  const whose = plan.flattensChildren ? ' that are not to be changed' : ''
  throwBlocked([
    ...(children.length > 0 ? [clonedTo(image.path, children, whose)] : []),
    ...(kept.length > 0 ? [keptBy(image.path, kept, '')] : []),
    ...(isInUse ? [attachedBy(target.iqn, target.sessions)] : []),
    ...(others.length > 0 ? [openBy(image.path, others)] : []),
  ])
}

async function lastingChildren(image: Image, plan: DeletePlan): Promise<LinkedImage[]> {
  const children = await image.children()
  if (!plan.flattensChildren) return children
  const lasting: LinkedImage[] = []
  for (const child of children) if (!(await isOurs(image, child, plan))) lasting.push(child)
  return lasting
}

async function isOurs(image: Image, child: LinkedImage, plan: DeletePlan): Promise<boolean> {
  try {
    await onChild(image, child, plan, true, async () => {})
    return true
  } catch (error) {
    if (error instanceof ImageNotOursError) return false
    // Its own job has removed it meanwhile.
    if (error instanceof ImageNotFoundError) return true
    throw error
  }
}

/** @throws {ImageNotOursError} */
async function onChild(
  { pool: { cluster } }: Image,
  { pool: poolName, poolId, namespace, id }: LinkedImage,
  plan: DeletePlan,
  readOnly: boolean,
  work: (child: Image) => Promise<void>,
): Promise<void> {
  if (poolName === undefined) throw new ImageNotOursError(`an image of the pool ${poolId}, which is gone`)
  await using pool = await cluster.openPool(poolName, { namespace })
  await using child = await openWhole(pool, { id }, { readOnly })
  await checkOurs(child, plan)
  await work(child)
}

/** The names of those that this agent has not made, or that somebody else protects. */
async function snapshotsOfOthers(image: Image, { maker }: DeletePlan): Promise<string[]> {
  const removable = (await findOwn(image, maker.agent)).filter(own => !own.protected || own.mark.protects)
  const own = new Set(removable.map(({ id }) => id))
  // Those in RBD's trash go with the clones that they are kept for.
  const others = (await image.listSnapshots()).filter(({ id, namespace }) => namespace !== 'trash' && !own.has(id))
  return others.map(({ name }) => name)
}

/** @param known - Clones that there were when the job began. */
async function clear(services: Services, plan: DeletePlan, known: readonly LinkedImage[]): Promise<void> {
  await changeVolume(services, plan, async image => {
    if (plan.flattensChildren) {
      const keyOf = ({ poolId, namespace, id }: LinkedImage) => `${poolId}/${namespace}/${id}`
      const children = new Map([...known, ...(await image.children())].map(child => [keyOf(child), child]))
      for (const child of children.values()) await flattenChild(services, plan, image, child)
    }
    await removeOwnAll(image, plan)
    // What is in RBD's trash and has no clones is there because somebody died in the middle of removing it, or its last clone.
    for (const { id, clones } of await image.listSnapshots()) if (clones === 0) await finishSnapshotRemoval(image, id)
  })
}

/** For how long a job on a clone is waited for, in milliseconds. */
const childPatienceMs = 600_000

/** While no job has the clone in hand. Such a one may have flattened it or removed it by then. */
async function flattenChild(services: Services, plan: DeletePlan, image: Image, child: LinkedImage): Promise<void> {
  const { signal, withImage } = services
  const path = pathOf(child)
  const flatten = async () => {
    try {
      await onChild(image, child, plan, false, clone => orWhy(signal, flattenImage(clone, { signal })))
    } catch (error) {
      if (!(error instanceof ImageNotFoundError)) throw error
    }
    return true
  }
  if (await withTimeLimit(childPatienceMs, signal, until => withImage(path, flatten, until))) return
  signal.throwIfAborted()
  throw new BlockedError(
    'IMAGE_BUSY',
    `${path}, a clone of ${image.path}, is in the hands of another job`,
    [{ kind: 'child', name: path }],
    { retryable: true },
  )
}

/** Whoever has removed the last clone of one may be in the middle of ending its protection. */
async function removeOwnAll(image: Image, { maker }: DeletePlan): Promise<void> {
  for (const giveUpAt = Date.now() + ownUseMs; ; await delay(ownUsePollMs)) {
    try {
      return await removeOwn(image, maker.agent, () => true)
    } catch (error) {
      const isPassing = error instanceof SnapshotBusyError || error instanceof SnapshotNotFoundError
      if (!isPassing || Date.now() > giveUpAt) throw error
    }
  }
}

/** Returns false if it was gone by then. */
async function remove(services: Services, plan: DeletePlan, { id, origin, isHalfRemoved }: Found): Promise<boolean> {
  const { cluster, interrupt } = services
  const { poolName, name, trashDelayMs } = plan
  await using pool = await cluster.openPool(poolName)
  if (trashDelayMs === 0 || isHalfRemoved) {
    return await onceClosed(pool, plan, () => pool.removeImage(name, { signal: interrupt }))
  }
  await addDue(dueListOf(services, plan), { work: 'purge', poolName, name, id, origin })
  return await onceClosed(pool, plan, () => pool.trash.move(name, { delay: trashDelayMs }))
}

/** For how long, in milliseconds, this agent may have the volume open for the sake of another one that is its clone. */
const ownUseMs = 10_000
const ownUsePollMs = 100

/** RBD refuses before it removes anything; what is in the way is named. Returns false if there is no such image. */
async function onceClosed(pool: Pool, plan: DeletePlan, work: () => Promise<void>): Promise<boolean> {
  for (const giveUpAt = Date.now() + ownUseMs; ; await delay(ownUsePollMs)) {
    try {
      await work()
      return true
    } catch (error) {
      if (error instanceof ImageNotFoundError) return false
      if (error instanceof ImageHasSnapshotsError) await lookAt(pool, plan.name, image => checkFree(image, plan, null))
      if (!(error instanceof ImageBusyError)) throw error
      const others = (await lookAt(pool, plan.name, othersAt)) ?? []
      if (others.length > 0 || Date.now() > giveUpAt) throw openBy(plan.image, others)
    }
  }
}
