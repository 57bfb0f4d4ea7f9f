import { z } from 'zod'
import type { Config } from '../config.js'
import { JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { lookAtVolume, planVolume, type VolumePlan } from '../volumes/volume.js'
import { chap, initiators } from './data.js'
import { exposeResult, exposureBefore, putBack } from './expose.js'
import { needKeeper, targetOf } from './exposing.js'
import type { Exposure } from './exposure.js'

export const unexposeData = dataSchema(
  {
    refId: cephName(),
    /** To these alone. Whoever is left can reach it still; when nobody is, it is not exposed any more. Default: to all. */
    initiators: initiators().optional(),
    /** Means nothing. */
    chap: chap().optional(),
    /** Although an initiator is logged in, who loses the disk. */
    force: z.boolean('must be true or false').optional(),
  },
  { refId: ['iqn'] },
)

export const unexposeResult = exposeResult.extend({ targetDeleted: z.boolean() })

interface UnexposePlan extends VolumePlan {
  initiators?: string[]
  force: boolean
}

export function planUnexpose(job: JobMessage, data: z.output<typeof unexposeData>, config: Config): UnexposePlan {
  return {
    ...planVolume(job, data.refId, config),
    ...(data.initiators !== undefined && { initiators: data.initiators }),
    force: data.force ?? false,
  }
}

type Given = Omit<z.output<typeof unexposeResult>, 'refId'>

export const unexposeVolume = Saga.of<Services, UnexposePlan>()
  .step('before', {
    make: async (services, plan) => {
      await lookAtVolume(services, plan, async () => {})
      return exposureBefore(services, plan)
    },
    undo: putBackIfExposed,
    leaves: (_services, plan) => targetOf(plan),
  })
  .step('hidden', { make: hide })

export function unexposedResult({ refId }: VolumePlan, { hidden }: { hidden: Given }) {
  return { refId, ...hidden }
}

async function putBackIfExposed(services: Services, before: Exposure | null, plan: UnexposePlan): Promise<void> {
  if (before !== null) await putBack(services, before, plan)
}

async function hide(services: Services, plan: UnexposePlan, { before }: { before: Exposure | null }): Promise<Given> {
  const targets = needKeeper(services, plan)
  const at = { iqn: before?.iqn ?? plan.iqn, lun: targets.lun }
  const rest = before && restOf(before, plan)
  if (rest !== null) {
    await targets.expose(rest)
    return { ...at, portals: await targets.portals(rest), targetDeleted: false }
  }
  const wasThere = await targets.hide(plan, plan.force)
  return { ...at, portals: [], targetDeleted: wasThere || before !== null }
}

/** The exposure to those who are left; null: nobody is. */
function restOf(before: Exposure, { initiators, image }: UnexposePlan): Exposure | null {
  if (initiators === undefined) return null
  const { addresses } = before
  if (before.initiators.length === 0 && addresses.length === 0) {
    throw new JobError('EXPOSED_TO_ALL', `${image} is exposed to everybody: storage.expose says to whom it is to be`)
  }
  const left = before.initiators.filter(name => !initiators.includes(name))
  return left.length > 0 || addresses.length > 0 ? { ...before, initiators: left } : null
}
