import { z } from 'zod'
import type { Image, QosChange } from '../../lib/index.js'
import type { Config } from '../config.js'
import { InvalidJobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { changeVolume, lookAtVolume, planVolume, type VolumePlan } from './volume.js'

const perSecond = z.int('must be an integer').min(1, 'must be at least 1; null takes the limit away')

const limit = z
  .strictObject({ limit: perSecond, burst: perSecond.optional() }, 'must be { limit, burst? }, or null')
  .refine(({ limit, burst }) => burst === undefined || burst >= limit, 'burst must not be less than limit')

/** Operations and bytes per second. */
const limits = {
  iops: limit.nullable().optional(),
  readIops: limit.nullable().optional(),
  writeIops: limit.nullable().optional(),
  bps: limit.nullable().optional(),
  readBps: limit.nullable().optional(),
  writeBps: limit.nullable().optional(),
}

export const qosData = dataSchema({ refId: cephName(), ...limits }, { refId: ['iqn'] })

/** What limits the volume now, wherever that comes from; what is absent does not. */
export const qosResult = z.object({
  refId: z.string(),
  qos: z.partialRecord(
    z.enum(Object.keys(limits) as (keyof QosChange)[]),
    z.object({ limit: z.number(), burst: z.number().optional() }),
  ),
})

type Overrides = Record<string, string>

interface QosPlan extends VolumePlan {
  change: QosChange
}

export const setQos = Saga.of<Services, QosPlan>()
  .step('before', {
    make: (services, plan) => lookAtVolume(services, plan, overridesOf),
    undo: restore,
    leaves: (_services, { image }) => ({ kind: 'qos', name: image }),
  })
  .step('qos', {
    make: (services, plan) =>
      changeVolume(services, plan, async image => {
        await image.config.setQos(plan.change)
        return image.config.getQos()
      }),
  })

export function qosSetResult({ refId }: QosPlan, { qos }: { qos: z.output<typeof qosResult>['qos'] }) {
  return { refId, qos }
}

export function planQos(job: JobMessage, data: z.output<typeof qosData>, config: Config): QosPlan {
  const { refId, target: _target, ...change } = data
  if (Object.keys(change).length === 0) throw new InvalidJobError([`one of ${Object.keys(limits).join(', ')}: missing`])
  return { ...planVolume(job, refId, config), change }
}

/** What the image itself has of such settings. */
async function overridesOf(image: Image): Promise<Overrides> {
  const settings = await image.config.list()
  const own = settings.filter(({ name, source }) => source === 'image' && name.startsWith('rbd_qos_'))
  return Object.fromEntries(own.map(({ name, value }) => [name, value]))
}

async function restore(services: Services, before: Overrides, plan: QosPlan): Promise<void> {
  await changeVolume(services, plan, async image => {
    const now = await overridesOf(image)
    for (const name of Object.keys(now)) if (!(name in before)) await image.config.remove(name)
    for (const [name, value] of Object.entries(before)) {
      if (now[name] !== value) await image.config.set(name, value)
    }
  })
}
