/**
 * Which targets an agent has made on gateways that others use, too: a target has no room for a mark of its own, and a name
 * says nothing of who gave it.
 *
 * One object `targets/<agent>`, beside the list of exposures, with a key for each target. It is written when there is no such
 * target, just before one is made, and taken away when it is gone for certain. So a target with a key is ours, or half of it
 * is; one without is somebody else's. Where it is gone, and a request that had no answer may still make it, the key stays.
 */
import { z } from 'zod'
import { ConflictError, WriteOperation } from '../../lib/index.js'
import { onAgentObject, type Place, unlessNone } from './exposure.js'

const stampSchema = z.object({
  /** The gateway of its first portal, which has made it for the others. Those of an earlier version have none. */
  owner: z.string().optional(),
  /** When it was last to be made without it being known whether it was. Absent: there is no such request. */
  unansweredSince: z.iso.datetime().optional(),
})

export type TargetStamp = z.output<typeof stampSchema>

export class TargetStamps {
  readonly #place: Place

  constructor(place: Place) {
    this.#place = place
  }

  async has(iqn: string): Promise<boolean> {
    return (await this.read(iqn)) !== undefined
  }

  async read(iqn: string): Promise<TargetStamp | undefined> {
    const found = await onAgentObject(this.#place, 'targets', object => unlessNone(object.getOmap([iqn])))
    const text = found?.entries.get(iqn)
    return text && parse(text)
  }

  write(iqn: string, stamp: TargetStamp): Promise<void> {
    return onAgentObject(this.#place, 'targets', object => object.setOmap({ [iqn]: JSON.stringify(stamp) }))
  }

  async remove(iqn: string): Promise<void> {
    await onAgentObject(this.#place, 'targets', object => unlessNone(object.removeOmap([iqn])))
  }

  /** Unless it is another one by now. */
  async removeIfStill(iqn: string, stamp: TargetStamp): Promise<void> {
    const removal = new WriteOperation().compareOmap(iqn, 'eq', JSON.stringify(stamp)).removeOmap([iqn])
    try {
      await onAgentObject(this.#place, 'targets', object => unlessNone(object.operate(removal)))
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
    }
  }

  /** By the names of the targets. */
  list(): Promise<Map<string, TargetStamp>> {
    return onAgentObject(this.#place, 'targets', async object => {
      const stamps = new Map<string, TargetStamp>()
      const read = async () => {
        for await (const [iqn, text] of object.listOmap()) stamps.set(iqn, parse(text))
      }
      await unlessNone(read())
      return stamps
    })
  }
}

/** One of an earlier version is a time alone. */
function parse(text: Buffer): TargetStamp {
  try {
    return stampSchema.parse(JSON.parse(text.toString()))
  } catch {
    return {}
  }
}
