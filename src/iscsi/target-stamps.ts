/**
 * Which targets an agent has made on gateways that others use, too: a target has no room for a mark of its own, and a name
 * says nothing of who gave it.
 *
 * One object `targets/<agent>`, beside the list of exposures, with a key for each target. It is written when there is no such
 * target, just before one is made, and taken away when it is gone for certain. So a target with a key is ours, or half of it
 * is; one without is somebody else's.
 */
import { onAgentObject, type Place, unlessNone } from './exposure.js'

export class TargetStamps {
  readonly #place: Place

  constructor(place: Place) {
    this.#place = place
  }

  async has(iqn: string): Promise<boolean> {
    const found = await onAgentObject(this.#place, 'targets', object => unlessNone(object.getOmap([iqn])))
    return found?.entries.has(iqn) ?? false
  }

  write(iqn: string): Promise<void> {
    return onAgentObject(this.#place, 'targets', object => object.setOmap({ [iqn]: new Date().toISOString() }))
  }

  async remove(iqn: string): Promise<void> {
    await onAgentObject(this.#place, 'targets', object => unlessNone(object.removeOmap([iqn])))
  }

  list(): Promise<Set<string>> {
    return onAgentObject(this.#place, 'targets', async object => {
      const stamped = new Set<string>()
      const read = async () => {
        for await (const [iqn] of object.listOmap()) stamped.add(iqn)
      }
      await unlessNone(read())
      return stamped
    })
  }
}
