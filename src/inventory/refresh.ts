import { z } from 'zod'
import type { Services } from '../jobs/actions.js'
import { dataSchema } from '../jobs/data.js'

export const refreshData = dataSchema({
  /** Every inventory is a full one. */
  full: z.boolean('must be true or false').optional(),
})

export async function refreshInventory({ telemetry }: Services): Promise<object> {
  return { inventory: await telemetry.refresh() }
}
