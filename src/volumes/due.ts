/**
 * What is to be done to images when the jobs that it comes from are over: a volume at the end of a long chain of clones is
 * flattened, a deleted one is purged from the trash when its time has come, a snapshot that was there for a clone is removed
 * when whoever had its volume is done with it. `upkeep.ts` does it.
 *
 * It is kept in a namespace of its own of the pool of the volumes: one object `due/<agent>` an agent, with a key for each
 * image. An entry is written before what makes it necessary is done, and taken away when there is nothing left to do, so one
 * that is not necessary is as good as none.
 */
import { z } from 'zod'
import { type Cluster, ObjectNotFoundError, type RadosObject } from '../../lib/index.js'

const namespace = 'cephkit.upkeep'

const schema = z.object({
  work: z.enum(['flatten', 'purge', 'release']),
  poolName: z.string(),
  /** What the image is called, or was when it went to the trash. */
  name: z.string(),
  /** Its id. */
  id: z.string(),
  /** What it is a clone of; or, if it is to be released, its snapshot. */
  origin: z.object({ poolName: z.string(), image: z.string(), snapshot: z.number() }).nullable(),
})

export type Due = z.output<typeof schema>

/** Where an agent keeps it. */
export interface DueList {
  cluster: Cluster
  /** The pool of the volumes. */
  volumePool: string
  agent: string
}

export async function addDue(list: DueList, due: Due): Promise<void> {
  await onObject(list, object => object.setOmap({ [keyOf(due)]: JSON.stringify(due) }))
}

export async function removeDue(list: DueList, due: Due): Promise<void> {
  await onObject(list, object => object.removeOmap([keyOf(due)]))
}

/** An entry that cannot be read, of another version perhaps, is left alone, and keeps no other from being done. */
export async function listDue(list: DueList, onUnreadable: (key: string) => void = () => {}): Promise<Due[]> {
  return onObject(list, async object => {
    const dues: Due[] = []
    try {
      for await (const [key, entry] of object.listOmap()) {
        const due = parse(entry.toString())
        if (due === undefined) onUnreadable(key)
        else dues.push(due)
      }
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError)) throw error
    }
    return dues
  })
}

function parse(text: string): Due | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

async function onObject<T>(
  { cluster, volumePool, agent }: DueList,
  work: (object: RadosObject) => Promise<T>,
): Promise<T> {
  await using pool = await cluster.openPool(volumePool, { namespace, whenFull: 'force' })
  return await work(pool.object(`due/${encodeURIComponent(agent)}`))
}

function keyOf({ work, poolName, id, origin }: Due): string {
  const key = `${work}/${poolName}/${id}`
  return work === 'release' ? `${key}/${origin?.snapshot}` : key
}
