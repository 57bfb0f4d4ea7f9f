import type { z } from 'zod'
import { InvalidArgumentError, type Pool } from '../../lib/index.js'
import type { Config } from '../config.js'
import { JobError } from '../errors.js'
import { exposeNew, hideNew, targetOf } from '../iscsi/exposing.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema, nonEmptyText } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import {
  findImage,
  findReady,
  freeName,
  type Made,
  madeResult,
  makeImage,
  makeReady,
  type NewVolume,
  planNew,
} from './make.js'
import { ownName } from './mark.js'
import { findOwn, findSnapshot, makeOwn, protectOwn, removeMade, removeOwn } from './snapshots.js'
import { changeVolume, lookAtVolume, planVolume, unlessGone, type VolumePlan } from './volume.js'

export const cloneData = dataSchema(
  {
    /** The volume to clone: an iqn, or the name of an image. */
    refId: cephName(),
    name: nonEmptyText(),
    /** Of that volume. Without one, the volume is cloned as it is now. */
    snapshot: cephName().optional(),
    tenantId: nonEmptyText().optional(),
  },
  { refId: ['iqn'] },
)

/** One job at a time works on the volume that is cloned: nobody else comes to the new one's name. */
interface ClonePlan extends VolumePlan {
  clone: NewVolume
  snapshot?: string
}

/**
 * A clone shares its data with the volume it is made of, as that is now or was at a snapshot.
 *
 * Without a snapshot one is made for this clone alone. What is made first is undone last: nothing may hang on the snapshot then.
 */
export const cloneVolume = Saga.of<Services, ClonePlan>()
  .step('source', {
    find: async (_services, plan) => plan.name,
    undo: dropSnapshot,
    leaves: (_services, { image, clone }) => ({ kind: 'snapshot', name: `${image}@${ownName(clone.maker)}` }),
  })
  .step('snapshot', {
    // What is there needs no second look: to make it again comes to the same.
    make: makeSnapshot,
  })
  .step('name', {
    find: async (_services, { clone }) => clone.name,
    undo: (services, _name, { clone }) => freeName(services, clone),
    leaves: (_services, { clone }) => ({ kind: 'image', name: `${clone.poolName}/${clone.name}` }),
  })
  .step('image', {
    find: (services, { clone }) => findImage(services, clone),
    make: (services, plan, at) => makeImage(services, plan.clone, pool => makeClone(pool, services, plan, at.snapshot)),
  })
  .step('ready', {
    find: (services, { clone }) => findReady(services, clone),
    make: (services, { clone }, at) => makeReady(services, clone, at.image, async () => {}),
  })
  .step('released', {
    make: releaseSnapshot,
  })

/** The same, and then it is exposed. */
export const cloneExposedVolume = cloneVolume
  .step('target', {
    find: async (_services, { clone }) => clone.name,
    undo: (services, _name, { clone }) => hideNew(services, clone),
    leaves: (_services, { clone }) => targetOf(clone),
  })
  .step('exposed', { make: (services, { clone }, at) => exposeNew(services, clone, at.ready.id) })

export function clonedResult({ clone }: ClonePlan, made: Made) {
  return madeResult(clone, made)
}

export function planClone(job: JobMessage, data: z.output<typeof cloneData>, config: Config): ClonePlan {
  const clone = planNew(job, data, config)
  return {
    ...planVolume({ ...job, tenantId: clone.tenantId }, data.refId, config),
    limitMs: config.createTimeoutMs,
    clone,
    ...(data.snapshot !== undefined && { snapshot: data.snapshot }),
  }
}

/** Gives the name of the snapshot to clone. */
async function makeSnapshot(services: Services, plan: ClonePlan): Promise<string> {
  const { snapshot, clone } = plan
  if (snapshot === undefined) {
    return changeVolume(services, plan, async image => (await makeOwn(image, clone.maker, { forClone: true })).name)
  }
  return lookAtVolume(services, plan, async image => {
    if ((await findSnapshot(image, snapshot)) !== undefined) return snapshot
    throw new JobError('SNAPSHOT_NOT_FOUND', `${plan.image} has no snapshot ${snapshot}`)
  })
}

/** Clusters that clients older than Mimic may use make clones of format 1, which need a snapshot that is protected. */
async function makeClone(pool: Pool, services: Services, plan: ClonePlan, snapshot: string): Promise<void> {
  const make = () => pool.cloneImage({ imageName: plan.name, name: snapshot }, plan.clone.name)
  try {
    await make()
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error
    await protect(services, plan, snapshot)
    await make()
  }
}

async function protect(services: Services, plan: ClonePlan, name: string): Promise<void> {
  await changeVolume(services, plan, async image => {
    const own = (await findOwn(image, plan.maker.agent)).find(snapshot => snapshot.name === name)
    if (own !== undefined) return protectOwn(image, own)
    if ((await findSnapshot(image, name))?.protected) return
    throw new JobError(
      'SNAPSHOT_NOT_OURS',
      `${plan.image}@${name} is not this agent's, and has to be protected to be cloned`,
    )
  })
}

/** Under RBD's care, if the clone's format allows; else it stays until the clone is gone. */
async function releaseSnapshot(services: Services, plan: ClonePlan): Promise<true> {
  if (plan.snapshot !== undefined) return true
  const { agent, task } = plan.clone.maker
  await unlessGone(
    changeVolume(services, plan, image => removeOwn(image, agent, ({ mark }) => mark.task === task && !mark.protects)),
  )
  return true
}

async function dropSnapshot(services: Services, _name: string, plan: ClonePlan): Promise<void> {
  if (plan.snapshot !== undefined) return
  await unlessGone(changeVolume(services, plan, image => removeMade(image, plan.clone.maker)))
}
