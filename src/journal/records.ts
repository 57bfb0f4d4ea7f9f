/** The objects of the journal that tell of jobs, for whoever wants to read them. */
import {
  type Cluster,
  ConflictError,
  ObjectExistsError,
  ObjectNotFoundError,
  type Pool,
  WriteOperation,
} from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import { type InstanceRecord, isAlive } from './instance.js'
import {
  agentsObject,
  doneKey,
  donePrefix,
  finishedAttribute,
  indexObject,
  instanceKey,
  instanceObject,
  instancePrefix,
  journalNamespace,
  ofDoneKey,
  openKey,
  openPrefix,
  recordObject,
  revAttribute,
  taskOfOpenKey,
} from './layout.js'
import { decodeRecord, encodeRecord, type JobRecord } from './record.js'

const removedAtOnce = 16

export interface OpenEntry {
  task: string
  /** The instance that wrote the entry. */
  by: string
}

export interface DoneEntry {
  task: string
  /** As an ISO 8601 date. */
  finishedAt: string
}

/** Somebody else has changed the record; nothing was written. */
export class RecordChangedError extends Error {
  constructor(options: ErrorOptions) {
    super('the record has been changed meanwhile', options)
    this.name = 'RecordChangedError'
  }
}

export class Records implements AsyncDisposable {
  readonly pool: Pool

  private constructor(pool: Pool) {
    this.pool = pool
  }

  /** @param poolName - The pool of the volumes. @throws {PoolNotFoundError} */
  static async open(cluster: Cluster, poolName: string): Promise<Records> {
    // A job is told its result, and one that makes room is begun, where there is no room for the data of volumes.
    return new Records(await cluster.openPool(poolName, { namespace: journalNamespace, whenFull: 'force' }))
  }

  close(): Promise<void> {
    return this.pool.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #object(agent: string, task: string) {
    return this.pool.object(recordObject(agent, task))
  }

  #index(agent: string) {
    return this.pool.object(indexObject(agent))
  }

  /** Undefined if there is none. */
  async read(agent: string, task: string): Promise<JobRecord | undefined> {
    const object = this.#object(agent, task)
    const data = await ifThere(object.read())
    return data && decodeRecord(data, object.path)
  }

  /** Returns false if there is one. */
  async create(record: JobRecord): Promise<boolean> {
    const { agentId, taskId } = record.job
    const operation = new WriteOperation()
      .create({ exclusive: true })
      .setXattr(revAttribute, String(record.rev))
      .writeFull(encodeRecord(record))
    try {
      await this.#object(agentId, taskId).operate(operation)
      return true
    } catch (error) {
      if (error instanceof ObjectExistsError) return false
      throw error
    }
  }

  /**
   * Writes a record that is still as it was when it was read.
   *
   * @returns What is new in it beside what it was given.
   * @throws {RecordChangedError} or removed
   */
  async write(record: JobRecord): Promise<{ rev: number; updatedAt: string }> {
    const written = { rev: record.rev + 1, updatedAt: new Date().toISOString() }
    const next = { ...record, ...written }
    const operation = new WriteOperation()
      .compareXattr(revAttribute, 'eq', String(record.rev))
      .setXattr(revAttribute, String(next.rev))
      .setXattr(finishedAttribute, next.outcome?.finishedAt ?? '')
      .writeFull(encodeRecord(next))
    try {
      await this.#object(record.job.agentId, record.job.taskId).operate(operation)
      return written
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof ObjectNotFoundError)) throw error
      throw new RecordChangedError({ cause: error })
    }
  }

  /** Removes finished records, and their entries. What has been begun anew meanwhile stays. */
  async remove(agent: string, entries: readonly DoneEntry[]): Promise<void> {
    await forEachLimited(entries, removedAtOnce, ({ task, finishedAt }) => this.#removeRecord(agent, task, finishedAt))
    await this.#index(agent).removeOmap(entries.map(({ task, finishedAt }) => doneKey(finishedAt, task)))
  }

  async #removeRecord(agent: string, task: string, finishedAt: string): Promise<void> {
    const operation = new WriteOperation().compareXattr(finishedAttribute, 'eq', finishedAt).remove()
    try {
      await this.#object(agent, task).operate(operation)
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof ObjectNotFoundError)) throw error
    }
  }

  /** @param by - The instance that has the job in hand. */
  async enter(agent: string, task: string, by: string): Promise<void> {
    await this.#index(agent).setOmap({ [openKey(task)]: by })
  }

  /** Takes an entry away that has no record, unless somebody has renewed it. */
  async withdraw(agent: string, { task, by }: OpenEntry): Promise<void> {
    const operation = new WriteOperation().compareOmap(openKey(task), 'eq', by).removeOmap([openKey(task)])
    try {
      await this.#index(agent).operate(operation)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
    }
  }

  /**
   * The broker has the result. May be said again. If somebody else has entered the job since, it is for them to say: it may be
   * done again.
   *
   * @param by - Who has entered it. Empty also if it is not in the index.
   */
  async settle(agent: string, { task, finishedAt }: DoneEntry, by: string): Promise<void> {
    const operation = new WriteOperation()
      .compareOmap(openKey(task), 'eq', by)
      .removeOmap([openKey(task)])
      .setOmap({ [doneKey(finishedAt, task)]: '' })
    try {
      await this.#index(agent).operate(operation)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
    }
  }

  /** Jobs without a result that the broker has. Reads nothing of any others. */
  async *listOpen(agent: string): AsyncGenerator<OpenEntry, void, undefined> {
    for await (const [key, by] of this.#list(agent, openPrefix)) yield { task: taskOfOpenKey(key), by: by.toString() }
  }

  /** Jobs with a result that the broker has, the oldest first. */
  async *listDone(agent: string): AsyncGenerator<DoneEntry, void, undefined> {
    for await (const [key] of this.#list(agent, donePrefix)) yield ofDoneKey(key)
  }

  async *#list(agent: string, prefix: string): AsyncGenerator<[string, Buffer], void, undefined> {
    try {
      yield* this.#index(agent).listOmap({ prefix })
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError)) throw error
    }
  }

  /** Whether the broker has yet to confirm the job's result. */
  async isOpen(agent: string, task: string): Promise<boolean> {
    const page = await ifThere(this.#index(agent).getOmap([openKey(task)]))
    return page !== undefined && page.entries.size > 0
  }

  /** @param keepMs - How long the agent keeps what is finished, in milliseconds. */
  async enterInstance(about: InstanceRecord, keepMs?: number): Promise<void> {
    await Promise.all([
      this.pool.object(agentsObject).setOmap({ [about.agent]: String(keepMs ?? '') }),
      this.#index(about.agent).setOmap({ [instanceKey(about.id)]: JSON.stringify(about) }),
    ])
  }

  /** Removes what tells of a process. */
  async removeInstance(agent: string, id: string): Promise<void> {
    await ifThere(this.pool.object(instanceObject(id)).remove())
    await ifThere(this.#index(agent).removeOmap([instanceKey(id)]))
  }

  /** The processes that have, or had, jobs of this agent's in hand. */
  async listInstances(agent: string): Promise<InstanceRecord[]> {
    const instances: InstanceRecord[] = []
    for await (const [, about] of this.#list(agent, instancePrefix)) instances.push(JSON.parse(about.toString()))
    return instances
  }

  /** All agents that have, or had, a journal here. */
  async listAgents(): Promise<string[]> {
    const agents: string[] = []
    const listing = this.pool.object(agentsObject).listOmap()
    try {
      for await (const [agent] of listing) agents.push(agent)
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError)) throw error
    }
    return agents
  }

  /** How long the agent keeps what is finished, in milliseconds, as it has said when it began. Undefined: it has not. */
  async keepMsOf(agent: string): Promise<number | undefined> {
    const page = await ifThere(this.pool.object(agentsObject).getOmap([agent]))
    const said = page?.entries.get(agent)?.toString()
    return said ? Number(said) : undefined
  }

  /** Whether a process of the agent is there, as far as can be told from here. */
  async isAlive(agent: string): Promise<boolean> {
    for (const about of await this.listInstances(agent)) if (await isAlive(this.pool, about)) return true
    return false
  }

  /**
   * Asks for a job to be undone. Whoever has it in hand hears of it, at its next write at the latest.
   *
   * @returns The record; it has an `outcome` if the job was finished before. Undefined: there is none.
   */
  async cancel(agent: string, task: string): Promise<JobRecord | undefined> {
    const record = await this.#change(agent, task, found =>
      found.outcome || found.cancelledAt ? found : { ...found, cancelledAt: new Date().toISOString() },
    )
    if (record?.cancelledAt && !record.outcome && record.owner !== '') {
      await ifThere(this.pool.object(instanceObject(record.owner)).notify(JSON.stringify({ cancel: { agent, task } })))
    }
    return record
  }

  /**
   * Has a failed job done again, by the next process of its agent that looks: within seconds, if one runs. Its result is
   * published again, too.
   *
   * @returns The record; it is as it was, if the job has not failed. Undefined: there is none.
   */
  async retry(agent: string, task: string): Promise<JobRecord | undefined> {
    const found = await this.read(agent, task)
    if (found?.outcome === undefined || found.outcome.ok) return found
    // Whatever of this is not reached, the job is either done again, or has its result published again.
    await this.enter(agent, task, '')
    const record = await this.#change(agent, task, now => {
      // Somebody else was faster.
      if (now.outcome?.finishedAt !== found.outcome?.finishedAt) return now
      const { outcome, failure, cancelledAt, ...rest } = now
      // Each may be there all the same, as far as it could not be undone.
      return { ...rest, owner: '', steps: rest.steps.map(({ name }) => ({ name })) }
    })
    // Once more: its first result may have been settled meanwhile. From now on it is not.
    await this.enter(agent, task, '')
    await this.#index(agent).removeOmap([doneKey(found.outcome.finishedAt, task)])
    return record
  }

  async #change(agent: string, task: string, change: (record: JobRecord) => JobRecord): Promise<JobRecord | undefined> {
    for (;;) {
      const record = await this.read(agent, task)
      const changed = record && change(record)
      if (record === undefined || changed === undefined || changed === record) return record
      try {
        return { ...changed, ...(await this.write(changed)) }
      } catch (error) {
        if (!(error instanceof RecordChangedError)) throw error
      }
    }
  }
}

async function ifThere<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return undefined
    throw error
  }
}
