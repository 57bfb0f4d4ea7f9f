/**
 * Names of volumes. Each follows from the job alone, so that a job that is delivered again comes to the same name.
 */
import { createHash } from 'node:crypto'
import { InvalidJobError } from './errors.js'

export const iqnPrefix = 'iqn.2001-07.org.openhvx'

/** The longest name that iSCSI allows, in bytes. */
const longestIqn = 223

const taskDigits = 8

/**
 * `<tenant>-<name>-<8 hex digits of the task's hash>`; the tenant stands in front once, even if the name has it already.
 *
 * @throws {InvalidJobError} nothing is left of the tenant or the name, or it becomes too long
 */
export function imageName({ taskId, tenantId, name }: { taskId: string; tenantId: string; name: string }): string {
  const tenant = normalise('tenantId', tenantId)
  const own = normalise('name', name)
  const base = own === tenant || own.startsWith(`${tenant}-`) ? own : `${tenant}-${own}`
  const hash = createHash('sha256').update(taskId).digest('hex').slice(0, taskDigits)
  const image = `${base}-${hash}`
  const tooLong = iqnOf(image).length - longestIqn
  if (tooLong > 0) throw new InvalidJobError([`tenantId and name are ${tooLong} characters too long together`])
  return image
}

/** A name in iSCSI has no underscores (RFC 3722). An image's name has no colons, so one stands for each. */
export function iqnOf(image: string): string {
  return `${iqnPrefix}:${image.replaceAll('_', ':')}`
}

/**
 * The image that a reference stands for: an iqn, or the image's name itself.
 *
 * @throws {InvalidJobError} an iqn that this agent gives to no volume
 */
export function imageOf(refId: string): string {
  if (!refId.startsWith('iqn.')) return refId
  const begin = iqnOf('')
  if (!refId.startsWith(begin) || refId === begin) {
    throw new InvalidJobError([`refId is no iqn of the form ${iqnOf('NAME')}`])
  }
  return refId.slice(begin.length).replaceAll(':', '_')
}

function normalise(what: string, part: string): string {
  const normal = part
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/-{2,}/g, '-')
    .replace(/^-|-$/g, '')
  if (normal === '') throw new InvalidJobError([`${what} has none of the characters A-Z, a-z, 0-9, dot and underscore`])
  return normal
}
