import type { Logger } from '../log.js'

/** What could not be measured is logged, and undefined. */
export async function orLeftOut<T>(measuring: Promise<T>, log: Logger, what: string): Promise<T | undefined> {
  try {
    return await measuring
  } catch (error) {
    log.warn({ what, err: error }, 'not measured')
    return undefined
  }
}
