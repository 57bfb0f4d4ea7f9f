import { describe, type Stack } from './describe.js'
import { cleanUpAfter, messageOf } from './errors.js'
import { holdsStack, Lock, readRecord, type StackRecord } from './folder.js'
import { Monitor } from './monitor.js'
import { compileSettings, resolveDir, type Service, type StackOptions, servicesToAdd } from './options.js'
import { isAlive } from './processes.js'
import { requirePrograms } from './programs.js'
import { Site } from './site.js'
import { addServices, isWhole, startNew, takeDown } from './start.js'

export type { Stack } from './describe.js'
export * from './errors.js'
export { type ReadyPart, SERVICES, type Service, STORES, type StackOptions, type Store } from './options.js'
export type { TgtAccess } from './tgt.js'

/** Longer than a start takes: who waits for another command's start wants its stack, not an error. */
const LOCK_SECONDS = 90

const HEALTH_TIMEOUT_MS = 5_000

export interface StartedStack extends Stack {
  /** What was in the folder: nothing, a running stack, or what a crash had left of one, which was cleaned up. */
  found: 'nothing' | 'running' | 'leftovers'
  /** The services that were started, if the stack was running already without them. */
  added: Service[]
}

export interface StackStatus {
  dir: string
  /** `starting`: a command is at work on it. `broken`: some daemon is dead; the next start cleans that up. */
  state: 'absent' | 'starting' | 'running' | 'broken'
  daemons: DaemonStatus[]
  health?: Health
  /** How to reach it, while it is running. */
  stack?: Stack
}

export interface DaemonStatus {
  name: string
  pid: number
  alive: boolean
  ports: number[]
}

export interface Health {
  /** HEALTH_OK, HEALTH_WARN or HEALTH_ERR; `unknown` where the cluster does not answer. */
  status: string
  /** One sentence each. */
  checks: string[]
}

/**
 * Starts a stack in a folder, and resolves when all of it is ready for use.
 *
 * A stack that runs there already is returned, after the services that it lacks were added. What a crash has left of
 * one is removed first. If any part fails to start, all that was started is taken down again.
 *
 * @throws {MissingProgramsError} programs are not installed
 * @throws {DaemonFailedError} with the name of the daemon and the last lines of its log
 * @throws {StackTimeoutError} a part was not ready within a minute
 * @throws {CleanUpError} one of these, and what was started could not all be taken down
 * @throws {StackConflictError} the stack runs with other settings than asked for
 * @throws {NotAStackError} the folder holds something else
 * @throws {StackBusyError} another command works on the folder
 * @throws {StackOptionError} an option has a value that cannot be
 */
export async function startStack(options: StackOptions): Promise<StartedStack> {
  const dir = resolveDir(options.dir)
  const settings = compileSettings(options)
  requirePrograms(settings.services)
  holdsStack(dir)
  await using lock = await Lock.acquire(dir, LOCK_SECONDS, options.signal)
  const context = { signal: options.signal, onReady: options.onReady }
  const record = readRecord(dir)
  if (record && isWhole(record)) {
    const added = servicesToAdd(record.settings, options)
    const grown = added.length === 0 ? record : await addServices(dir, record, added, context)
    return { ...describe(dir, grown), found: 'running', added }
  }
  try {
    if (record) await takeDown(dir, record)
    const started = await startNew(dir, settings, context)
    return { ...describe(dir, started), found: record ? 'leftovers' : 'nothing', added: [] }
  } catch (error) {
    await cleanUpAfter(error, () => lock.remove())
    throw error
  }
}

/**
 * Ends what `startStack` has started in a folder, or what a crash has left of it, and removes the folder.
 * Returns the names of the daemons that it ended: none where nothing was running.
 *
 * @throws {NotAStackError} the folder holds something else
 * @throws {StackBusyError} another command works on the folder
 */
export async function stopStack(folder: string): Promise<string[]> {
  const dir = resolveDir(folder)
  if (!holdsStack(dir)) return []
  await using lock = await Lock.acquire(dir, LOCK_SECONDS)
  const record = readRecord(dir)
  const ended = record ? await takeDown(dir, record) : []
  lock.remove()
  return ended
}

/** Looks, and changes nothing. */
export async function stackStatus(folder: string): Promise<StackStatus> {
  const dir = resolveDir(folder)
  const record = readRecord(dir)
  const state = await stateOf(dir, record)
  if (!record) return { dir, state, daemons: [] }
  const daemons = statusOfDaemons(record)
  if (state !== 'running') return { dir, state, daemons }
  return { dir, state, daemons, health: await healthOf(dir, record), stack: describe(dir, record) }
}

async function stateOf(dir: string, record: StackRecord | undefined): Promise<StackStatus['state']> {
  if (record && isWhole(record)) return 'running'
  if (await Lock.isHeld(dir)) return 'starting'
  return record ? 'broken' : 'absent'
}

function statusOfDaemons(record: StackRecord): DaemonStatus[] {
  return record.daemons.map(daemon => ({
    name: daemon.name,
    pid: daemon.pid,
    alive: isAlive(daemon),
    ports: daemon.ports,
  }))
}

async function healthOf(dir: string, record: StackRecord): Promise<Health> {
  const limit = AbortSignal.timeout(HEALTH_TIMEOUT_MS)
  try {
    using monitor = new Monitor(new Site(dir, record, { signal: limit }))
    const { status, checks } = (await monitor.command('health')) as CephHealth
    return { status, checks: Object.values(checks).map(({ summary }) => summary.message) }
  } catch (error) {
    // What the session with the monitor said before it was cut off says nothing about that.
    const silent = `the cluster has not answered in ${HEALTH_TIMEOUT_MS / 1000} s`
    return { status: 'unknown', checks: [limit.aborted ? silent : messageOf(error)] }
  }
}

interface CephHealth {
  status: string
  checks: Record<string, { summary: { message: string } }>
}
