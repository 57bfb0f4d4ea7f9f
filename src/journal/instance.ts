/**
 * The process's own place in the journal, and what it knows of others.
 *
 * A process holds the lock `lease` on its object, with a duration on the clock of the OSD, and renews it. It is gone when
 * the lock has run out, or when it was a process of this host's and is none any more. Before anything of it is touched
 * it is shut out of the cluster: what it still has under way takes no effect then, and its watches and locks end. Whoever
 * does that takes the lease first, so that it cannot be renewed meanwhile.
 *
 * A process whose lease has run out unnoticed, because the cluster did not answer, takes it again.
 */
import { randomUUID } from 'node:crypto'
import {
  BlocklistedError,
  ClosedError,
  type Cluster,
  LockBusyError,
  NotFoundError,
  ObjectNotFoundError,
  type Pool,
  type RadosObject,
  type Watch,
  WriteOperation,
} from '../../lib/index.js'
import { messageOf } from '../errors.js'
import type { Logger } from '../log.js'
import { instanceObject, leaseLock } from './layout.js'
import { isProcessGone, isThisThread, type ProcessIdentity, thisProcess } from './process.js'
import type { Records } from './records.js'

/** What a process says of itself. */
export interface InstanceRecord extends ProcessIdentity {
  id: string
  agent: string
  /** Of its connections to the cluster; what a blocklist names. */
  addresses: string[]
  /** As an ISO 8601 date. */
  startedAt: string
  /** It has been shut out, and is gone for good. */
  fenced?: boolean
}

/** The process is not to go on: others may have its jobs by now. */
export class InstanceLostError extends Error {
  constructor(reason: string, options: ErrorOptions) {
    super(`this agent has been shut out of its journal: ${reason}`, options)
    this.name = 'InstanceLostError'
  }
}

/**
 * A process that stands still, with its host, may go on after days, with what it had under way: Ceph's own hour would let it.
 * One that has ended needs no more than that.
 */
const shutOutMs = 7 * 24 * 3600 * 1000

interface Surroundings {
  cluster: Cluster
  records: Records
  agent: string
  keepMs: number | undefined
  log: Logger
  /** Milliseconds until the lease ends unless it is renewed. */
  leaseMs: number
}

/**
 * Those of this thread; one that was here and is not any more has nothing under way. Shared with other copies of this
 * module, as their instances are not gone either.
 */
const livingKey = Symbol.for('cephkit.journal.living')
const shared = globalThis as { [livingKey]?: Set<string> }
shared[livingKey] ??= new Set()
const living = shared[livingKey]

export class Instance {
  readonly id: string
  readonly #surroundings: Surroundings
  readonly #object: RadosObject
  readonly #lost = new AbortController()
  /** Others that will never come back. */
  readonly #gone = new Set<string>()
  readonly #asked = new Map<string, Promise<boolean>>()
  #timer: NodeJS.Timeout | undefined
  #renewing: Promise<void> | undefined
  #renewedAt = 0
  /** Why it was not renewed at the last try. */
  #trouble: Error | undefined
  #watch: Watch | undefined
  /** Called when somebody wants a job cancelled. */
  onCancel: (agent: string, task: string) => void = () => {}

  private constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings
    this.id = randomUUID()
    this.#object = surroundings.records.pool.object(instanceObject(this.id))
  }

  static async begin(surroundings: Surroundings): Promise<Instance> {
    const { cluster, records, agent, keepMs, leaseMs } = surroundings
    const instance = new Instance(surroundings)
    const about: InstanceRecord = {
      id: instance.id,
      agent,
      ...thisProcess(),
      addresses: [await cluster.addresses()],
      startedAt: new Date().toISOString(),
    }
    living.add(about.id)
    try {
      // The index comes first: what is in it is looked after, however far this gets.
      await records.enterInstance(about, keepMs)
      await ensureThere(instance.#object)
      await instance.#takeLease()
      await instance.#object.writeFull(JSON.stringify(about))
      await instance.#listen()
    } catch (error) {
      living.delete(about.id)
      throw error
    }
    instance.#timer = setInterval(() => instance.#renew(), leaseMs / 3)
    return instance
  }

  /** Aborted, with an InstanceLostError, when this process has been shut out. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  lose(reason: string, cause: unknown): void {
    if (this.#lost.signal.aborted) return
    clearInterval(this.#timer)
    this.#lost.abort(new InstanceLostError(reason, { cause }))
  }

  async #takeLease(): Promise<void> {
    const { leaseMs, agent } = this.#surroundings
    const begunAt = performance.now()
    await this.#object.lockExclusive(leaseLock, {
      cookie: this.id,
      description: agent,
      duration: leaseMs,
      renew: 'may',
    })
    this.#renewedAt = begunAt
    this.#trouble = undefined
  }

  /**
   * The lease is what a process always has to write, whatever its jobs are.
   *
   * @throws {Error} that was not possible at the last try
   */
  checkWritable(): void {
    if (this.#trouble === undefined) return
    throw new Error(`nothing can be written, so no job can begin or end: ${messageOf(this.#trouble)}`)
  }

  #renew(): void {
    this.#renewing ??= this.#renewNow().finally(() => {
      this.#renewing = undefined
    })
  }

  async #renewNow(): Promise<void> {
    const { leaseMs, log } = this.#surroundings
    const hadRunOut = performance.now() - this.#renewedAt > leaseMs
    try {
      await this.#takeLease()
      // Somebody may have had it meanwhile, and be done with it.
      if (hadRunOut && (await this.#isFenced())) this.lose('its lease had run out', undefined)
      if (this.#watch === undefined) await this.#listen()
    } catch (error) {
      if (error instanceof BlocklistedError) this.lose('its connection is blocklisted', error)
      else if (error instanceof LockBusyError) this.lose('somebody else has taken its lease', error)
      else if (!(error instanceof ClosedError)) {
        this.#trouble = error as Error
        log.warn({ reason: messageOf(error) }, 'the lease is not renewed')
      }
    }
  }

  async #isFenced(): Promise<boolean> {
    const about = await readAbout(this.#object)
    return about === undefined || about.fenced === true
  }

  async #listen(): Promise<void> {
    const watch = await this.#object.watch(({ payload }) => this.#hear(payload))
    watch.on('error', error => {
      this.#surroundings.log.debug({ reason: messageOf(error) }, 'the watch on the own instance is lost')
      this.#watch = undefined
      void closeLost(watch)
      // Which makes a new one, or knows why it cannot.
      this.#renew()
    })
    this.#watch = watch
  }

  #hear(payload: Buffer): void {
    try {
      const { agent, task } = JSON.parse(payload.toString()).cancel
      this.onCancel(agent, task)
    } catch (error) {
      this.#surroundings.log.warn({ reason: messageOf(error) }, 'a notification that says nothing')
    }
  }

  /**
   * Whether another process is gone; if so, it is shut out of the cluster by then, and nothing of it takes effect any more.
   *
   * @param listed - As the index has it: one that has not come further than that can be gone, too.
   */
  async ensureGone(id: string, listed?: InstanceRecord): Promise<boolean> {
    if (id === this.id) return false
    if (id === '' || this.#gone.has(id)) return true
    let asked = this.#asked.get(id)
    if (asked === undefined) {
      asked = this.#ensureGone(id, listed).finally(() => this.#asked.delete(id))
      this.#asked.set(id, asked)
    }
    return asked
  }

  async #ensureGone(id: string, listed: InstanceRecord | undefined): Promise<boolean> {
    const object = this.#surroundings.records.pool.object(instanceObject(id))
    const [written, lockers] = await Promise.all([readAbout(object), lockersOf(object)])
    const about = written ?? listed
    if (about !== undefined && !about.fenced) {
      const mayBeStarting =
        written === undefined && Date.now() - Date.parse(about.startedAt) < this.#surroundings.leaseMs
      if ((lockers.length > 0 || mayBeStarting) && !isGoneHere(about)) return false
      if (!(await this.#fence(object, about))) return false
    } else if (lockers.length > 0 && !about) return false
    this.#gone.add(id)
    return true
  }

  /** Returns false if somebody else is at it, or the process has come back. */
  async #fence(object: RadosObject, about: InstanceRecord): Promise<boolean> {
    const { cluster, leaseMs, log } = this.#surroundings
    for (const { client, cookie } of await lockersOf(object)) {
      if (cookie === about.id) await ifHeld(object.breakLock(leaseLock, client, cookie))
    }
    await ensureThere(object)
    try {
      await object.lockExclusive(leaseLock, { cookie: this.id, duration: leaseMs, renew: 'may' })
    } catch (error) {
      if (error instanceof LockBusyError) return false
      throw error
    }
    const duration = isGoneHere(about) ? undefined : shutOutMs
    for (const address of about.addresses) await cluster.blocklist(address, { duration })
    // What is asked of an OSD from now on is asked with a map that says so.
    await cluster.waitForLatestOsdmap()
    await object.writeFull(JSON.stringify({ ...about, fenced: true } satisfies InstanceRecord))
    const { agent, host, pid, addresses } = about
    log.warn({ instance: about.id, agent, host, pid, addresses }, 'a process of an agent is gone: it is shut out')
    return true
  }

  /** No more renewals. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#renewing
    const watch = this.#watch
    this.#watch = undefined
    if (watch) await (this.lost.aborted ? closeLost(watch) : watch.close())
  }

  /** For a process that has nothing under way any more: nobody has to look after it. */
  async release(): Promise<void> {
    const { records, agent } = this.#surroundings
    await records.removeInstance(agent, this.id)
  }

  /** The connection is closed: if there is anything left of this instance, it is for the next. */
  static forget(id: string): void {
    living.delete(id)
  }
}

/** The cluster has forgotten it already, and may have nothing more to say to this client. */
async function closeLost(watch: Watch): Promise<void> {
  await watch.close().catch(() => {})
}

function isGoneHere(about: InstanceRecord): boolean {
  return isThisThread(about) ? !living.has(about.id) : isProcessGone(about)
}

/** As far as can be told from here, and without shutting anybody out. Whoever shuts a process out has its lease meanwhile. */
export async function isAlive(pool: Pool, about: InstanceRecord): Promise<boolean> {
  if (isGoneHere(about)) return false
  return (await lockersOf(pool.object(instanceObject(about.id)))).some(({ cookie }) => cookie === about.id)
}

/** To take a lock makes its object; a full pool lets that be done in no other way than this. */
async function ensureThere(object: RadosObject): Promise<void> {
  await object.operate(new WriteOperation().create({ exclusive: false }))
}

async function readAbout(object: RadosObject): Promise<InstanceRecord | undefined> {
  try {
    const data = await object.read()
    return data.length === 0 ? undefined : (JSON.parse(data.toString()) as InstanceRecord)
  } catch (error) {
    if (error instanceof ObjectNotFoundError) return undefined
    throw error
  }
}

async function lockersOf(object: RadosObject) {
  try {
    return (await object.listLockers(leaseLock)).lockers
  } catch (error) {
    if (error instanceof NotFoundError) return []
    throw error
  }
}

async function ifHeld(breaking: Promise<void>): Promise<void> {
  try {
    await breaking
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
  }
}
