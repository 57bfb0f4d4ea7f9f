import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { NotAStackError, StackBusyError, StackError } from './errors.js'
import type { StackSettings } from './options.js'
import type { EndableProcess } from './processes.js'

/** What a state folder says about its stack, in `cephkit-stack.json`. Written before the first process is started. */
export interface StackRecord {
  /** Also the cluster's fsid. */
  id: string
  /** `starting` outlives a command that was killed in the middle. */
  state: 'starting' | 'ready'
  /** The folder as daemons are told it: see `aliasFor`. */
  root: string
  settings: StackSettings
  /** One for each version of the protocol. */
  monitorPorts: { v2: number; v1: number }
  daemons: Daemon[]
}

export interface Daemon extends EndableProcess {
  name: string
  /** What it listens on for clients; daemons that clients find through the monitor have none. */
  ports: number[]
}

/** The port at which clients reach a daemon, if the stack has the daemon and clients are told its port. */
export function portOf({ daemons }: StackRecord, daemon: string): number | undefined {
  return daemons.find(({ name }) => name === daemon)?.ports[0]
}

/** Of a name that no other program gives to its files: it is what tells a folder that may be removed. */
const RECORD = 'cephkit-stack.json'
const DRAFT = `${RECORD}.new`
const LOCK = 'lock'

/** A path of a Unix socket has at most 107 bytes, and this is the longest that a stack makes below its root. */
const LONGEST_ROOT = 107 - '/run/client.rgw.asok'.length

export function readRecord(dir: string): StackRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, RECORD), 'utf8'))
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/** In one piece: a reader, or the next command after a crash, sees the old record or the new one. */
export function writeRecord(dir: string, record: StackRecord): void {
  writeFileSync(join(dir, DRAFT), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 })
  renameSync(join(dir, DRAFT), join(dir, RECORD))
}

/**
 * Whether there is a stack, or the beginning of one, in the folder. A folder in which something else lives is refused,
 * before anything is written to it or removed from it.
 */
export function holdsStack(dir: string): boolean {
  const names = existsSync(dir) ? readdirSync(dir) : []
  const isBeginning = names.every(name => name === LOCK || name === DRAFT)
  if (!isBeginning && !names.includes(RECORD)) throw new NotAStackError(dir)
  return names.length > 0
}

/**
 * The folder's own path or, where that is too long for a Unix socket or has characters that the daemons' own
 * configuration files give a meaning, a short link to it. The name is derived from the path, so that a crash leaves
 * nothing that is not found again.
 */
export function aliasFor(dir: string): string {
  if (Buffer.byteLength(dir) <= LONGEST_ROOT && /^[\w./@+-]+$/.test(dir)) return dir
  return join('/tmp', `cephkit-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`)
}

export function makeAlias(dir: string, root: string): void {
  if (root === dir) return
  if (!isAlias(dir, root)) symlinkSync(dir, root)
}

/** Removes all of a stack's state but its lock, which `Lock.remove` takes last. */
export function clear(dir: string, root: string): void {
  if (root !== dir && isAlias(dir, root)) unlinkSync(root)
  // The record goes last: without it nobody would know what the rest is.
  const names = readdirSync(dir).filter(name => name !== LOCK && name !== RECORD)
  for (const name of [...names, RECORD]) rmSync(join(dir, name), { recursive: true, force: true })
}

function isAlias(dir: string, root: string): boolean {
  const link = lstatSync(root, { throwIfNoEntry: false })
  // Anybody may make names in /tmp: a link that another user made is not followed.
  return link?.isSymbolicLink() === true && link.uid === process.getuid?.() && readlinkSync(root) === dir
}

/**
 * flock(2) on a file of the folder, held by a small process for as long as its standard input stays open. The kernel
 * frees it with whoever holds it, so that there is no stale lock to recognise. After the wait the file may have been
 * removed together with the stack; then the lock is one on nothing.
 */
const HOLD_LOCK = `
exec 9>>"$1" || exit 74
flock --wait "$2" 9 || exit 75
[ "$1" -ef /proc/self/fd/9 ] || exit 76
echo held
exec cat`

/** How long the kernel waits before we look whether we are still wanted. */
const TURN_SECONDS = 0.5

const LOCKED_BY_ANOTHER = 75
const LOCK_WAS_REMOVED = 76

/** At most one command works on a folder at a time. */
export class Lock implements AsyncDisposable {
  readonly #dir: string
  readonly #holder: ChildProcess

  private constructor(dir: string, holder: ChildProcess) {
    this.#dir = dir
    this.#holder = holder
  }

  /** Makes the folder where there is none. */
  static async acquire(dir: string, waitSeconds: number, signal?: AbortSignal): Promise<Lock> {
    const deadline = performance.now() + waitSeconds * 1000
    for (;;) {
      signal?.throwIfAborted()
      mkdirSync(dir, { recursive: true, mode: 0o700 })
      const held = await holdLock(join(dir, LOCK), TURN_SECONDS)
      if (typeof held !== 'number') return new Lock(dir, held)
      if (held === LOCK_WAS_REMOVED || !existsSync(dir)) continue
      if (held !== LOCKED_BY_ANOTHER) throw new StackError('LOCK', `cannot lock ${join(dir, LOCK)}`)
      if (performance.now() > deadline) throw new StackBusyError(dir, waitSeconds)
    }
  }

  /** Whether a command is at work on the folder. */
  static async isHeld(dir: string): Promise<boolean> {
    if (!existsSync(join(dir, LOCK))) return false
    const held = await holdLock(join(dir, LOCK), 0)
    if (typeof held !== 'number') await release(held)
    return held === LOCKED_BY_ANOTHER
  }

  /** Removes the folder, if it is clear and nobody waits to use it. */
  remove(): void {
    if (readdirSync(this.#dir).some(name => name !== LOCK)) return
    unlinkSync(join(this.#dir, LOCK))
    try {
      rmdirSync(this.#dir)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await release(this.#holder)
  }
}

/** The process that holds the lock, or the status with which it ended without. */
function holdLock(path: string, waitSeconds: number): Promise<ChildProcess | number> {
  return new Promise((resolve, reject) => {
    const holder = spawn('/bin/sh', ['-c', HOLD_LOCK, 'cephkit-lock', path, String(waitSeconds)], {
      // Not in the terminal's process group: Ctrl-C must not free the lock while the command still cleans up.
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    holder.once('error', reject)
    holder.once('exit', status => resolve(status ?? 1))
    createInterface(holder.stdout).once('line', () => resolve(holder))
  })
}

async function release(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return
  await new Promise(resolve => {
    holder.once('exit', resolve)
    holder.stdin?.end()
  })
}
