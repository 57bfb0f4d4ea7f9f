/**
 * Names of volumes. Each follows from the job alone, so that a job that is delivered again comes to the same name.
 */
import { createHash } from 'node:crypto'
import { InvalidJobError } from './errors.js'

/** The longest name that iSCSI allows, in bytes. */
const longestIqn = 223

const taskDigits = 8

/** A name under whichever prefix: those that a volume was given under an earlier IQN_PREFIX stand for it still. */
const anyIqn = /^(iqn\.\d{4}-\d{2}\.[^:]+:)(.+)$/

interface Naming {
  taskId: string
  tenantId: string
  name: string
}

/**
 * `<tenant>-<name>-<8 hex digits of the task's hash>`; the tenant stands in front once, even if the name has it already.
 *
 * @throws {InvalidJobError} nothing is left of the tenant or the name, or it becomes too long
 */
export function imageName({ taskId, tenantId, name }: Naming, iqnPrefix: string): string {
  const tenant = normalise('tenantId', tenantId)
  const own = normalise('name', name)
  const base = own === tenant || own.startsWith(`${tenant}-`) ? own : `${tenant}-${own}`
  const hash = createHash('sha256').update(taskId).digest('hex').slice(0, taskDigits)
  const image = `${base}-${hash}`
  const tooLong = iqnOf(iqnPrefix, image).length - longestIqn
  if (tooLong > 0) throw new InvalidJobError([`tenantId and name are ${tooLong} characters too long together`])
  return image
}

/** A name in iSCSI has no underscores (RFC 3722). An image's name has no colons, so one stands for each. */
export function iqnOf(iqnPrefix: string, image: string): string {
  return `${iqnPrefix}${image.replaceAll('_', ':')}`
}

/** What stands before the image, with the colon. Undefined: it is the name of no image. */
export function prefixOf(iqn: string): string | undefined {
  return anyIqn.exec(iqn)?.[1]
}

/**
 * The image that a reference stands for: an iqn, or the image's name itself.
 *
 * @throws {InvalidJobError} an iqn of another form than those of volumes
 */
export function imageOf(refId: string): string {
  if (!refId.startsWith('iqn.')) return refId
  const [, , name] = anyIqn.exec(refId) ?? []
  if (name === undefined) throw new InvalidJobError(['refId is no iqn of the form iqn.2001-07.org.openhvx:NAME'])
  return name.replaceAll(':', '_')
}

function normalise(what: string, part: string): string {
  const normal = part
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/-{2,}/g, '-')
    .replace(/^-|-$/g, '')
  if (normal === '') throw new InvalidJobError([`${what} has none of the characters A-Z, a-z, 0-9, dot and underscore`])
  return normal
}
