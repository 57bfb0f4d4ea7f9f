/** A process that hangs. */
import { readdirSync, readFileSync } from 'node:fs'

/** Stops a process, and returns when it stands still: the signal alone leaves its threads a moment to answer in. */
export function hang(pid: number): void {
  process.kill(pid, 'SIGSTOP')
  while (threadStates(pid).some(state => state !== 'T')) {}
}

/** Of each thread, the letter that proc(5) has for it. */
function threadStates(pid: number): string[] {
  const folder = `/proc/${pid}/task`
  return readdirSync(folder).map(thread => {
    const stat = readFileSync(`${folder}/${thread}/stat`, 'utf8')
    return stat.charAt(stat.lastIndexOf(')') + 2)
  })
}
