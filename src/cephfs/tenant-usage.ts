import { z } from 'zod'
import type { Config } from '../config.js'
import type { Services } from '../jobs/actions.js'
import { dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { type PlacePlan, planTenant, tenantOf } from './place.js'
import { quotaOf, toUsage, usageOf } from './quota-jobs.js'
import { directoryName } from './spec.js'

export const tenantUsageData = dataSchema({ tenantId: directoryName().optional() })

export const tenantUsageResult = z.object({
  tenantId: z.string(),
  path: z.string(),
  quota: quotaOf,
  usage: usageOf,
  deleting: z.boolean().meta({ description: 'its removal was cut short, and is to be gone on with' }),
})

interface UsagePlan extends PlacePlan {
  tenant: string
}

export async function lookAtTenant(
  { tenants }: Services,
  { tenant }: UsagePlan,
): Promise<z.output<typeof tenantUsageResult>> {
  const { name, usage, ...rest } = await tenants.use(known => known.usage(tenant))
  return { tenantId: name, ...rest, usage: toUsage(usage) }
}

export function planTenantUsage(job: JobMessage, data: z.output<typeof tenantUsageData>, config: Config): UsagePlan {
  return planTenant(tenantOf(job, data), config)
}
