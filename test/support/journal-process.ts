/** A process that has a place in the journal, and nothing else: to be killed, or stopped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { until } from './broker.js'

const program = fileURLToPath(new URL('./journal-process-main.js', import.meta.url))

export interface JournalProcess {
  child: ChildProcess
  instance: string
  /** Of the process itself, where that is a child of what was started. */
  pid: number
  output: () => string
}

/**
 * @param options.elsewhere - With process ids of its own, as in a container: from outside nobody can know by its id that it
 *   is gone.
 */
export async function startJournalProcess(
  t: Test,
  { agentId, leaseMs, elsewhere = false }: { agentId: string; leaseMs: number; elsewhere?: boolean },
): Promise<JournalProcess> {
  const wrapper = elsewhere ? ['unshare', '--pid', '--fork', '--kill-child'] : []
  const [command = '', ...args] = [...wrapper, process.execPath, program, agentId, String(leaseMs)]
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', chunk => {
    output += chunk
  })
  const instance = await until('a place in the journal', () => /^instance (\S+)$/m.exec(output)?.[1])
  const pid = elsewhere ? onlyChildOf(child.pid) : child.pid
  return { child, instance, pid: pid ?? 0, output: () => output }
}

function onlyChildOf(pid: number | undefined): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim())
}
