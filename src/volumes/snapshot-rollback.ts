import { JobError } from '../errors.js'
import { attachedBy } from '../iscsi/errors.js'
import { exposureOf, openersOf, sessionsOf, whileClosed } from '../iscsi/exposing.js'
import type { Services } from '../jobs/actions.js'
import { Saga } from '../jobs/saga.js'
import { openBy, strangersAt } from './blockers.js'
import type { SnapshotPlan } from './snapshot-create.js'
import { findSnapshot } from './snapshots.js'
import { changeVolume, lookAtVolume } from './volume.js'

/**
 * Makes a volume what it was at a snapshot. Half of that is worse than either end: once begun it is brought to its end, and
 * to do it again comes to the same. So a job that goes on does not ask again whether the volume is open.
 */
export const rollBack = Saga.of<Services, SnapshotPlan>()
  .step('closed', {
    make: checkClosed,
    undo: refuse,
    leaves: (_services, { image }) => ({ kind: 'image', name: image }),
  })
  .step('rolledBack', {
    make: (services, plan) =>
      whileClosed(services, plan, () =>
        changeVolume(services, plan, async image => {
          await image.snapshot(plan.snapshot).rollback({ signal: services.interrupt })
          return true
        }),
      ),
  })

async function checkClosed(services: Services, plan: SnapshotPlan): Promise<true> {
  const exposure = await exposureOf(services, plan)
  const sessions = exposure === null ? [] : await sessionsOf(services, exposure)
  if (exposure !== null && sessions.length > 0) throw attachedBy(exposure.iqn, sessions)
  await lookAtVolume(services, plan, async image => {
    if ((await findSnapshot(image, plan.snapshot)) === undefined) {
      throw new JobError('SNAPSHOT_NOT_FOUND', `${plan.image} has no snapshot ${plan.snapshot}`)
    }
    const others = await strangersAt(image, openersOf(services, exposure))
    if (others.length > 0) throw openBy(image.path, others)
  })
  return true
}

async function refuse(_services: Services, _closed: true, { snapshot }: SnapshotPlan): Promise<void> {
  throw new JobError('NOT_UNDONE', `some of it may be as at ${snapshot}, and some as before: roll it back again`)
}
