import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process for good: its number alone may belong to another one tomorrow. */
export interface ProcessId {
  pid: number
  /** Clock ticks between boot and the start of the process. */
  startTime: number
}

/** A process that is to be ended, and the signal that it takes notice of: SIGTERM unless told otherwise. */
export interface EndableProcess extends ProcessId {
  endWith?: 'SIGKILL'
}

/** Set in the environment of all that a stack starts, to the stack's id; children inherit it. */
const MARK = 'CEPHKIT_STACK'

export function markOf(stackId: string): Record<string, string> {
  return { [MARK]: stackId }
}

/** The process that has this number now, if one does. */
export function identify(pid: number): ProcessId | undefined {
  const startTime = readStat(pid)?.startTime
  return startTime === undefined ? undefined : { pid, startTime }
}

/** A process that ended but was not waited for yet counts as ended. */
export function isAlive(process: ProcessId): boolean {
  const stat = readStat(process.pid)
  return stat !== undefined && stat.startTime === process.startTime && stat.state !== 'Z'
}

/** Every living process of a stack, also those that a crash kept from being recorded. */
export function findMarked(stackId: string): ProcessId[] {
  const mark = `${MARK}=${stackId}`
  return readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry) && readEnvironment(entry).includes(mark))
    .map(entry => identify(Number(entry)))
    .filter(process => process !== undefined)
}

/** Asks processes to end, and kills those that have not within the limit. Resolves when none is left. */
export async function terminate(processes: EndableProcess[], graceMs: number): Promise<void> {
  for (const process of processes) {
    signal(process, process.endWith ?? 'SIGTERM')
    // A stopped process takes no notice of SIGTERM until it goes on.
    signal(process, 'SIGCONT')
  }
  if (await ended(processes, graceMs)) return
  for (const process of processes) signal(process, 'SIGKILL')
  await ended(processes, Number.POSITIVE_INFINITY)
}

async function ended(processes: ProcessId[], limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs
  while (processes.some(isAlive)) {
    if (performance.now() > deadline) return false
    await sleep(10)
  }
  return true
}

function signal(target: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(target)) return
  try {
    process.kill(target.pid, name)
  } catch (error) {
    // It ended in between.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function readStat(pid: number): { state: string; startTime: number } | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The second field is the program's name in parentheses, which may itself hold both spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTime: Number(fields[19]) }
}

function readEnvironment(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
  } catch {
    // Ended in between, or another user's, and then not ours.
    return []
  }
}
