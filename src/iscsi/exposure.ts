/**
 * What should be exposed: the volumes of an agent that initiators are to reach, and how.
 *
 * It is kept in a namespace of its own of the pool of the volumes: one object `exposed/<agent>` an agent, with a key for each
 * image. An entry is written before the target is made, and taken away before the target goes, so whoever compares the two
 * knows which of them is right. Passwords that were given for one volume alone are in its entry; those of the settings are not.
 */
import { z } from 'zod'
import { type Cluster, ObjectNotFoundError, type RadosObject } from '../../lib/index.js'

const namespace = 'cephkit.iscsi'

const credentials = { user: z.string(), password: z.string() }

export const exposureSchema = z.object({
  poolName: z.string(),
  /** The image's name. */
  name: z.string(),
  /** The image's id: another image of the same name is another disk. */
  id: z.string(),
  initiators: z.array(z.string()),
  addresses: z.array(z.string()),
  /** `settings`: as those are at the time, if there is a password in them. Null: none. */
  chap: z.union([
    z.literal('settings'),
    z.object({ ...credentials, mutual: z.object(credentials).optional() }),
    z.null(),
  ]),
  disk: z.object({ blockSize: z.int(), writeCache: z.boolean(), discard: z.boolean() }),
  /** The gateways that show it. Absent: those of the settings, as these are at the time. */
  portals: z.array(z.object({ host: z.string(), ip: z.string() })).optional(),
  /** The task that exposed it at first, and when that was begun. */
  task: z.string(),
  begunAt: z.string(),
})

export type Exposure = z.output<typeof exposureSchema>

/** An image, as keys name it. */
export type Exposed = Pick<Exposure, 'poolName' | 'name'>

/** Where an agent keeps it. */
export interface Place {
  cluster: Cluster
  /** The pool of the volumes. */
  volumePool: string
  agent: string
}

export class ExposureList {
  readonly #place: Place

  constructor(place: Place) {
    this.#place = place
  }

  write(exposure: Exposure): Promise<void> {
    return this.#onObject(object => object.setOmap({ [keyOf(exposure)]: JSON.stringify(exposure) }))
  }

  async read(exposed: Exposed): Promise<Exposure | undefined> {
    const key = keyOf(exposed)
    const text = await this.#onObject(async object => (await unlessNone(object.getOmap([key])))?.entries.get(key))
    return text && parse(text)
  }

  remove(exposed: Exposed): Promise<void> {
    return this.#onObject(async object => {
      await unlessNone(object.removeOmap([keyOf(exposed)]))
    })
  }

  list(): Promise<Exposure[]> {
    return this.#onObject(async object => {
      const exposures: Exposure[] = []
      try {
        for await (const [, text] of object.listOmap()) exposures.push(parse(text))
      } catch (error) {
        if (!(error instanceof ObjectNotFoundError)) throw error
      }
      return exposures
    })
  }

  #onObject<T>(work: (object: RadosObject) => Promise<T>): Promise<T> {
    return onAgentObject(this.#place, 'exposed', work)
  }
}

/** On the agent's own object of that kind. */
export async function onAgentObject<T>(
  { cluster, volumePool, agent }: Place,
  kind: 'exposed' | 'targets',
  work: (object: RadosObject) => Promise<T>,
): Promise<T> {
  await using pool = await cluster.openPool(volumePool, { namespace })
  return await work(pool.object(`${kind}/${encodeURIComponent(agent)}`))
}

function keyOf({ poolName, name }: Exposed): string {
  return `${poolName}/${name}`
}

function parse(text: Buffer): Exposure {
  return exposureSchema.parse(JSON.parse(text.toString()))
}

export async function unlessNone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return undefined
    throw error
  }
}
