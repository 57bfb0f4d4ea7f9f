/** How full tenants are. */
import type { Tenants, TenantUsage } from './tenants.js'

/** Of what a quota allows: 1 is all of it. Absent where there is no limit. */
export interface Fullness {
  bytes?: number
  files?: number
}

export interface TenantReport extends TenantUsage {
  fullness: Fullness
}

export function fullnessOf({ quota, usage }: Pick<TenantUsage, 'quota' | 'usage'>): Fullness {
  // CephFS counts directories for the one limit, the tenant's own among them.
  const files = usage.files + usage.directories
  return {
    ...(quota.maxBytes !== undefined && { bytes: usage.bytes / quota.maxBytes }),
    ...(quota.maxFiles !== undefined && { files: files / quota.maxFiles }),
  }
}

/**
 * All tenants, the fullest first.
 *
 * @param over - Only those that are as full, or fuller: 1 is full. Default: all.
 */
export async function reportTenants(tenants: Tenants, over?: number): Promise<TenantReport[]> {
  const found: TenantReport[] = []
  for await (const tenant of tenants.list()) {
    const report = { ...tenant, fullness: fullnessOf(tenant) }
    if (over === undefined || fullest(report) >= over) found.push(report)
  }
  return found.sort((a, b) => fullest(b) - fullest(a) || a.name.localeCompare(b.name))
}

/** Less than any, without a limit. */
function fullest({ fullness }: TenantReport): number {
  return Math.max(fullness.bytes ?? -1, fullness.files ?? -1)
}
