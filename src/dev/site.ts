import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DaemonFailedError, StackTimeoutError } from './errors.js'
import { type Daemon, type StackRecord, writeRecord } from './folder.js'
import type { StackOptions, StackSettings } from './options.js'
import { accepts } from './ports.js'
import { identify, markOf, terminate } from './processes.js'
import { searchPath } from './programs.js'

/** No single step of a start takes longer on any machine worth waiting for. */
const STEP_SECONDS = 60

const TAIL_LINES = 8

export const GRACE_MS = 5_000

export type StartContext = Pick<StackOptions, 'signal' | 'onReady'>

/** A folder in which a stack is being started: what each service needs to bring its daemons up. */
export class Site {
  readonly dir: string
  readonly record: StackRecord
  /** Aborted as soon as a part of the start fails, or a daemon ends, or the caller gives up. */
  readonly #failure = new AbortController()
  readonly #onReady: StartContext['onReady']
  readonly #startedAt = performance.now()

  constructor(dir: string, record: StackRecord, { signal, onReady }: StartContext = {}) {
    this.dir = dir
    this.record = record
    this.#onReady = onReady
    if (signal?.aborted) this.#failure.abort(signal.reason)
    signal?.addEventListener('abort', () => this.#failure.abort(signal.reason), { once: true })
  }

  get settings(): StackSettings {
    return this.record.settings
  }

  /** A path below the state folder, as daemons are told it. */
  path(...names: string[]): string {
    return join(this.record.root, ...names)
  }

  /** The same, for a folder that is there when this returns. */
  folder(...names: string[]): string {
    const path = this.path(...names)
    mkdirSync(path, { recursive: true })
    return path
  }

  ready(part: string): void {
    this.#onReady?.({ part, atMs: Math.round(performance.now() - this.#startedAt) })
  }

  /** Starts a daemon in its foreground mode, as a session of its own so that it outlives this process. */
  async start(
    name: string,
    program: string,
    args: string[],
    { ports = [], env = {}, endWith }: StartOptions = {},
  ): Promise<void> {
    this.#failure.signal.throwIfAborted()
    const child = this.#spawn(name, program, args, { detached: true, env })
    const pid = await spawned(child)
    const daemon = { ...(identify(pid) ?? { pid, startTime: 0 }), name, ports, ...(endWith && { endWith }) }
    this.record.daemons.push(daemon)
    child.once('exit', async (status, signal) => {
      // A daemon that cannot listen may end before its log says why.
      const taken = await Promise.all(ports.map(port => accepts(port, this.settings.address)))
      if (!this.record.daemons.includes(daemon)) return
      const portTaken = taken.includes(true)
      this.#failure.abort(this.failure(name, describeEnding(status, signal), { portTaken }))
    })
    child.unref()
    writeRecord(this.dir, this.record)
  }

  /** Ends a daemon, to start it anew with other settings. */
  async stop(name: string): Promise<void> {
    const stopped = this.record.daemons.filter(daemon => daemon.name === name)
    this.record.daemons = this.record.daemons.filter(daemon => !stopped.includes(daemon))
    await terminate(stopped, GRACE_MS)
  }

  /** Runs a program that prepares a daemon, in whose log its messages go. Returns what it printed. */
  async run(name: string, program: string, args: string[], env: Record<string, string> = {}): Promise<string> {
    const limits = { signal: this.#failure.signal, timeout: STEP_SECONDS * 1000, killSignal: 'SIGKILL' } as const
    const child = this.#spawn(name, program, args, { env, stdout: 'pipe', ...limits })
    const [output, ending] = await finished(child)
    if (ending === SUCCESS) return output
    const how = child.killed ? `took longer than ${STEP_SECONDS} s` : ending
    throw this.failure(name, `could not be made ready: ${program} ${how}`)
  }

  /** A helper of this process, which lives no longer than it. */
  helper(name: string, program: string, args: string[]): ChildProcess {
    return this.#spawn(name, program, args, { stdin: 'pipe', stdout: 'pipe', signal: this.#failure.signal })
  }

  /** Waits for all. The first that fails makes the others give up, so that none starts a daemon behind our back. */
  async all<T extends Promise<unknown>[]>(tasks: [...T]): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
    await Promise.all(tasks.map(task => task.catch(error => this.#failure.abort(error))))
    this.#failure.signal.throwIfAborted()
    return Promise.all(tasks)
  }

  /** Waits until `check` holds. */
  async until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
    const giveUp = () => this.#failure.abort(new StackTimeoutError(what, STEP_SECONDS))
    const limit = setTimeout(giveUp, STEP_SECONDS * 1000)
    try {
      while (!(await check())) {
        await sleep(20)
        this.#failure.signal.throwIfAborted()
      }
    } finally {
      clearTimeout(limit)
    }
  }

  /** The error for a daemon that failed, with what it said last. */
  failure(name: string, how: string, { portTaken = false } = {}): DaemonFailedError {
    const log = this.#log(name)
    const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : []
    const reason = { portTaken: portTaken || lines.some(saysPortTaken) }
    return new DaemonFailedError(name, how, lines.slice(-TAIL_LINES), reason)
  }

  #spawn(
    name: string,
    program: string,
    args: string[],
    { env, stdin = 'ignore', stdout, ...options }: Spawning,
  ): ChildProcess {
    const log = openSync(this.#log(name), 'a')
    try {
      return spawn(program, args, {
        cwd: this.record.root,
        // Little of the caller's: a CEPH_ARGS or RABBITMQ_… meant for another cluster would reach into this one.
        env: { PATH: searchPath(), HOME: this.record.root, LANG: 'C.UTF-8', ...env, ...markOf(this.record.id) },
        stdio: [stdin, stdout ?? log, log],
        ...options,
      })
    } finally {
      closeSync(log)
    }
  }

  #log(name: string): string {
    return this.path('log', `${name}.log`)
  }
}

export interface StartOptions extends Pick<Daemon, 'endWith'> {
  ports?: number[]
  env?: Record<string, string>
}

interface Spawning extends Pick<SpawnOptions, 'detached' | 'signal' | 'timeout' | 'killSignal'> {
  env?: Record<string, string>
  stdin?: 'pipe' | 'ignore'
  stdout?: 'pipe'
}

function spawned(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('spawn', () => resolve(child.pid ?? 0))
  })
}

function finished(child: ChildProcess): Promise<[output: string, ending: string]> {
  return new Promise((resolve, reject) => {
    let output = ''
    child.stdout?.setEncoding('utf8').on('data', text => {
      output += text
    })
    child.once('error', reject)
    child.once('close', (status, signal) => resolve([output, describeEnding(status, signal)]))
  })
}

const SUCCESS = describeEnding(0, null)

function saysPortTaken(line: string): boolean {
  return /address (already )?in use|eaddrinuse|already a epmd running/i.test(line)
}

function describeEnding(status: number | null, signal: NodeJS.Signals | null): string {
  return signal ? `was ended by ${signal}` : `ended with status ${status}`
}
