/**
 * Runs test files, each in a process of its own, on a development stack that they share.
 *
 *   node dist/test/support/run.js [dist/test/FILE.js ...]
 *
 * By tap's own means, for its command would want to compile TypeScript that is compiled already.
 */
import { execFile } from 'node:child_process'
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
/** Before that, where it hangs is looked at, which takes gdb a few seconds. */
const lookSeconds = limitSeconds * 0.95

function allFiles(): string[] {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  // Those that take the longest come last by their names: begun first, they are not alone at the end.
  return files
    .filter(file => file.endsWith('.js') && !elsewhere.test(file))
    .sort()
    .reverse()
}

/** What each thread of a process is at, for there is no other trace of a hang that comes once in fifty runs. */
async function printThreads(file: string, pid: number): Promise<void> {
  const args = ['--batch', '--pid', String(pid), '--eval-command', 'thread apply all backtrace 20']
  const told = await promisify(execFile)('gdb', args, { maxBuffer: 64 * 1024 * 1024 }).catch(error => error)
  const text: string = told.stdout || `not known, for gdb failed: ${told.message}`
  console.error(`${file} hangs; its threads:\n${text.replace(/^(?=.)/gm, '    ')}`)
}

const named = process.argv.slice(2).map(file => relative(root, file))
const files = named.length > 0 ? named : allFiles()

if (!process.env.CEPH_CONF) {
  t.teardown(() => stopStack(stackDir))
  await startStack({ dir: stackDir, services: ['mds', 'rabbitmq'] })
}
t.setTimeout(0)
t.jobs = filesAtOnce
t.on('spawn', spawn =>
  spawn.once('process', process => {
    const look = setTimeout(printThreads, lookSeconds * 1000, spawn.name, process.pid)
    process.once('exit', () => clearTimeout(look))
  }),
)
for (const file of files) {
  // By `env`, to take back the NODE_OPTIONS of tap's own: with them every Node.js below counts how often each block of its code
  // is executed, for a report that nobody asks for, and a run takes a quarter longer.
  const options = { env, buffered: true, timeout: limitSeconds * 1000 }
  const program = [process.execPath, '--enable-source-maps', join(root, file)]
  t.spawn('env', [`NODE_OPTIONS=${process.env.NODE_OPTIONS ?? ''}`, ...program], options, file)
}
