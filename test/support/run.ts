/**
 * Runs test files, each in a process of its own, on a development stack that they share.
 *
 *   node dist/test/support/run.js [dist/test/FILE.js ...]
 *
 * By tap's own means, for its command would want to compile TypeScript that is compiled already.
 */
import { type ChildProcess, execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { startStack, stopStack } from '../../src/dev/stack.js'
// Not by stack.js, which would take the stack of a run that was killed for one that is given.
import { stackDir } from './stack-dir.js'

const root = fileURLToPath(new URL('..', import.meta.url))
/** `support/` is no test, and `gateway/` has a place of its own to run in: support/gateway-lab/. */
const elsewhere = /^(support|gateway)\//
/** Two more than there are cores on the smallest machine that is thought of: many wait for a time-out. */
const filesAtOnce = 4
/**
 * Longer than any file takes on a busy machine, in seconds, unless it is one that runs for hours. In the environment it is for
 * the tests within the files.
 */
const limitSeconds = Number(process.env.TAP_TIMEOUT ?? 600)
const env = { ...process.env, TAP_TIMEOUT: String(limitSeconds) }

function allFiles(): string[] {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  // Those that take the longest come last by their names: begun first, they are not alone at the end.
  return files
    .filter(file => file.endsWith('.js') && !elsewhere.test(file))
    .sort()
    .reverse()
}

/** What each thread of a process is at, for there is no other trace of a hang that comes once in fifty runs. */
async function printThreads(file: string, { pid }: ChildProcess): Promise<void> {
  const args = ['-nx', '--batch', '--pid', String(pid), '--eval-command', 'thread apply all backtrace 20']
  const options = { maxBuffer: 64 * 1024 * 1024, timeout: 60_000, killSignal: 'SIGKILL' } as const
  const { stdout, stderr, message = '' } = await promisify(execFile)('gdb', args, options).catch(error => error)
  const told = `${message}\n${stderr}\n${stdout}`.replace(/^(?=.)/gm, '    ')
  console.error(`${file} hangs; its threads, as far as there is gdb:\n${told}`)
}

/** Has a look at a file shortly before its time is over, which a file may set itself. */
function watch(file: string, child: ChildProcess): void {
  let look: NodeJS.Timeout | undefined
  const lookAfter = (milliseconds: number) => {
    clearTimeout(look)
    if (milliseconds > 0) look = setTimeout(printThreads, milliseconds * 0.95, file, child)
  }
  lookAfter(limitSeconds * 1000)
  child.on('message', (message: { setTimeout?: number } | null) => {
    if (message?.setTimeout !== undefined) lookAfter(message.setTimeout)
  })
  child.once('exit', () => clearTimeout(look))
}

const named = process.argv.slice(2).map(file => relative(root, file))
const files = named.length > 0 ? named : allFiles()

if (!process.env.CEPH_CONF) {
  t.teardown(() => stopStack(stackDir))
  await startStack({ dir: stackDir, services: ['mds', 'rabbitmq'] })
}
t.setTimeout(0)
t.jobs = filesAtOnce
t.on('spawn', spawn => spawn.once('process', child => watch(spawn.name, child)))
for (const file of files) {
  // By `env`, to take back the NODE_OPTIONS of tap's own: with them every Node.js below counts how often each block of its code
  // is executed, for a report that nobody asks for, and a run takes a quarter longer.
  const options = { env, buffered: true, timeout: limitSeconds * 1000 }
  const program = [process.execPath, '--enable-source-maps', join(root, file)]
  t.spawn('env', [`NODE_OPTIONS=${process.env.NODE_OPTIONS ?? ''}`, ...program], options, file)
}
