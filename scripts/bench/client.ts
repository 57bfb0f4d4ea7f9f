/**
 * A client under test: a process of its own with a connection of its own, driven over a pipe. It takes its times
 * itself, so that the pipe is in none of them.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** Debian's own, for its packages of Ceph's modules are for no other. */
const python = '/usr/bin/python3'

export interface Program {
  name: string
  command: string
  args: string[]
}

/** A module of this folder that calls `serve()`. */
export function cephkitProgram(module: string, ...args: string[]): Program {
  const path = fileURLToPath(new URL(module, import.meta.url))
  return { name: 'cephkit', command: process.execPath, args: [path, ...args] }
}

/** A Python script of this folder that calls `serve()`. */
export function pythonProgram(script: string, ...args: string[]): Program {
  const path = fileURLToPath(new URL(`../../../scripts/bench/${script}`, import.meta.url))
  return { name: 'python3-rbd', command: python, args: [path, ...args] }
}

export class Client implements AsyncDisposable {
  readonly name: string
  readonly #process: ChildProcessByStdio<Writable, Readable, null>
  readonly #answers: AsyncIterator<string>
  readonly #signal: AbortSignal

  private constructor(name: string, child: ChildProcessByStdio<Writable, Readable, null>, signal: AbortSignal) {
    this.name = name
    this.#process = child
    this.#signal = signal
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    // One that has died cannot be written to; call() says so, as no answer comes.
    child.stdin.on('error', () => {})
  }

  static async start({ name, command, args }: Program, cephConf: string, signal: AbortSignal): Promise<Client> {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, CEPH_CONF: cephConf },
      // In a group of its own, so that Ctrl-C does not end it in the middle of a call.
      detached: true,
    })
    await once(child, 'spawn')
    return new Client(name, child, signal)
  }

  async call<T>(name: string, ...args: unknown[]): Promise<T> {
    this.#process.stdin.write(`${JSON.stringify({ call: name, args })}\n`)
    const { value, done } = await this.#answers.next()
    if (done) throw new Error(`the ${this.name} client has ended in a call of ${name}`)
    this.#signal.throwIfAborted()
    const { result, error } = JSON.parse(value)
    if (error !== undefined) throw new Error(`the ${this.name} client: ${error}`)
    return result
  }

  /** Waits until the process has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin.end()
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit')
  }
}
