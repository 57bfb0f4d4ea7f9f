/** What is wrong with tenants, and with what is taken for one. */
import type { z } from 'zod'
import { BlockedError, type Blocker, JobError } from '../errors.js'
import { describeIssues } from '../jobs/data.js'

/** A tenant cannot be like that. Nothing has been touched. */
export class InvalidTenantError extends JobError {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super('INVALID_TENANT', problems.join('; '))
    this.problems = problems
  }

  /** @internal */
  static of(error: z.ZodError): InvalidTenantError {
    return new InvalidTenantError(describeIssues(error))
  }
}

/** The directory of the tenants is not there. */
export class TenantBaseNotFoundError extends JobError {
  constructor(base: string, options?: ErrorOptions) {
    super('TENANT_BASE_NOT_FOUND', `there is no ${base}: the first tenant.ensure makes it`, options)
  }
}

export class TenantNotFoundError extends JobError {
  constructor(path: string) {
    super('TENANT_NOT_FOUND', `there is no ${path}`)
  }
}

/** Something has the tenant's name that nobody has made as a tenant: it is left alone. */
export class NotTenantError extends JobError {
  constructor(path: string) {
    super('NOT_A_TENANT', `${path} is no directory of a tenant: it is left alone`)
  }
}

/** Some of it is gone. Only another delete goes on with it. */
export class TenantBeingDeletedError extends JobError {
  constructor(path: string) {
    super('TENANT_BEING_DELETED', `${path} is being deleted: delete it to the end first`)
  }
}

/** A file or a symbolic link is where one of its directories is to be: it is left alone. */
export class TenantBlockedError extends JobError {
  constructor(message: string, options?: ErrorOptions) {
    super('TENANT_BLOCKED', message, options)
  }
}

/** Nothing has been removed. */
export class TenantHasSnapshotsError extends BlockedError {
  constructor(path: string, count: number, blockers: readonly Blocker[]) {
    const says = `${path} has ${count} snapshots in it: remove them, or delete it with snapshots: true`
    super('TENANT_HAS_SNAPSHOTS', says, blockers)
  }
}

/** What is named could not be removed; all else is gone. */
export class TenantNotEmptyError extends BlockedError {
  constructor(path: string, reason: string, blockers: readonly Blocker[]) {
    super('TENANT_NOT_EMPTY', `${path} is not gone: ${reason}`, blockers)
  }
}
