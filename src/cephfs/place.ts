/** Where in the directory of the tenants a job is at work. */
import { z } from 'zod'
import type { OpenDirectory } from '../../lib/index.js'
import type { Config } from '../config.js'
import { InvalidJobError, JobError } from '../errors.js'
import type { Plan, Services } from '../jobs/actions.js'
import { isWellFormed } from '../jobs/data.js'
import type { JobMessage } from '../jobs/message.js'
import type { TenantBase } from './base.js'
import { InvalidTenantError } from './errors.js'
import { directoryName } from './spec.js'
import type { Tenants } from './tenants.js'

export interface PlacePlan extends Plan {
  /** In place of an image: one job at a time works on a tenant. */
  image: string
  /** In the file system. */
  path: string
  /** From the directory of the tenants. */
  at: string
  /** The tenant that it is the directory of. */
  tenant?: string
}

/** What a path may have as many of, in bytes; as in limits.h. */
const longestPath = 4096

/** From the root of the file system. */
export function directoryPath() {
  const isPlain = (path: string) => !path.split('/').some(name => name === '..' || name === '.' || name === '.snap')
  return z
    .string('must be a string')
    .regex(/^\/[^\0]*$/, 'must be a path that begins with /, without NUL')
    .max(longestPath, `must be at most ${longestPath} characters`)
    .refine(isPlain, 'must be a path without . and .. and .snap')
    .refine(isWellFormed, 'must be well-formed Unicode')
}

/** The name of a tenant, or a path. @throws {InvalidTenantError} it is neither */
export function checkPlace(place: string): string {
  const parsed = (place.startsWith('/') ? directoryPath() : directoryName()).safeParse(place)
  if (!parsed.success) throw new InvalidTenantError([`${place}: ${parsed.error.issues[0]?.message}`])
  return parsed.data
}

interface TenantData {
  tenantId?: string | undefined
}

/** The tenant that a job names, if it does. @throws {InvalidJobError} what it names cannot be one, or is two */
export function tenantNamedBy(job: JobMessage, data: TenantData): string | undefined {
  const tenantId = job.tenantId ?? data.tenantId
  if ((data.tenantId ?? tenantId) !== tenantId) throw new InvalidJobError(["tenantId: another than the job's own"])
  const parsed = directoryName().optional().safeParse(tenantId)
  if (parsed.success) return parsed.data
  throw new InvalidJobError(parsed.error.issues.map(({ message }) => `tenantId: ${message}`))
}

/** The tenant that a job is about. @throws {InvalidJobError} it names none, or what cannot be one */
export function tenantOf(job: JobMessage, data: TenantData): string {
  const tenant = tenantNamedBy(job, data)
  if (tenant === undefined) throw new InvalidJobError(['tenantId: missing'])
  return tenant
}

export function planTenant(name: string, { cephfs }: Pick<Config, 'cephfs'>): PlacePlan & { tenant: string } {
  return { ...planAt(`/${name}`, cephfs), tenant: name }
}

/**
 * @param path - In the directory of the tenants; and in the tenant's, if there is one.
 * @throws {InvalidJobError}
 */
export function planPath(path: string, tenant: string | undefined, { cephfs }: Pick<Config, 'cephfs'>): PlacePlan {
  const names = path.split('/').filter(Boolean)
  const base = cephfs.tenantBase.split('/').filter(Boolean)
  if (!base.every((name, i) => names[i] === name))
    throw new InvalidJobError([`path: must be ${cephfs.tenantBase}, or below it`])
  const rest = names.slice(base.length)
  if (tenant !== undefined && rest[0] !== tenant)
    throw new InvalidJobError([`path: is not in the directory of tenant ${tenant}`])
  return planAt(`/${rest.join('/')}`, cephfs)
}

function planAt(at: string, { fileSystem, tenantBase }: Config['cephfs']): PlacePlan {
  const first = at.split('/')[1] ?? ''
  return { image: `${fileSystem ?? ''}:${join(tenantBase, `/${first}`)}`, path: join(tenantBase, at), at }
}

function join(base: string, at: string): string {
  if (at === '/') return base
  return base === '/' ? at : base + at
}

/**
 * The tenants that the plan is for. A job that is gone on with may be of another agent, or of a time before the settings were
 * changed, and there may be a tenant of that name where the tenants are now.
 */
export function tenantsOf({ tenants, config }: Services, { image, path, at }: PlacePlan): TenantBase {
  if (planAt(at, config.cephfs).image === image) return tenants
  throw new JobError(
    'OTHER_TENANT_BASE',
    `${path} is not where the tenants of this agent are, ${config.cephfs.tenantBase}`,
  )
}

/** The tenant's directory if it is one, or that at the path. No symbolic link is followed. */
export function openPlace(tenants: Tenants, { at, tenant }: PlacePlan): Promise<OpenDirectory> {
  return tenant === undefined ? tenants.files.openDirectory(at) : tenants.openTenant(tenant)
}
