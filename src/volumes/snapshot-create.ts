import { z } from 'zod'
import type { Image } from '../../lib/index.js'
import type { Config } from '../config.js'
import { JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { ownPrefix } from './mark.js'
import { findMade, findSnapshot, makeOwn, removeMade } from './snapshots.js'
import { changeVolume, lookAtVolume, planVolume, unlessGone, type VolumePlan } from './volume.js'

export const snapshotData = dataSchema({ refId: cephName(), snapshot: cephName() }, { refId: ['iqn'] })

export const snapshotCreateData = dataSchema(
  {
    refId: cephName(),
    snapshot: cephName().refine(name => !name.startsWith(ownPrefix), `must not begin with ${ownPrefix}`),
  },
  { refId: ['iqn'] },
)

export const snapshotResult = z.object({ refId: z.string(), snapshot: z.string() })

export interface SnapshotPlan extends VolumePlan {
  snapshot: string
}

/** The name comes first, so that its undo takes away whatever the task has made, however early this fails. */
export const createSnapshot = Saga.of<Services, SnapshotPlan>()
  .step('name', {
    find: async (_services, plan) => plan.snapshot,
    undo: (services, _name, plan) => unlessGone(changeVolume(services, plan, image => removeMade(image, plan.maker))),
    leaves: (_services, { image, snapshot }) => ({ kind: 'snapshot', name: `${image}@${snapshot}` }),
  })
  .step('snapshot', {
    find: findNamed,
    make: (services, plan) => changeVolume(services, plan, image => makeNamed(image, plan)),
  })

export function snapshotOf({ refId, snapshot }: SnapshotPlan) {
  return { refId, snapshot }
}

export function planSnapshot(
  job: JobMessage,
  { refId, snapshot }: z.output<typeof snapshotData>,
  config: Config,
): SnapshotPlan {
  return { ...planVolume(job, refId, config), snapshot }
}

async function findNamed(services: Services, plan: SnapshotPlan): Promise<number | undefined> {
  const made = await lookAtVolume(services, plan, image => findMade(image, plan.maker))
  return made?.name === plan.snapshot ? made.id : undefined
}

/** Gives the snapshot's id. */
async function makeNamed(image: Image, { maker, snapshot }: SnapshotPlan): Promise<number> {
  if ((await findSnapshot(image, snapshot)) !== undefined) {
    throw new JobError('SNAPSHOT_EXISTS', `${image.path} has a snapshot ${snapshot}`)
  }
  const made = await makeOwn(image, maker)
  await image.snapshot(made.name).rename(snapshot)
  return made.id
}
