/**
 * One job at a time works on an image, whichever agent it is of. A lock is a key, and its value who holds it; it lasts as
 * long as its holder's lease. So there is one lease to renew, not one for each image, and a lock is taken from a holder only
 * after that was shut out of the cluster.
 *
 * A job has the lock of its image from its beginning to its end. To change another image, it takes that one's lock for just as
 * long, and never waits without end for an image that its own is a clone of: so no two jobs wait for each other for ever.
 *
 * A job whose process died has its image still, half done as that may be: whoever goes on with the job has it then, and no other
 * job before. Unless nobody goes on with it.
 */
import { ConflictError, ObjectNotFoundError, type Pool, WriteOperation } from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import type { Instance } from './instance.js'
import { allLocksObjects, instanceOfHolder, jobOfHolder, locksObject } from './layout.js'
import { type JobRecord, UnknownRecordError } from './record.js'
import type { Records } from './records.js'

const readAtOnce = 32

export class ImageLocks {
  readonly #records: Records
  readonly #pool: Pool
  readonly #instance: Instance
  readonly #willBeFinished: (job: JobRecord) => Promise<boolean>

  /** @param willBeFinished - Whether somebody goes on with a job that a process has left. */
  constructor(records: Records, instance: Instance, willBeFinished: (job: JobRecord) => Promise<boolean>) {
    this.#records = records
    this.#pool = records.pool
    this.#instance = instance
    this.#willBeFinished = willBeFinished
  }

  /** Takes it if nobody has it. Returns false otherwise. */
  takeFree(image: string, holder: string): Promise<boolean> {
    return this.#replace(image, '', holder)
  }

  /** Takes it if nobody has it, or whoever has it is gone, and nobody goes on with what it had it for. Returns false otherwise. */
  async tryAcquire(image: string, holder: string): Promise<boolean> {
    if (await this.#replace(image, '', holder)) return true
    const other = await this.holder(image)
    if (other === holder) return true
    if (other === undefined || !(await this.#instance.ensureGone(instanceOfHolder(other)))) return false
    const left = isOfSameJob(other, holder) ? undefined : await this.#unfinished(image, other)
    if (left !== undefined && (await this.#willBeFinished(left))) return false
    return this.#replace(image, other, holder)
  }

  /** The job that a process which is gone had the image for, and has not finished. */
  async left(image: string): Promise<JobRecord | undefined> {
    const holder = await this.holder(image)
    if (holder === undefined || !(await this.#instance.ensureGone(instanceOfHolder(holder)))) return undefined
    return this.#unfinished(image, holder)
  }

  /** Undefined also where it is not the job's own image, but one that it changed on its way. */
  async #unfinished(image: string, holder: string): Promise<JobRecord | undefined> {
    const { agent, task } = jobOfHolder(holder)
    try {
      const record = await this.#records.read(agent, task)
      return record?.image === image && record.outcome === undefined ? record : undefined
    } catch (error) {
      // Nobody of this version goes on with it.
      if (error instanceof UnknownRecordError) return undefined
      throw error
    }
  }

  async #replace(image: string, expected: string, holder: string): Promise<boolean> {
    const operation = new WriteOperation()
      .create({ exclusive: false })
      .compareOmap(image, 'eq', expected)
      .setOmap({ [image]: holder })
    try {
      await this.#pool.object(locksObject(image)).operate(operation)
      return true
    } catch (error) {
      if (error instanceof ConflictError) return false
      throw error
    }
  }

  async holder(image: string): Promise<string | undefined> {
    try {
      const { entries } = await this.#pool.object(locksObject(image)).getOmap([image])
      return entries.get(image)?.toString()
    } catch (error) {
      if (error instanceof ObjectNotFoundError) return undefined
      throw error
    }
  }

  release(image: string, holder: string): Promise<void> {
    return releaseLock(this.#pool, image, holder)
  }

  /**
   * What a process has left when it died, except for jobs that are to be gone on with. Whoever wants one of them would take it from
   * it, too; of others nobody would know.
   */
  async releaseAllOf(instance: string): Promise<void> {
    await forEachLimited(allLocksObjects(), readAtOnce, async name => {
      for (const [image, holder] of await this.#list(name)) {
        if (instanceOfHolder(holder) !== instance || (await this.#unfinished(image, holder)) !== undefined) continue
        await this.release(image, holder)
      }
    })
  }

  async #list(name: string): Promise<[image: string, holder: string][]> {
    const held: [string, string][] = []
    try {
      for await (const [image, holder] of this.#pool.object(name).listOmap()) held.push([image, holder.toString()])
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError)) throw error
    }
    return held
  }
}

function isOfSameJob(one: string, other: string): boolean {
  const [a, b] = [jobOfHolder(one), jobOfHolder(other)]
  return a.agent === b.agent && a.task === b.task
}

/** Gives it back, if it is still held so. */
export async function releaseLock(pool: Pool, image: string, holder: string): Promise<void> {
  const operation = new WriteOperation().compareOmap(image, 'eq', holder).removeOmap([image])
  try {
    await pool.object(locksObject(image)).operate(operation)
  } catch (error) {
    if (!(error instanceof ConflictError || error instanceof ObjectNotFoundError)) throw error
  }
}
