import { z } from 'zod'
import type { Config } from '../config.js'
import { JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { orWhy } from '../volumes/volume.js'
import { onceLetGo } from './base.js'
import { type PlacePlan, planTenant, tenantOf, tenantsOf } from './place.js'
import { directoryName } from './spec.js'

export const tenantDeleteData = dataSchema({
  tenantId: directoryName().optional(),
  /** Remove those in it too. */
  snapshots: z.boolean('must be true or false').optional(),
})

export const tenantDeleteResult = z.object({
  tenantId: z.string(),
  path: z.string(),
  deleted: z.boolean().meta({ description: 'false: there was none' }),
})

interface DeletePlan extends PlacePlan {
  tenant: string
  snapshots: boolean
}

/** What is removed is gone: a job that fails in the middle is not undone, and another one goes on with it. */
export const deleteTenant = Saga.of<Services, DeletePlan>()
  .step('found', {
    make: (services, plan) => {
      const { tenant, snapshots } = plan
      const begin = () => tenantsOf(services, plan).use(known => known.beginDelete(tenant, { snapshots }))
      return onceLetGo(services, begin)
    },
    undo: async (_services, found) => {
      if (found) throw new JobError('NOT_UNDONE', 'some of it is removed')
    },
    leaves: (_services, { path }) => ({ kind: 'tenant', name: path }),
  })
  .step('removed', {
    make: async (services, plan, { found }) => {
      if (!found) return 0
      const { signal } = services
      const { tenant, snapshots } = plan
      const finish = () => tenantsOf(services, plan).use(known => known.finishDelete(tenant, { snapshots, signal }))
      return orWhy(signal, onceLetGo(services, finish))
    },
  })

export function tenantDeleted({ tenant, path }: DeletePlan, { found }: { found: boolean }) {
  return { tenantId: tenant, path, deleted: found }
}

export function planTenantDelete(job: JobMessage, data: z.output<typeof tenantDeleteData>, config: Config): DeletePlan {
  return { ...planTenant(tenantOf(job, data), config), snapshots: data.snapshots ?? false }
}
