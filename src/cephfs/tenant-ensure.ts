import { z } from 'zod'
import type { Config } from '../config.js'
import type { Services } from '../jobs/actions.js'
import { dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { onceLetGo } from './base.js'
import { type PlacePlan, planTenant, tenantOf, tenantsOf } from './place.js'
import { quotaOf } from './quota-jobs.js'
import { directoryName, type Tenant, tenantShape } from './spec.js'
import type { EnsuredTenant, TenantMaker } from './tenants.js'

export const tenantEnsureData = dataSchema({ tenantId: directoryName().optional(), ...tenantShape })

const state = z.object({
  uid: z.int().optional(),
  gid: z.int().optional(),
  mode: z.string().optional().meta({ description: 'such as 0755' }),
  quota: quotaOf.optional(),
})

export const tenantEnsureResult = z.object({
  tenantId: z.string(),
  path: z.string(),
  made: z.boolean(),
  mended: z
    .array(z.object({ path: z.string(), was: state.optional(), now: state }))
    .meta({ description: 'what was not as it is to be; without was, it was not there' }),
  quota: quotaOf.optional(),
})

interface EnsurePlan extends PlacePlan {
  tenant: string
  wanted: Tenant
  maker: TenantMaker
}

export const ensureTenant = Saga.of<Services, EnsurePlan>()
  .step('directory', {
    find: (services, plan) =>
      onceLetGo(services, async () => {
        const isMade = await tenantsOf(services, plan).useOrMake(known => known.isOf(plan.tenant, plan.maker))
        return isMade ? { made: true } : undefined
      }),
    make: async (services, plan) => ({
      made: await tenantsOf(services, plan).useOrMake(known => known.claim(plan.tenant, plan.maker)),
    }),
    undo: async (services, { made }, plan) => {
      const { tenant, maker } = plan
      if (!made) return
      await tenantsOf(services, plan).use(async known => (await known.isOf(tenant, maker)) && known.delete(tenant))
    },
    leaves: (_services, { path }) => ({ kind: 'tenant', name: path }),
  })
  .step('tenant', {
    // What it has mended stays so when it fails.
    make: (services, plan, { directory }) =>
      onceLetGo(services, () =>
        tenantsOf(services, plan).use(async known => {
          const ensured = await known.furnish(plan.wanted, directory.made)
          await known.files.sync()
          return ensured
        }),
      ),
  })

export function tenantEnsured(_plan: EnsurePlan, { tenant }: { tenant: EnsuredTenant }) {
  const { name, ...ensured } = tenant
  return { tenantId: name, ...ensured }
}

export function planTenantEnsure(job: JobMessage, data: z.output<typeof tenantEnsureData>, config: Config): EnsurePlan {
  const { tenantId: _tenantId, target: _target, ...shape } = data
  const name = tenantOf(job, data)
  return {
    ...planTenant(name, config),
    wanted: { name, ...shape },
    maker: { agent: job.agentId, task: job.taskId },
  }
}
