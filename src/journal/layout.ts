/**
 * Where the journal is: in a namespace of its own of the pool of the volumes, so that it outlives the node.
 *
 *   job/<agent>/<task>   One object a job. Its data is the record, as JSON (`record.ts`). Two attributes are what changes to
 *                        it depend on: `rev` grows by one with each write, and `finished` has the time of the outcome.
 *   jobs/<agent>         The index of an agent's jobs, and of its processes:
 *                          open/<task>         a job whose result the broker has not confirmed; the value is the instance
 *                                              that wrote the entry
 *                          done/<time>/<task>  one whose result it has; the time is that of the outcome
 *                          instance/<id>       a process that has this agent's jobs in hand
 *   agents               A key for each agent that has an index; the value is how long it keeps finished jobs, in milliseconds.
 *   instance/<id>        One object a process of an agent: what the process is, and the lock `lease` that it renews.
 *   locks/<2 hex digits> A key for each image that a job works on, or changes on its way; the value is who holds it. The
 *                        digits are of a hash of the key, so that agents do not wait for each other on one object.
 *
 * Order of writes. An entry in open/ comes before, or at once with, the record that it is for, and both before the job has
 * any effect; an entry without a record means that nothing was begun. A lock is taken after there is an entry in open/, or
 * at once with it, and given back before that entry goes: so what a process has left when it died is always found by way of
 * its index. What it has left of locks is given back before its own key in the index goes, but for those of jobs that are not
 * finished: whoever goes on with such a job takes its lock. An entry moves from open/ to done/ in one operation, after the broker
 * has confirmed the result; records are removed by way of done/, in its order.
 */
import { createHash } from 'node:crypto'

export const journalNamespace = 'cephkit.journal'

export const agentsObject = 'agents'
export const locksPrefix = 'locks/'

/** The lock on an instance's object. */
export const leaseLock = 'lease'

export function recordObject(agent: string, task: string): string {
  return `job/${encode(agent)}/${encode(task)}`
}

/** Undefined: the object is something else. */
export function jobOfRecordObject(name: string): { agent: string; task: string } | undefined {
  const [kind, agent, task] = name.split('/')
  if (kind !== 'job' || agent === undefined || task === undefined) return undefined
  return { agent: decodeURIComponent(agent), task: decodeURIComponent(task) }
}

export function indexObject(agent: string): string {
  return `jobs/${encode(agent)}`
}

export function instanceObject(id: string): string {
  return `instance/${id}`
}

export function locksObject(image: string): string {
  return locksPrefix + createHash('sha256').update(image).digest('hex').slice(0, 2)
}

/** Each may be there or not. */
export function allLocksObjects(): string[] {
  return Array.from({ length: 256 }, (_, digits) => locksPrefix + digits.toString(16).padStart(2, '0'))
}

export const openPrefix = 'open/'
export const donePrefix = 'done/'
export const instancePrefix = 'instance/'

export function openKey(task: string): string {
  return openPrefix + encode(task)
}

export function taskOfOpenKey(key: string): string {
  return decodeURIComponent(key.slice(openPrefix.length))
}

/** @param finishedAt - As `Date.toISOString()` has it: the order of the keys is that of the times. */
export function doneKey(finishedAt: string, task: string): string {
  return `${donePrefix}${finishedAt}/${encode(task)}`
}

export function ofDoneKey(key: string): { finishedAt: string; task: string } {
  const [finishedAt = '', task = ''] = key.slice(donePrefix.length).split('/')
  return { finishedAt, task: decodeURIComponent(task) }
}

export function instanceKey(id: string): string {
  return instancePrefix + id
}

/** Whoever holds an image: a process, for a job. */
export function holderOf(instance: string, agent: string, task: string): string {
  return `${instance}/${encode(agent)}/${encode(task)}`
}

export function instanceOfHolder(holder: string): string {
  return holder.split('/')[0] ?? ''
}

export function jobOfHolder(holder: string): { agent: string; task: string } {
  const [, agent = '', task = ''] = holder.split('/')
  return { agent: decodeURIComponent(agent), task: decodeURIComponent(task) }
}

export const revAttribute = 'rev'
export const finishedAttribute = 'finished'

/** Leaves no slash in it. */
function encode(name: string): string {
  return encodeURIComponent(name)
}
