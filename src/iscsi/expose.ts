import { z } from 'zod'
import type { Config } from '../config.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { lookAtVolume, planVolume, type VolumePlan } from '../volumes/volume.js'
import { addresses, chap, initiators } from './data.js'
import { exposeAgain, exposureAtFirst, needKeeper, targetOf } from './exposing.js'
import type { Exposure } from './exposure.js'

export const exposeData = dataSchema(
  {
    refId: cephName(),
    /** Who may log in: those of this name, or with these addresses. Default: as it is, at first everybody. */
    initiators: initiators().optional(),
    addresses: addresses().optional(),
    /** Default: as it is, at first what the settings say. */
    chap: chap().optional(),
  },
  { refId: ['iqn'] },
)

const portal = z.object({ host: z.string().optional(), ip: z.string(), port: z.int() })

export const exposeResult = z.object({
  refId: z.string(),
  iqn: z.string(),
  portals: z.array(portal),
  lun: z.int(),
})

interface ExposePlan extends VolumePlan {
  access: Partial<Pick<Exposure, 'initiators' | 'addresses' | 'chap'>>
}

export function planExpose(job: JobMessage, data: z.output<typeof exposeData>, config: Config): ExposePlan {
  const { initiators, addresses, chap } = data
  return {
    ...planVolume(job, data.refId, config),
    access: {
      ...(initiators !== undefined && { initiators }),
      ...(addresses !== undefined && { addresses }),
      ...(chap !== undefined && { chap: chap === false ? null : chap }),
    },
  }
}

type Way = Omit<z.output<typeof exposeResult>, 'refId'>

/**
 * Exposes a volume, or changes who may reach it. How it was exposed before is in the journal before it changes, for later
 * it cannot be seen any more.
 */
export const exposeVolume = Saga.of<Services, ExposePlan>()
  .step('before', {
    make: exposureBefore,
    undo: putBack,
    leaves: (_services, plan) => targetOf(plan),
  })
  .step('exposed', { make: expose })

export function exposedResult({ refId }: VolumePlan, { exposed }: { exposed: Way }) {
  return { refId, ...exposed }
}

/** Null if it was not exposed. */
export async function exposureBefore(services: Services, plan: VolumePlan): Promise<Exposure | null> {
  return (await needKeeper(services, plan).find(plan)) ?? null
}

export async function putBack(services: Services, before: Exposure | null, plan: VolumePlan): Promise<void> {
  if (before === null) await needKeeper(services, plan).hide(plan, true)
  else await exposeAgain(services, plan, before)
}

async function expose(services: Services, plan: ExposePlan, { before }: { before: Exposure | null }): Promise<Way> {
  const id = await lookAtVolume(services, plan, async image => (await image.stat()).id)
  const targets = needKeeper(services, plan)
  const exposure = { ...(before ?? exposureAtFirst(services, plan, id)), ...plan.access, id }
  await targets.expose(exposure)
  return { iqn: exposure.iqn, portals: await targets.portals(exposure), lun: targets.lun }
}
