/**
 * The journal as a process of an agent has it: it takes jobs in hand, and is the only one that has them.
 *
 * A record is changed by compare-and-swap alone, and names its owner. It changes hands when its owner is gone, which
 * `instance.ts` makes sure of.
 */
import type { Cluster } from '../../lib/index.js'
import { isRetryable } from '../errors.js'
import type { JobMessage } from '../jobs/message.js'
import type { Progress } from '../jobs/saga.js'
import type { Logger } from '../log.js'
import { Entry } from './entry.js'
import { ImageLocks } from './image-locks.js'
import { Instance, type InstanceRecord } from './instance.js'
import { holderOf } from './layout.js'
import { Patience } from './patience.js'
import { type JobRecord, recordVersion } from './record.js'
import { type DoneEntry, type OpenEntry, RecordChangedError, Records } from './records.js'

export interface JournalOptions {
  cluster: Cluster
  /** The pool of the volumes. */
  poolName: string
  agentId: string
  /** How long the agent keeps what is finished, in milliseconds: for others to know, when it is gone. */
  keepMs?: number
  log: Logger
  /** Milliseconds after which a process that gives no sign of life counts as gone. Default: 30,000. */
  leaseMs?: number
  /** Whether jobs of other agents are gone on with, of which no process is there. Default: false. */
  takeover?: boolean
}

/** What a job is, when it begins. */
export interface Beginning {
  plan: object
  image: string | undefined
  progress: Progress
}

const defaultLeaseMs = 30_000

/** How many finished records are removed with one change to the index. */
const collectedAtOnce = 256

export class Journal {
  readonly records: Records
  readonly instance: Instance
  readonly #agentId: string
  readonly #takeover: boolean
  readonly #locks: ImageLocks
  readonly #patience: Patience
  readonly #givenUp = new AbortController()
  readonly #alone = new AbortController()
  /** Jobs that are not finished. */
  readonly #inHand = new Map<string, Entry>()
  #closing: Promise<void> | undefined

  private constructor({ agentId, log, takeover = false }: JournalOptions, records: Records, instance: Instance) {
    this.records = records
    this.instance = instance
    this.#agentId = agentId
    this.#takeover = takeover
    this.#locks = new ImageLocks(records, instance, record => this.#willBeFinished(record))
    const over = AbortSignal.any([this.#givenUp.signal, instance.lost])
    const alone = AbortSignal.any([over, this.#alone.signal])
    this.#patience = new Patience({ over, alone }, log, error => instance.lose('its connection is blocklisted', error))
    instance.onCancel = (agent, task) => this.#refresh(agent, task)
  }

  static async open(options: JournalOptions): Promise<Journal> {
    const { cluster, poolName, agentId, keepMs, log, leaseMs = defaultLeaseMs } = options
    const records = await Records.open(cluster, poolName)
    try {
      return new Journal(
        options,
        records,
        await Instance.begin({ cluster, records, agent: agentId, keepMs, log, leaseMs }),
      )
    } catch (error) {
      await records.close()
      throw error
    }
  }

  /** Aborted, with an InstanceLostError, when this process has been shut out: then others may have its jobs. */
  get lost(): AbortSignal {
    return this.instance.lost
  }

  /**
   * The job, in hand, or finished. If another process has it in hand, waits until it is finished there, or that process is
   * gone.
   *
   * @throws {CephError} the cluster refuses to keep a record; nothing was begun
   * @throws {InterruptedError}
   */
  async obtain(job: JobMessage, beginning: Beginning): Promise<Entry> {
    for (;;) {
      const begun = await this.#begin(job, beginning)
      if (begun !== undefined) return begun
      const found = await this.#patience.untilThere(() => this.#look(job.agentId, job.taskId))
      if (found !== 'none') return found
    }
  }

  /** Takes a record that nobody alive has in hand. Undefined: somebody has it. */
  async takeOver(record: JobRecord): Promise<Entry | undefined> {
    const { id } = this.instance
    if (record.owner !== id && !(await this.instance.ensureGone(record.owner))) return undefined
    const own = { ...record, owner: id }
    try {
      Object.assign(own, await this.records.write(own))
    } catch (error) {
      if (error instanceof RecordChangedError) return undefined
      throw error
    }
    const { agentId, taskId } = own.job
    const patience = this.#patience.for(taskId)
    await patience.untilDone('the index of jobs', () => this.records.enter(agentId, taskId, id))
    return this.#entry(own, { isNew: false, locked: false })
  }

  /**
   * Whether this process goes on with what is left of an agent's: of its own always; of another one's, if it is to take over, only
   * when no process of that one is there, or may be.
   */
  async goesOnWith(agent: string): Promise<boolean> {
    if (agent === this.#agentId) return true
    return this.#takeover && (await this.records.listInstances(agent)).length === 0
  }

  /** Whether somebody will bring a job to its end that a process has left, as far as this one can know. */
  async #willBeFinished({ owner, job: { agentId } }: JobRecord): Promise<boolean> {
    if (agentId === this.#agentId || this.#takeover) return true
    return !(await this.instance.ensureGone(owner)) || this.records.isAlive(agentId)
  }

  async #takeOverLeft(image: string): Promise<Entry | undefined> {
    const record = await this.#locks.left(image)
    if (record === undefined || this.#inHand.has(key(record.job.agentId, record.job.taskId))) return undefined
    const isOurs = record.owner === this.instance.id || (await this.goesOnWith(record.job.agentId))
    return isOurs ? this.takeOver(record) : undefined
  }

  /** One that is finished, to be settled. @param by - Who has written its entry into the index. */
  finished(record: JobRecord, by: string): Entry {
    return this.#newEntry(record, { isNew: false, locked: false, by })
  }

  /**
   * Does something to an image that no job has in hand, or another one than the job's own, and tells what that gives;
   * undefined, and nothing is done, if somebody else has it.
   *
   * @param what - The task, or what else it is done for.
   * @param until - For how long it is waited for: until this is aborted. Default: not at all.
   * @throws {InterruptedError}
   */
  async withImage<T>(
    image: string,
    what: string,
    work: () => Promise<T>,
    until = AbortSignal.abort(),
  ): Promise<T | undefined> {
    const holder = holderOf(this.instance.id, this.#agentId, what)
    const patience = this.#patience.for(what)
    const acquire = () => patience.untilDone('the lock of an image', () => this.#locks.tryAcquire(image, holder))
    // Also until it is known.
    let isTaken = true
    try {
      isTaken = await patience.untilThere(async () => (await acquire()) || (until.aborted ? false : undefined))
      return isTaken ? await work() : undefined
    } finally {
      if (isTaken) await this.#release(image, holder, patience)
    }
  }

  /** Makes sure that a process is gone, and has nothing any more. Returns false if it is not, or may not be. */
  async clearAfter(about: InstanceRecord): Promise<boolean> {
    if (!(await this.instance.ensureGone(about.id, about))) return false
    await this.#locks.releaseAllOf(about.id)
    await this.records.removeInstance(about.agent, about.id)
    return true
  }

  /** Undefined if there is a record. Index, record and lock are three objects: they cost one round trip. */
  async #begin(job: JobMessage, { plan, image, progress }: Beginning): Promise<Entry | undefined> {
    const { agentId, taskId } = job
    const now = new Date().toISOString()
    const record: JobRecord = {
      version: recordVersion,
      rev: 1,
      job,
      plan,
      ...(image !== undefined && { image }),
      owner: this.instance.id,
      createdAt: now,
      updatedAt: now,
      ...progress,
    }
    const isRefused = (error: unknown) => !isRetryable(error)
    const holder = holderOf(record.owner, agentId, taskId)
    let tries = 0
    const create = () => {
      tries++
      return this.records.create(record)
    }
    const patience = this.#patience.for(taskId)
    const [entered, created, locked] = await Promise.allSettled([
      patience.untilDone('the index of jobs', () => this.records.enter(agentId, taskId, record.owner), isRefused),
      patience.untilDone('the record of a job', create, isRefused),
      // Not from who is gone: if there is a record by now, somebody else may have the job.
      image === undefined ? false : this.#locks.takeFree(image, holder),
    ])
    // What failed is tried again when the job waits for its image.
    const hasLock = locked.status === 'fulfilled' && locked.value
    const refused = [entered, created].find(({ status }) => status === 'rejected')
    const isMade = () => (created.status === 'fulfilled' && created.value) || (tries > 1 && this.#isOwn(record))
    if (!refused && (await isMade())) return this.#entry(record, { isNew: true, locked: hasLock })
    // Also where it is not known whether it was taken: whoever finishes the job may not look for a lock of this process.
    if (image !== undefined && (hasLock || locked.status === 'rejected')) {
      await this.#release(image, holder, patience)
    }
    if (refused?.status === 'rejected') throw refused.reason
    return undefined
  }

  async #release(image: string, holder: string, patience: Patience): Promise<void> {
    await patience.untilDone('the lock of an image', () => this.#locks.release(image, holder))
  }

  /** Whether it was made after all, by a try that had no answer. */
  async #isOwn({ job, owner, createdAt }: JobRecord): Promise<boolean> {
    const read = () => this.records.read(job.agentId, job.taskId)
    const found = await this.#patience.for(job.taskId).untilDone('the record of a job', read)
    return found?.owner === owner && found.createdAt === createdAt
  }

  async #look(agent: string, task: string): Promise<Entry | 'none' | undefined> {
    return this.#patience.for(task).untilDone('the record of a job', async () => {
      const record = await this.records.read(agent, task)
      if (record === undefined) return 'none'
      return record.outcome === undefined ? this.takeOver(record) : this.finished(record, this.instance.id)
    })
  }

  #entry(record: JobRecord, state: { isNew: boolean; locked: boolean }): Entry {
    const { agentId, taskId } = record.job
    const entry = this.#newEntry(record, { ...state, by: this.instance.id })
    this.#inHand.set(key(agentId, taskId), entry)
    return entry
  }

  #newEntry(record: JobRecord, state: { isNew: boolean; locked: boolean; by: string }): Entry {
    const { agentId, taskId } = record.job
    const onFinished = () => this.#inHand.delete(key(agentId, taskId))
    const takeOverLeft = (image: string) => this.#takeOverLeft(image)
    const { records } = this
    const patience = this.#patience.for(taskId)
    const surroundings = { records, locks: this.#locks, patience, takeOverLeft, onFinished }
    return new Entry(surroundings, record, state)
  }

  #refresh(agent: string, task: string): void {
    // It hears of it all the same when it writes; and whether it can go on, too.
    this.#inHand
      .get(key(agent, task))
      ?.refresh()
      .catch(() => {})
  }

  /** Jobs of other agents, of which none is there, that are not finished, or whose result nobody publishes. */
  async *listAbandoned(): AsyncGenerator<OpenEntry, void, undefined> {
    for (const agent of await this.records.listAgents()) {
      if (agent !== this.#agentId && !(await this.records.isAlive(agent))) yield* this.records.listOpen(agent)
    }
  }

  /** Removes an agent's records that were finished before then. Looks at no others. */
  async collect(agent: string, before: Date): Promise<number> {
    const limit = before.toISOString()
    let collected = 0
    let batch: DoneEntry[] = []
    const removeBatch = async () => {
      if (batch.length > 0) await this.records.remove(agent, batch)
      collected += batch.length
      batch = []
    }
    for await (const entry of this.records.listDone(agent)) {
      if (entry.finishedAt >= limit) break
      batch.push(entry)
      if (batch.length === collectedAtOnce) await removeBatch()
    }
    await removeBatch()
    return collected
  }

  /** Waits for no other process any more: neither for what it has in hand, nor for an image that it has. */
  stopWaiting(): void {
    this.#alone.abort(new Error('stopping'))
  }

  /** Waits for nothing any more: what has not been done is left to whoever comes next. */
  giveUp(): void {
    this.#givenUp.abort(new Error('given up'))
  }

  /**
   * What is not finished stays in the hands of this process, and is for others when its connection is closed. Safe to call
   * again.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.giveUp()
    await this.instance.stop()
    if (this.#inHand.size === 0 && !this.lost.aborted) await this.instance.release()
    await this.records.close()
  }
}

function key(agent: string, task: string): string {
  return JSON.stringify([agent, task])
}
