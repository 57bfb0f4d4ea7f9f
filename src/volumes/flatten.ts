import { z } from 'zod'
import type { Image, ProgressOptions } from '../../lib/index.js'
import type { Config } from '../config.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { type Origin, originOf, releaseOrigin } from './chain.js'
import { changeVolume, dueListOf, lookAtVolume, orWhy, planVolume, type VolumePlan } from './volume.js'

export const flattenData = dataSchema({ refId: cephName() }, { refId: ['iqn'] })

export const flattenResult = z.object({ refId: z.string(), flattened: z.boolean() })

/**
 * Makes a volume independent of what it is a clone of. May take long: a cancel leaves a clone that has some more data of its
 * own, and whoever flattens it next goes on from there.
 */
export const flattenVolume = Saga.of<Services, VolumePlan>()
  .step('parent', {
    make: findParent,
  })
  .step('flattened', {
    make: (services, plan, at) => (at.parent.exists ? flatten(services, plan) : Promise.resolve(false)),
  })
  .step('released', {
    make: async (services, plan, at) => {
      await releaseOrigin(dueListOf(services, plan), services.withImage, at.parent.origin)
      return true
    },
    inAnyCase: true,
  })

export function flattenedResult({ refId }: VolumePlan, { flattened }: { flattened: boolean }) {
  return { refId, flattened }
}

export function planFlatten(job: JobMessage, { refId }: z.output<typeof flattenData>, config: Config): VolumePlan {
  return planVolume(job, refId, config)
}

async function findParent(services: Services, plan: VolumePlan): Promise<{ exists: boolean; origin: Origin | null }> {
  return lookAtVolume(services, plan, async image => ({
    exists: (await image.parent()) !== null,
    origin: await originOf(image),
  }))
}

async function flatten(services: Services, plan: VolumePlan): Promise<true> {
  const { signal } = services
  await changeVolume(services, plan, image => orWhy(signal, flattenImage(image, { signal })))
  return true
}

/** Also where it was done before, and not heard of. */
export async function flattenImage(image: Image, options: ProgressOptions): Promise<void> {
  if ((await image.parent()) !== null) await image.flatten(options)
}
