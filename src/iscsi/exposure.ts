/**
 * What should be exposed: the volumes of an agent that initiators are to reach, and how.
 *
 * It is kept in a namespace of its own of the pool of the volumes: one object `exposed/<agent>` an agent, with a key for each
 * image. An entry is written before the target is made, and taken away when the target has gone, so whoever compares the two
 * knows which of them is right. Passwords that were given for one volume alone are in its entry; those of the settings are not.
 */
import { z } from 'zod'
import { type Cluster, ObjectNotFoundError, type Pool, type RadosObject } from '../../lib/index.js'
import { JobError } from '../errors.js'
import { iqnOf } from '../names.js'
import { defaultIqnPrefix } from '../settings.js'

const namespace = 'cephkit.iscsi'
const objectPrefix = 'exposed/'

const credentials = { user: z.string(), password: z.string() }

const entrySchema = z.object({
  poolName: z.string(),
  /** The image's name. */
  name: z.string(),
  /** The image's id: another image of the same name is another disk. */
  id: z.string(),
  /** The target's name, which it keeps as long as it is exposed. Entries from before there was IQN_PREFIX have none. */
  iqn: z.string().optional(),
  /** Its target is away while something is done to the image, or is going for good: whoever is at it says when it is over. */
  isClosed: z.boolean().default(false),
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

const exposureSchema = entrySchema.transform(entry => ({
  ...entry,
  iqn: entry.iqn ?? iqnOf(defaultIqnPrefix, entry.name),
}))

export type Exposure = z.output<typeof exposureSchema>

/** An image, as keys name it. */
export type Exposed = Pick<Exposure, 'poolName' | 'name'>

export interface Exposures {
  exposures: Exposure[]
  /** The images of entries that cannot be read, perhaps of another version. They are left alone. */
  unreadable: Exposed[]
}

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

  /** @throws {JobError} ENTRY_UNREADABLE */
  async read(exposed: Exposed): Promise<Exposure | undefined> {
    const key = keyOf(exposed)
    const text = await this.#onObject(async object => (await unlessNone(object.getOmap([key])))?.entries.get(key))
    if (text === undefined) return undefined
    const exposure = parse(text)
    if (exposure !== undefined) return exposure
    throw new JobError('ENTRY_UNREADABLE', `how ${key} is exposed cannot be read: perhaps another version wrote it`)
  }

  remove(exposed: Exposed): Promise<void> {
    return this.#onObject(async object => {
      await unlessNone(object.removeOmap([keyOf(exposed)]))
    })
  }

  list(): Promise<Exposures> {
    return this.#onObject(listIn)
  }

  #onObject<T>(work: (object: RadosObject) => Promise<T>): Promise<T> {
    return onAgentObject(this.#place, 'exposed', work)
  }
}

/** On the agent's own object of that kind. */
export function onAgentObject<T>(
  { cluster, volumePool, agent }: Place,
  kind: 'exposed' | 'targets',
  work: (object: RadosObject) => Promise<T>,
): Promise<T> {
  return inNamespace(cluster, volumePool, pool => work(pool.object(`${kind}/${encodeURIComponent(agent)}`)))
}

/** Those of all agents, by agent. */
export function listAllExposures(cluster: Cluster, volumePool: string): Promise<Map<string, Exposures>> {
  return inNamespace(cluster, volumePool, async pool => {
    const all = new Map<string, Exposures>()
    for await (const { name } of pool.listObjects()) {
      if (name.startsWith(objectPrefix)) {
        all.set(decodeURIComponent(name.slice(objectPrefix.length)), await listIn(pool.object(name)))
      }
    }
    return all
  })
}

export function keyOf({ poolName, name }: Exposed): string {
  return `${poolName}/${name}`
}

async function inNamespace<T>(cluster: Cluster, poolName: string, work: (pool: Pool) => Promise<T>): Promise<T> {
  await using pool = await cluster.openPool(poolName, { namespace, whenFull: 'force' })
  return await work(pool)
}

async function listIn(object: RadosObject): Promise<Exposures> {
  const exposures: Exposure[] = []
  const unreadable: Exposed[] = []
  try {
    for await (const [key, text] of object.listOmap()) {
      const exposure = parse(text)
      if (exposure !== undefined) exposures.push(exposure)
      else unreadable.push(exposedOf(key))
    }
  } catch (error) {
    if (!(error instanceof ObjectNotFoundError)) throw error
  }
  return { exposures, unreadable }
}

/** Neither has a slash in its name. */
function exposedOf(key: string): Exposed {
  const slash = key.indexOf('/')
  return { poolName: key.slice(0, slash), name: key.slice(slash + 1) }
}

/** What is wrong with it is not told, as there can be passwords in it. */
function parse(text: Buffer): Exposure | undefined {
  try {
    return exposureSchema.safeParse(JSON.parse(text.toString())).data
  } catch {
    return undefined
  }
}

export async function unlessNone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return undefined
    throw error
  }
}
