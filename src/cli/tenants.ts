/** What the commands for quotas and tenants share. */
import type { Tenants, TenantUsage } from '../cephfs/tenants.js'
import { parseSize, showSize } from './size.js'
import { toTable } from './table.js'

/** On a mount of its own, with the settings that the agent has. */
export async function withTenants<T>(
  use: (tenants: Tenants) => Promise<T>,
  { make = false }: { make?: boolean } = {},
): Promise<T> {
  // Not with the other commands, which do without the addon.
  const { readFileSystemConfig } = await import('../config.js')
  const { TenantBase } = await import('../cephfs/base.js')
  const { withCluster } = await import('./cluster.js')
  const { pino } = await import('pino')
  const config = { cephfs: readFileSystemConfig() }
  return withCluster(async cluster => {
    const base = new TenantBase({ cluster, config, log: pino({ enabled: false }) })
    try {
      return await (make ? base.useOrMake(use) : base.use(use))
    } finally {
      await base.close()
    }
  })
}

/** Of a number of files, or of a size, `none` being no limit. */
function parseLimit(option: string, text: string, parse: (option: string, text: string) => number): number | null {
  return text === 'none' ? null : parse(option, text)
}

export function parseCount(option: string, text: string): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : 0
  if (count < 1) throw new Error(`${option} ${text}: must be a whole number, of at least 1`)
  return count
}

export interface QuotaOptions {
  maxBytes?: string
  maxFiles?: string
}

export function quotaOf({ maxBytes, maxFiles }: QuotaOptions) {
  return {
    ...(maxBytes !== undefined && { maxBytes: parseLimit('--max-bytes', maxBytes, parseSize) }),
    ...(maxFiles !== undefined && { maxFiles: parseLimit('--max-files', maxFiles, parseCount) }),
  }
}

/** A line each. */
export async function toUsageTable(
  reported: readonly Pick<TenantUsage, 'name' | 'quota' | 'usage'>[],
): Promise<string> {
  const { fullnessOf } = await import('../cephfs/report.js')
  const lines = reported.map(({ name, quota, usage }) => {
    const { bytes, files } = fullnessOf({ quota, usage })
    return [
      name,
      showSize(usage.bytes),
      quota.maxBytes === undefined ? '-' : showSize(quota.maxBytes),
      bar(bytes),
      String(usage.files + usage.directories),
      quota.maxFiles === undefined ? '-' : String(quota.maxFiles),
      bar(files),
    ]
  })
  return toTable(['', 'BYTES', 'OF', '', 'FILES', 'OF', ''], lines, [1, 2, 4, 5])
}

const columns = 10

/** Nothing where there is no limit. A bar is full only where nothing is left. */
function bar(fullness: number | undefined): string {
  if (fullness === undefined) return ''
  const full = Math.min(Math.floor(columns * fullness), columns)
  return `${'█'.repeat(full).padEnd(columns, '░')} ${`${Math.floor(fullness * 100)} %`.padStart(5)}`
}
