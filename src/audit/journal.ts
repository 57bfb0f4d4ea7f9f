/** What is wrong in the journal itself. */
import { releaseLock } from '../journal/image-locks.js'
import {
  agentsObject,
  indexObject,
  instanceObject,
  instanceOfHolder,
  instancePrefix,
  jobOfHolder,
  jobOfRecordObject,
  locksPrefix,
  recordObject,
} from '../journal/layout.js'
import { upkeepTask } from '../volumes/upkeep.js'
import type { Finding, Place } from './audit.js'
import type { AgentState, JournalState } from './state.js'

export function auditJournal(place: Place, state: JournalState): Finding[] {
  return [
    ...state.agents.flatMap(agent => [...processes(agent, state), ...entries(place, agent, state)]),
    ...locks(place, state),
    ...objects(place, state),
  ]
}

function processes({ agent, instances }: AgentState, { living }: JournalState): Finding[] {
  return instances
    .filter(({ id }) => !living.has(id))
    .map(({ id, host, pid }) => ({
      kind: 'process',
      name: id,
      agent,
      says: `process ${pid} of ${host} is gone: the next process of this agent shuts it out and takes over its jobs`,
    }))
}

function entries(
  { records }: Place,
  { agent, open, done, instances, keepMs }: AgentState,
  state: JournalState,
): Finding[] {
  const findings: Finding[] = []
  const isGone = !instances.some(({ id }) => state.living.has(id))
  const isPast = (finishedAt: string) => keepMs !== undefined && Date.parse(finishedAt) < Date.now() - keepMs
  for (const [task, by] of open) {
    const job = state.job(agent, task)
    if (job === undefined) {
      if (state.living.has(by)) continue
      const says = 'the index has a job that was never begun'
      findings.push({ kind: 'entry', name: task, agent, says, fix: () => records.withdraw(agent, { task, by }) })
    } else if (job.ok === undefined && !state.living.has(job.owner)) {
      const says = `a ${job.action} that nobody has in hand: the next process of this agent goes on with it`
      findings.push({ kind: 'job', name: task, agent, says })
    } else if (job.ok !== undefined && isGone) {
      const says = `a ${job.action} whose result nobody publishes: the next process of this agent does`
      findings.push({ kind: 'job', name: task, agent, says })
    }
  }
  for (const [task, finishedAt] of done) {
    const fix = () => records.remove(agent, [{ task, finishedAt }])
    if (state.job(agent, task) === undefined) {
      const says = 'the index has a finished job that there is no record of'
      findings.push({ kind: 'entry', name: task, agent, says, fix })
    } else if (isGone && isPast(finishedAt)) {
      const says = 'is past its time (JOURNAL_KEEP_MS), and no process of its agent is there to remove it'
      findings.push({ kind: 'record', name: task, agent, says, fix })
    }
  }
  return findings
}

function locks({ records }: Place, state: JournalState): Finding[] {
  return state.locks.flatMap(({ image, holder }): Finding[] => {
    const { agent, task } = jobOfHolder(holder)
    if (state.isOpen(agent, task)) return []
    const isLiving = state.living.has(instanceOfHolder(holder))
    if (task === upkeepTask && isLiving) return []
    const says = `is held for ${task === upkeepTask ? 'upkeep' : `task ${task}`}, which is over`
    return [{ kind: 'lock', name: image, agent, says, fix: () => releaseLock(records.pool, image, holder) }]
  })
}

/** A record that the index does not know is seen by no agent, unless its message comes again. */
function objects({ records }: Place, state: JournalState): Finding[] {
  const known = new Set([agentsObject])
  for (const { agent, instances, open, done } of state.agents) {
    known.add(indexObject(agent))
    for (const { id } of instances) known.add(instanceObject(id))
    for (const task of [...open.keys(), ...done.keys()]) known.add(recordObject(agent, task))
  }
  const unknown = [...state.objects].filter(name => !known.has(name) && !name.startsWith(locksPrefix))
  return unknown.map((name): Finding => {
    const job = jobOfRecordObject(name)
    if (job) {
      const fix = () => records.enter(job.agent, job.task, '')
      return { kind: 'record', name: job.task, agent: job.agent, says: 'is in no index: no agent looks after it', fix }
    }
    if (name.startsWith(instancePrefix)) return { kind: 'process', name, says: 'is in no index' }
    return { kind: 'object', name: `${records.pool.path}/${name}`, says: 'is no part of a journal' }
  })
}
