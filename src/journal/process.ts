/** Which process this is, and whether another one is gone, as far as this one can know. */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { threadId } from 'node:worker_threads'

export interface ProcessIdentity {
  host: string
  /** Of the kernel's start. */
  bootId: string
  /** Process ids mean nothing in another one: that is what containers have. */
  pidNamespace: string
  pid: number
  /** In ticks of the kernel's clock since its start: an id is given again, with another time. */
  startTime: string
  /** The one of Node's threads. */
  thread: number
}

const self: ProcessIdentity = {
  host: hostname(),
  bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
  pidNamespace: readlinkSync('/proc/self/ns/pid'),
  pid: process.pid,
  startTime: statOf(process.pid)?.startTime ?? '',
  thread: threadId,
}

export function thisProcess(): ProcessIdentity {
  return self
}

export function isThisThread({ bootId, pidNamespace, pid, startTime, thread }: ProcessIdentity): boolean {
  return isNear(bootId, pidNamespace) && pid === self.pid && startTime === self.startTime && thread === self.thread
}

/** False also if it cannot be known from here. */
export function isProcessGone({ bootId, pidNamespace, pid, startTime }: ProcessIdentity): boolean {
  if (!isNear(bootId, pidNamespace)) return false
  if (!isThere(pid)) return true
  const stat = statOf(pid)
  return stat !== undefined && (stat.startTime !== startTime || stat.state === 'Z' || stat.state === 'X')
}

function isNear(bootId: string, pidNamespace: string): boolean {
  return bootId === self.bootId && pidNamespace === self.pidNamespace
}

/** By a signal that does nothing: /proc may hide the processes of other users. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Undefined if it is hidden, or gone. The fields of proc(5)'s stat come after the name, which can have anything in it. */
function statOf(pid: number): { state: string; startTime: string } | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' }
}
