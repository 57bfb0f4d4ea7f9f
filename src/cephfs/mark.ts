/**
 * The mark by which a tenant's directory is known, as an extended attribute. It is one of `trusted.`, which nobody but root
 * sees or changes on a mount. It has the tenant's name: on a directory that was renamed or copied it counts for nothing.
 */
import { z } from 'zod'
import { FileExistsError, type OpenDirectory, XattrNotFoundError } from '../../lib/index.js'

export const markXattr = 'trusted.cephkit.tenant'

const schema = z.object({
  tenant: z.string(),
  /** For what job it was made, and by which agent. Absent: for none. */
  agent: z.string().optional(),
  task: z.string().optional(),
  /** Its removal has begun. */
  deleting: z.literal(true).optional(),
})

export type Mark = z.output<typeof schema>

/** What anybody can write, anybody can write wrongly: then it is no mark. */
export function parseMark(value: Buffer | undefined, name: string): Mark | undefined {
  if (value === undefined) return undefined
  try {
    const mark = schema.safeParse(JSON.parse(value.toString())).data
    return mark?.tenant === name ? mark : undefined
  } catch {
    return undefined
  }
}

export async function readMark(directory: OpenDirectory, name: string): Promise<Mark | undefined> {
  try {
    return parseMark(await directory.getXattr(markXattr), name)
  } catch (error) {
    if (error instanceof XattrNotFoundError) return undefined
    throw error
  }
}

/** False if there is one. */
export async function createMark(directory: OpenDirectory, mark: Mark): Promise<boolean> {
  try {
    await directory.setXattr(markXattr, JSON.stringify(mark), { only: 'create' })
    return true
  } catch (error) {
    if (error instanceof FileExistsError) return false
    throw error
  }
}

export async function replaceMark(directory: OpenDirectory, mark: Mark): Promise<void> {
  await directory.setXattr(markXattr, JSON.stringify(mark))
}
