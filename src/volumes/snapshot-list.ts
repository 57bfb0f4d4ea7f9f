import { z } from 'zod'
import type { Config } from '../config.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { readMarks } from './mark.js'
import { lookAtVolume, planVolume, type VolumePlan } from './volume.js'

export const snapshotListData = dataSchema({ refId: cephName() }, { refId: ['iqn'] })

export const snapshotListResult = z.object({
  refId: z.string(),
  /** Oldest first. */
  snapshots: z.array(
    z.object({
      name: z.string(),
      /** The volume's size at the time. */
      sizeBytes: z.int(),
      createdAt: z.iso.datetime(),
      /** It can be cloned in every cluster, and cannot be removed. */
      protected: z.boolean(),
      /** This agent has made it. */
      ours: z.boolean(),
      /** It has been removed, and is kept by RBD because of its clones. */
      removed: z.boolean(),
    }),
  ),
})

export function planSnapshotList(
  job: JobMessage,
  { refId }: z.output<typeof snapshotListData>,
  config: Config,
): VolumePlan {
  return planVolume(job, refId, config)
}

export async function listSnapshots(
  services: Services,
  plan: VolumePlan,
): Promise<z.output<typeof snapshotListResult>> {
  return lookAtVolume(services, plan, async image => {
    const marks = await readMarks(image)
    const snapshots = (await image.listSnapshots()).map(snapshot => ({
      name: snapshot.originalName ?? snapshot.name,
      sizeBytes: snapshot.size,
      createdAt: snapshot.createdAt.toISOString(),
      protected: snapshot.protected,
      ours: marks.get(snapshot.id)?.agent === plan.maker.agent,
      removed: snapshot.namespace === 'trash',
    }))
    return { refId: plan.refId, snapshots }
  })
}
