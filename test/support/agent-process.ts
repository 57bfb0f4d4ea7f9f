/** An agent in a process of its own, to be killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { until } from './broker.js'

/** Longer than an agent takes that stops by itself, in milliseconds. */
const stopLimitMs = 15_000

const program = fileURLToPath(new URL('./agent-process-main.js', import.meta.url))

/**
 * Where in its work a process kills itself: at a `write` of the journal, the second time (1), right after it; at an entry that
 * goes to or from the list of exposures; at a request to tgtd.
 */
export interface Death {
  operation: 'enter' | 'create' | 'write' | 'settle' | 'list' | 'unlist' | 'ask'
  count: number
  after: boolean
}

export interface AgentProcess {
  child: ChildProcess
  /** What it has written to its log so far. */
  output: () => string
  /** Resolves with how it ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** Starts an agent, and waits until it takes jobs. */
export async function startAgentProcess(
  t: Test,
  environment: Record<string, string>,
  { death, wrapper = [] }: { death?: Death; wrapper?: string[] } = {},
): Promise<AgentProcess> {
  const [command = '', ...args] = [...wrapper, process.execPath, program]
  const env = { ...environment, ...(death && { TEST_DEATH: JSON.stringify(death) }) }
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', chunk => {
    output += chunk
  })
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  // It may be killed before, when there is work for it from an earlier life.
  const isOver = () => child.exitCode !== null || child.signalCode !== null
  // Killed at last only: what it had of a CephFS, the MDS would keep from other tests for a minute.
  t.teardown(async () => {
    if (isOver()) return
    child.kill('SIGTERM')
    const killing = setTimeout(() => child.kill('SIGKILL'), stopLimitMs)
    await ended
    clearTimeout(killing)
  })
  await until('the agent in its process', () => output.includes('connected to the broker') || isOver())
  return { child, output: () => output, ended }
}
