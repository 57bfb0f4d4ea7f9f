/** The journal as a whole, as far as an audit needs it. */
import { z } from 'zod'
import type { RadosObject } from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import { type InstanceRecord, isAlive } from '../journal/instance.js'
import { locksPrefix } from '../journal/layout.js'
import type { JobRecord } from '../journal/record.js'
import { exposesMade, madeBy } from '../volumes/make.js'
import type { Place } from './audit.js'

/** What is kept of a record: there can be many. */
export interface Job {
  agent: string
  task: string
  action: string
  /** `pool/image`: what it works on. */
  image: string | undefined
  /** `pool/image`: what it makes, if it makes one. */
  makes: string | undefined
  owner: string
  createdAt: string
  /** Undefined: it is not finished. */
  ok: boolean | undefined
  finishedAt: string | undefined
  /** Whether what it makes, or works on, was exposed when it was done. Undefined: it does not say. */
  exposes: boolean | undefined
}

export interface AgentState {
  agent: string
  /** By task, the instance that wrote the entry. */
  open: Map<string, string>
  /** By task, when it was finished. */
  done: Map<string, string>
  instances: InstanceRecord[]
  /** How long it keeps what is finished, in milliseconds, as far as it has said so. */
  keepMs: number | undefined
}

export interface ImageLock {
  image: string
  holder: string
}

export class JournalState {
  readonly agents: AgentState[] = []
  /** The names of all objects. */
  readonly objects = new Set<string>()
  readonly locks: ImageLock[] = []
  /** The instances that are not gone, as far as that can be told from here. */
  readonly living = new Set<string>()
  readonly #jobs = new Map<string, Job>()

  add(job: Job): void {
    this.#jobs.set(key(job.agent, job.task), job)
  }

  get jobs(): Iterable<Job> {
    return this.#jobs.values()
  }

  job(agent: string, task: string): Job | undefined {
    return this.#jobs.get(key(agent, task))
  }

  isOpen(agent: string, task: string): boolean {
    return this.agents.some(state => state.agent === agent && state.open.has(task))
  }
}

const readAtOnce = 32

export async function readState({ records, signal }: Place): Promise<JournalState> {
  const state = new JournalState()
  for await (const { name } of records.pool.listObjects({ signal })) state.objects.add(name)
  // Locks before entries, as a lock is given back before its entry goes.
  for (const name of state.objects) {
    if (name.startsWith(locksPrefix)) await readLocks(state, records.pool.object(name))
  }
  for (const agent of await records.listAgents()) await readAgent({ records, signal }, state, agent)
  return state
}

async function readLocks(state: JournalState, object: RadosObject): Promise<void> {
  for await (const [image, holder] of object.listOmap()) state.locks.push({ image, holder: holder.toString() })
}

async function readAgent(
  { records, signal }: Pick<Place, 'records' | 'signal'>,
  state: JournalState,
  agent: string,
): Promise<void> {
  const own: AgentState = {
    agent,
    open: new Map(),
    done: new Map(),
    instances: await records.listInstances(agent),
    keepMs: await records.keepMsOf(agent),
  }
  state.agents.push(own)
  for await (const { task, finishedAt } of records.listDone(agent)) own.done.set(task, finishedAt)
  for await (const { task, by } of records.listOpen(agent)) own.open.set(task, by)
  for (const about of own.instances) {
    if (await isAlive(records.pool, about)) state.living.add(about.id)
  }
  await forEachLimited(new Set([...own.open.keys(), ...own.done.keys()]), readAtOnce, async task => {
    signal?.throwIfAborted()
    const record = await records.read(agent, task)
    if (record !== undefined) state.add(jobOf(record))
  })
}

function jobOf({ job, plan, image, owner, createdAt, outcome }: JobRecord): Job {
  const { agentId: agent, taskId: task, action } = job
  const makes = madeBy(plan)
  const exposes = makes === undefined ? exposesAfter(action, outcome?.result) : exposesMade(plan)
  const { ok, finishedAt } = outcome ?? {}
  return { agent, task, action, image, makes, owner, createdAt, ok, finishedAt, exposes }
}

const withPortals = z.object({ portals: z.array(z.unknown()) })

function exposesAfter(action: string, result: unknown): boolean | undefined {
  if (isDeletion(action)) return false
  if (action !== 'storage.expose' && action !== 'storage.unexpose') return undefined
  const portals = withPortals.safeParse(result).data?.portals
  return portals && portals.length > 0
}

export function isDeletion(action: string): boolean {
  return ['storage.delete', 'disk.delete'].includes(action)
}

function key(agent: string, task: string): string {
  return JSON.stringify([agent, task])
}
