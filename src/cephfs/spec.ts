/**
 * What a tenant is, and the directories that one has. The tenant's own is root's, for it is what the tenant's processes see as
 * `/` (chroot); those in it are the tenant's.
 */
import { z } from 'zod'
import type { WantedDirectory } from '../../lib/index.js'
import { InvalidTenantError } from './errors.js'

/** As CephFS has it, in bytes; here each character is one. */
const longestName = 255

/** Becomes the name of a directory: without separators, NUL and what would be no name of its own (`.`, `..`, `.snap`). */
export function directoryName() {
  return z
    .string('must be a string')
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]*$/, 'must be of letters, digits, . _ and -, with a letter, digit or _ in front')
    .max(longestName, `must be at most ${longestName} characters`)
}

/** Those below are the system's own, and of the others two stand for nobody: that of 16 bits, and the one before it. */
const firstId = 1000
const lastId = 2 ** 32 - 2
const nobodies = [65_534, 65_535]

function id() {
  const expected = `must be an integer from ${firstId} to ${lastId}, and none of ${nobodies.join(' and ')}`
  return z
    .int(expected)
    .min(firstId, expected)
    .max(lastId, expected)
    .refine(value => !nobodies.includes(value), expected)
}

function limit() {
  const expected = 'must be an integer of at least 1; null takes the limit away'
  return z.int(expected).min(1, expected).nullable().optional()
}

/** What is absent stays as it is; null takes a limit away. */
export const quotaShape = { maxBytes: limit(), maxFiles: limit() }

/** Far more than anybody has, and few enough for one call. */
const mostWebroots = 1000

const webroot = z.strictObject({
  name: directoryName(),
  /** With a directory `public` in it. Default: false. */
  public: z.boolean('must be true or false').optional(),
})

/** Of a tenant, beside its name. */
export const tenantShape = {
  uid: id(),
  gid: id(),
  quota: z.strictObject(quotaShape, 'must be { maxBytes?, maxFiles? }').optional(),
  /** Those that are to be there, in `webroots`. Others stay as they are. */
  webroots: z
    .array(webroot, 'must be a list of { name, public? }')
    .max(mostWebroots, `must be at most ${mostWebroots}`)
    .refine(list => new Set(list.map(({ name }) => name)).size === list.length, 'must have no name twice')
    .optional(),
}

const tenant = z.strictObject({ name: directoryName(), ...tenantShape })

export type Tenant = z.input<typeof tenant>

/** @throws {InvalidTenantError} which names every problem */
export function checkTenant(value: unknown): Tenant {
  const parsed = tenant.safeParse(value, { reportInput: true })
  if (!parsed.success) throw InvalidTenantError.of(parsed.error)
  return parsed.data
}

/** @throws {InvalidTenantError} */
export function checkTenantName(value: unknown): string {
  return checkTenant({ name: value, uid: firstId, gid: firstId }).name
}

/**
 * What the tenant's own directory is made with: what is in it is made by its owner at once, who is of root's group for that, and
 * need not be given away.
 */
export const newTenantMode = 0o775

/** @param isNew - The tenant's own directory has just been made: it becomes what it is to be when all is in it. */
export function directoriesOf(tenant: Tenant, isNew: boolean): WantedDirectory[] {
  const root = { path: '.', uid: 0, gid: 0, mode: 0o755 }
  return isNew ? [...innerDirectories(tenant), root] : [root, ...innerDirectories(tenant)]
}

/** Each directory behind the one that it is in. */
function innerDirectories({ uid, gid, webroots = [] }: Tenant): WantedDirectory[] {
  const own = (path: string, mode: number) => ({ path, uid, gid, mode })
  return [
    own('home', 0o700),
    own('webroots', 0o750),
    ...webroots.flatMap(({ name, public: hasPublic }) => [
      own(`webroots/${name}`, 0o755),
      ...(hasPublic ? [own(`webroots/${name}/public`, 0o755)] : []),
    ]),
    own('logs', 0o750),
    own('tmp', 0o1777),
  ]
}
