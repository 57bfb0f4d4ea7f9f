/** Schemas for the data of a job: unknown keys are refused, and some keys have more than one name. */
import { z } from 'zod'
import { MiB } from '../../lib/index.js'

/** Of what only control planes know the meaning of, in bytes: it becomes part of the job's record. */
const longestTarget = 255

/**
 * An object of these keys only, and `target`: the control plane puts it into every job, to choose the agent by.
 *
 * @param aliases - By key, the other names that it may be given under.
 */
export function dataSchema<Shape extends z.ZodRawShape>(
  shape: Shape,
  aliases: Partial<Record<keyof Shape & string, readonly string[]>> = {},
) {
  const fits = (target: string) => Buffer.byteLength(target) <= longestTarget
  const target = z.string('must be a string').refine(fits, `must be at most ${longestTarget} bytes`).optional()
  const object = z.strictObject({ ...shape, target })
  return z
    .unknown()
    .transform((data, context) => underOneName(data as Record<string, unknown>, aliases, context))
    .pipe(object.meta({ description: describeAliases(aliases) }))
}

/** For whoever describes the schema. */
function describeAliases(aliases: Record<string, readonly string[] | undefined>): string | undefined {
  const described = Object.entries(aliases).map(([key, others = []]) => `${key} may be called ${others.join(', ')}`)
  return described.length > 0 ? described.join('; ') : undefined
}

function underOneName(
  data: Record<string, unknown>,
  aliases: Record<string, readonly string[] | undefined>,
  context: z.core.$RefinementCtx,
): Record<string, unknown> {
  const renamed = { ...data }
  for (const [key, others = []] of Object.entries(aliases)) {
    for (const other of others) {
      if (!(other in renamed)) continue
      if (key in renamed && renamed[key] !== renamed[other]) {
        context.addIssue({ code: 'custom', message: `is the same as ${key}, but has another value`, path: [other] })
      }
      renamed[key] = renamed[other]
      delete renamed[other]
    }
  }
  return renamed
}

/** Below 2^53 bytes. */
const largestMiB = Math.floor(Number.MAX_SAFE_INTEGER / MiB)

/** The names under which a size in MiB is given. */
export const sizeAliases = ['sizeMb', 'size_mb']

export function sizeInMiB() {
  const expected = `must be an integer from 1 to ${largestMiB}, in MiB`
  return z.int(expected).min(1, expected).max(largestMiB, expected)
}

/** Far more than any name in Ceph may have. */
const longestText = 4096

export function nonEmptyText() {
  return z
    .string('must be a string')
    .min(1, 'must not be empty')
    .max(longestText, `must be at most ${longestText} characters`)
}

/** What is left of the 2048 bytes that an object's name may have, when RBD has put its own part in front. */
const longestName = 2041

/** The name of a pool or an image. */
export function cephName() {
  const fits = (name: string) => Buffer.byteLength(name) <= longestName
  return nonEmptyText()
    .regex(/^[^/@\0]+$/, 'must be a name without / and @')
    .refine(fits, `must be at most ${longestName} bytes`)
    .refine(isWellFormed, 'must be well-formed Unicode')
}

// String.prototype.isWellFormed is in Node 20, but not in the ES2023 that TypeScript checks against.
export function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}

/** One line a problem, each with the key that it is about. */
export function describeIssues(error: z.ZodError): string[] {
  return error.issues.flatMap(issue => {
    const key = issue.path.map(String).join('.')
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map(unknown => `${[key, unknown].filter(Boolean).join('.')}: unknown key`)
    if (issue.code === 'invalid_type' && issue.input === undefined) return `${key || 'message'}: missing`
    return `${key || 'message'}: ${issue.message}`
  })
}
