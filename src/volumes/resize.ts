import { z } from 'zod'
import { MiB } from '../../lib/index.js'
import type { Config } from '../config.js'
import { JobError } from '../errors.js'
import { showSize } from '../iscsi/exposing.js'
import type { Services } from '../jobs/actions.js'
import { cephName, dataSchema, sizeAliases, sizeInMiB } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { changeVolume, lookAtVolume, planVolume, type VolumePlan } from './volume.js'

export const resizeData = dataSchema(
  {
    refId: cephName(),
    sizeMB: sizeInMiB(),
    /** To make it smaller discards its end. */
    allowShrink: z.boolean('must be true or false').optional(),
  },
  { refId: ['iqn'], sizeMB: sizeAliases },
)

export const resizeResult = z.object({ refId: z.string(), sizeBytes: z.int(), previousBytes: z.int() })

interface ResizePlan extends VolumePlan {
  /** Whether volumes of this agent may be exposed. */
  exposes: boolean
  sizeBytes: number
  allowShrink: boolean
}

/** What was there before is in the journal before it changes: later it cannot be seen any more. */
export const resizeVolume = Saga.of<Services, ResizePlan>()
  .step('before', {
    make: checkSize,
    undo: checkUnchanged,
    leaves: (_services, { image }) => ({ kind: 'image', name: image }),
  })
  .step('resized', {
    make: resize,
  })

/** The same, and then initiators see it. */
export const resizeExposedVolume = resizeVolume.step('shown', {
  make: (services, plan) => showSize(services, plan, plan.sizeBytes),
})

export function resizedResult({ refId, sizeBytes }: ResizePlan, at: { before: number }) {
  return { refId, sizeBytes, previousBytes: at.before }
}

export function planResize(job: JobMessage, data: z.output<typeof resizeData>, config: Config): ResizePlan {
  return {
    ...planVolume(job, data.refId, config),
    exposes: config.iscsi.driver !== 'none',
    sizeBytes: data.sizeMB * MiB,
    allowShrink: data.allowShrink ?? false,
  }
}

/** Gives its size in bytes. */
async function checkSize(services: Services, plan: ResizePlan): Promise<number> {
  const size = await lookAtVolume(services, plan, image => image.size())
  if (plan.sizeBytes < size && !plan.allowShrink) {
    const needed = Math.ceil(size / MiB)
    throw new JobError('SIZE_TOO_SMALL', `sizeMB: ${plan.sizeBytes / MiB} is less than the ${needed} of ${plan.image}`)
  }
  return size
}

async function resize(services: Services, plan: ResizePlan): Promise<true> {
  const { sizeBytes, allowShrink } = plan
  await changeVolume(services, plan, async image => {
    // A cancel does not end it: what has been discarded is gone.
    if ((await image.size()) !== sizeBytes) await image.resize(sizeBytes, { allowShrink, signal: services.interrupt })
  })
  return true
}

/** To take a growth back could discard what has been written since, and what a shrink has discarded is gone. */
async function checkUnchanged(services: Services, before: number, plan: ResizePlan): Promise<void> {
  const size = await lookAtVolume(services, plan, image => image.size())
  if (size !== before) throw new JobError('NOT_UNDONE', `its size is ${size} bytes, and was ${before}`)
  if (plan.sizeBytes < before) throw new JobError('NOT_UNDONE', 'some of its end may be discarded')
}
