import { z } from 'zod'
import { type Image, SnapshotBusyError } from '../../lib/index.js'
import { JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { Saga } from '../jobs/saga.js'
import { clonedTo, keptBy } from './blockers.js'
import type { SnapshotPlan } from './snapshot-create.js'
import { findOwn, findSnapshot, removeOwn } from './snapshots.js'
import { changeVolume, lookAtVolume } from './volume.js'

export const snapshotDeleteResult = z.object({ refId: z.string(), snapshot: z.string(), deleted: z.boolean() })

/** Removes a snapshot of this agent's. That there was one is in the journal before it goes. */
export const deleteSnapshot = Saga.of<Services, SnapshotPlan>()
  .step('found', {
    make: (services, plan) => lookAtVolume(services, plan, image => findRemovable(image, plan)),
  })
  .step('removed', {
    make: (services, plan, at) => (at.found === null ? Promise.resolve(false) : remove(services, plan, at.found)),
  })

export function snapshotDeleted({ refId, snapshot }: SnapshotPlan, { removed }: { removed: boolean }) {
  return { refId, snapshot, deleted: removed }
}

/** Its id; null if there is none. */
async function findRemovable(image: Image, { maker, snapshot }: SnapshotPlan): Promise<number | null> {
  const found = await findSnapshot(image, snapshot)
  if (found === undefined) return null
  const own = (await findOwn(image, maker.agent)).find(({ id }) => id === found.id)
  if (own === undefined) {
    throw new JobError(
      'SNAPSHOT_NOT_OURS',
      `${image.path}@${snapshot} was not made by agent ${maker.agent}: it is left alone`,
    )
  }
  await checkNoClones(image, snapshot)
  if (own.protected && !own.mark.protects) throw keptBy(image.path, [snapshot], ' that somebody else has protected')
  return own.id
}

async function checkNoClones(image: Image, snapshot: string): Promise<void> {
  await using at = await image.pool.openImage(image.name, { snapshot })
  const clones = await at.children()
  if (clones.length > 0) throw clonedTo(at.path, clones)
}

async function remove(services: Services, plan: SnapshotPlan, id: number): Promise<true> {
  await changeVolume(services, plan, async image => {
    try {
      await removeOwn(image, plan.maker.agent, snapshot => snapshot.id === id)
    } catch (error) {
      // Somebody was faster.
      if (error instanceof SnapshotBusyError) await checkNoClones(image, plan.snapshot)
      throw error
    }
  })
  return true
}
