/** A directory of CephFS that ceph-fuse has mounted, and scripts that are at work there. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

/** Milliseconds. */
const mountLimit = 30_000

export class FuseMount implements AsyncDisposable {
  readonly #folder: string
  readonly #fuse: ChildProcess
  readonly #signal: AbortSignal

  private constructor(folder: string, fuse: ChildProcess, signal: AbortSignal) {
    this.#folder = folder
    this.#fuse = fuse
    this.#signal = signal
  }

  static async start(root: string, cephConf: string, signal: AbortSignal): Promise<FuseMount> {
    const folder = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
    // In a group of its own, so that Ctrl-C does not end it before what is at work there.
    const fuse = spawn('ceph-fuse', ['-f', '-c', cephConf, '-r', root, folder], { stdio: 'ignore', detached: true })
    const mount = new FuseMount(folder, fuse, signal)
    try {
      await once(fuse, 'spawn')
      await mount.#untilThere()
      return mount
    } catch (error) {
      await mount[Symbol.asyncDispose]()
      throw error
    }
  }

  async #untilThere(): Promise<void> {
    const giveUpAt = Date.now() + mountLimit
    while (!(await readFile('/proc/self/mounts', 'utf8')).includes(` ${this.#folder} fuse.ceph-fuse `)) {
      if (Date.now() > giveUpAt || this.#hasEnded) throw new Error(`ceph-fuse has not mounted ${this.#folder}`)
      await delay(50)
    }
  }

  get #hasEnded(): boolean {
    return this.#fuse.pid === undefined || this.#fuse.exitCode !== null || this.#fuse.signalCode !== null
  }

  /** Runs a script of bash in it, and tells how many milliseconds that took. */
  async run(script: string, ...args: number[]): Promise<number> {
    const start = performance.now()
    const bash = spawn('bash', ['-e', '-c', script, 'bash', ...args.map(String)], {
      cwd: this.#folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    })
    const [said, [status]] = await Promise.all([text(bash.stderr), once(bash, 'close')])
    const took = performance.now() - start
    if (status !== 0) throw new Error(`a script on ceph-fuse: ${said.trim()}`)
    this.#signal.throwIfAborted()
    return took
  }

  /** Unmounts. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) {
      const ended = once(this.#fuse, 'exit')
      this.#fuse.kill()
      await ended
    }
    await rmdir(this.#folder)
  }
}
