/** quota.set, quota.clear and quota.get: of a tenant, or of a directory in one. */
import { z } from 'zod'
import {
  type DirectoryUsage,
  FileNotFoundError,
  type OpenDirectory,
  type Quota,
  type QuotaChange,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import { InvalidJobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import { dataSchema } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import { Saga } from '../jobs/saga.js'
import { onceLetGo } from './base.js'
import { TenantNotFoundError } from './errors.js'
import {
  directoryPath,
  openPlace,
  type PlacePlan,
  planPath,
  planTenant,
  tenantNamedBy,
  tenantOf,
  tenantsOf,
} from './place.js'
import { directoryName, quotaShape } from './spec.js'

const place = { path: directoryPath().optional(), tenantId: directoryName().optional() }

export const quotaData = dataSchema(place)
export const quotaSetData = dataSchema({ ...place, ...quotaShape })

/** Without what has no limit. */
export const quotaOf = z.object({ maxBytes: z.int().optional(), maxFiles: z.int().optional() })

export const usageOf = z.object({
  bytes: z.int(),
  files: z.int().meta({ description: 'whatever is no directory' }),
  subdirs: z.int().meta({ description: 'directories, this one among them' }),
  changedAt: z.iso.datetime().optional(),
})

export const quotaResult = z.object({ path: z.string(), quota: quotaOf, usage: usageOf })

interface QuotaPlan extends PlacePlan {
  change: QuotaChange
}

interface Found {
  quota: Quota
  usage: z.output<typeof usageOf>
}

export const setQuota = Saga.of<Services, QuotaPlan>()
  .step('before', {
    make: (services, plan) => at(services, plan, directory => directory.getQuota()),
    undo: restore,
    leaves: (_services, { path }) => ({ kind: 'quota', name: path }),
  })
  .step('quota', {
    make: (services, plan) =>
      at(services, plan, async directory => {
        await directory.setQuota(plan.change)
        return look(directory)
      }),
  })

export function quotaSetResult({ path }: QuotaPlan, { quota: found }: { quota: Found }) {
  return { path, ...found }
}

export async function getQuota(services: Services, plan: PlacePlan): Promise<z.output<typeof quotaResult>> {
  return { path: plan.path, ...(await at(services, plan, look)) }
}

type Place = z.output<typeof quotaData>

export function planQuota(job: JobMessage, data: Place, config: Config): PlacePlan {
  const { path } = data
  return path === undefined ? planTenant(tenantOf(job, data), config) : planPath(path, tenantNamedBy(job, data), config)
}

export function planQuotaSet(job: JobMessage, data: z.output<typeof quotaSetData>, config: Config): QuotaPlan {
  const { maxBytes, maxFiles } = data
  if (maxBytes === undefined && maxFiles === undefined) throw new InvalidJobError(['maxBytes or maxFiles: missing'])
  return { ...planQuota(job, data, config), change: { maxBytes, maxFiles } }
}

export function planQuotaClear(job: JobMessage, data: Place, config: Config): QuotaPlan {
  return { ...planQuota(job, data, config), change: { maxBytes: null, maxFiles: null } }
}

function at<T>(services: Services, plan: PlacePlan, work: (directory: OpenDirectory) => Promise<T>): Promise<T> {
  const use = () =>
    tenantsOf(services, plan).use(async known => {
      await using directory = await openPlace(known, plan)
      return await work(directory)
    })
  return onceLetGo(services, use)
}

async function look(directory: OpenDirectory): Promise<Found> {
  const [quota, usage] = await Promise.all([directory.getQuota(), directory.usage()])
  return { quota, usage: toUsage(usage) }
}

/** As messages have it. */
export function toUsage({ bytes, files, directories, changedAt }: DirectoryUsage): z.output<typeof usageOf> {
  return { bytes, files, subdirs: directories, ...(changedAt && { changedAt: changedAt.toISOString() }) }
}

/** A user that may set none has not changed it, and may not set it back either. */
async function restore(services: Services, before: Quota, plan: QuotaPlan): Promise<void> {
  try {
    await at(services, plan, async directory => {
      const now = await directory.getQuota()
      if (now.maxBytes === before.maxBytes && now.maxFiles === before.maxFiles) return
      await directory.setQuota({ maxBytes: before.maxBytes ?? null, maxFiles: before.maxFiles ?? null })
    })
  } catch (error) {
    if (!(error instanceof FileNotFoundError || error instanceof TenantNotFoundError)) throw error
  }
}
