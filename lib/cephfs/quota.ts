/** Quotas and usage of directories, which CephFS has as extended attributes. */
import { checkInteger, checkMembers } from '../check.js'
import type { Resource } from '../errors.js'
import { failure } from './failure.js'

/** How much there may be in a directory and below it. What is absent has no limit. */
export interface Quota {
  /** Sum of the sizes of all files, in bytes. Holes count. */
  maxBytes?: number
  /** How many files and directories, the directory itself among them. */
  maxFiles?: number
}

/** What is left out stays as it is; null takes a limit away. */
export interface QuotaChange {
  /** At least 1. */
  maxBytes?: number | null | undefined
  /** At least 1, and that is the directory itself. */
  maxFiles?: number | null | undefined
}

/** The limits that count for a path, each with the directory that sets it; a name that is no UTF-8 has replacement characters. */
export interface EffectiveQuota {
  maxBytes?: { limit: number; path: string }
  maxFiles?: { limit: number; path: string }
}

/** What is in a directory and below it. CephFS counts with some delay: a second, and more where much changes. */
export interface DirectoryUsage {
  /** Sum of the sizes of all files (`rbytes`). */
  bytes: number
  /** Files, and whatever else is no directory (`rfiles`). */
  files: number
  /** Directories, this one among them (`rsubdirs`). */
  directories: number
  /** The latest change of all (`rctime`). Absent while CephFS does not know of any. */
  changedAt?: Date
}

/** @internal */
export const quotaXattr = 'ceph.quota'
/** @internal */
export const limitNames = ['maxBytes', 'maxFiles'] as const
const limitXattrs = { maxBytes: 'ceph.quota.max_bytes', maxFiles: 'ceph.quota.max_files' }
/** @internal */
export const countXattrs = ['ceph.dir.rbytes', 'ceph.dir.rfiles', 'ceph.dir.rsubdirs'] as const
/** @internal */
export const usageXattrs = [...countXattrs, 'ceph.dir.rctime'] as const

/** Of `max_bytes=N max_files=M`, where 0 is no limit; null is no quota at all. @internal */
export function parseQuota(value: Buffer | null): Quota {
  if (value === null) return {}
  const [, bytes, files] = /^max_bytes=(\d+) max_files=(\d+)$/.exec(value.toString()) ?? []
  if (bytes === undefined || files === undefined) throw new Error(`CephFS has a quota of another form: ${value}`)
  return {
    ...(bytes !== '0' && { maxBytes: Number(bytes) }),
    ...(files !== '0' && { maxFiles: Number(files) }),
  }
}

/** @internal */
export function checkQuota(quota: QuotaChange): void {
  checkMembers('quota', quota, limitNames)
  for (const name of limitNames) {
    const limit = quota[name]
    if (limit !== undefined && limit !== null) checkInteger(`quota.${name}`, limit, 1)
  }
}

/** Sets limits, and reads them back before they count as set. The quota has been checked. @internal */
export async function changeQuota(
  quota: QuotaChange,
  directory: {
    resource: Resource
    /** What sets. */
    syscall: string
    set: (xattr: string, value: Buffer) => Promise<void>
    get: () => Promise<Quota>
  },
): Promise<Quota> {
  const { resource, syscall, set, get } = directory
  for (const [xattr, value] of xattrsOf(quota)) await set(xattr, Buffer.from(value))
  const now = await get()
  for (const name of limitNames) {
    if (quota[name] !== undefined && (now[name] ?? null) !== quota[name])
      throw failure('ECANCELED', syscall, resource, `${name} is ${now[name] ?? 'none'}`)
  }
  return now
}

/** Both limits in one, so that there is no moment with one of them. */
function xattrsOf({ maxBytes, maxFiles }: QuotaChange): [name: string, value: string][] {
  if (maxBytes !== undefined && maxFiles !== undefined)
    return [[quotaXattr, `max_bytes=${maxBytes ?? 0} max_files=${maxFiles ?? 0}`]]
  if (maxBytes !== undefined) return [[limitXattrs.maxBytes, String(maxBytes ?? 0)]]
  return maxFiles === undefined ? [] : [[limitXattrs.maxFiles, String(maxFiles ?? 0)]]
}

/** @internal */
export function parseUsage(values: readonly (Buffer | null)[]): DirectoryUsage {
  const [bytes, files, directories, changed = 0] = values.map(Number)
  if (bytes === undefined || files === undefined || directories === undefined)
    throw new Error('CephFS does not tell what is in a directory')
  return {
    bytes,
    files,
    directories,
    ...(changed > 0 && { changedAt: new Date(changed * 1000) }),
  }
}
