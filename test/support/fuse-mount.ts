/** A mount of ceph-fuse that a test may stop, kill and mount again. Whatever has become of it, it is gone with the test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { run } from './cluster.js'
import { hang } from './hang.js'
import { until } from './process.js'

export interface FuseOptions {
  /** Default: that of the stack that all tests share. */
  cephConf?: string | undefined
  /** What of the file system is mounted. Default: all. */
  root?: string | undefined
  /** Default: client.admin, with its keyring. */
  user?: { name: string; keyring: string } | undefined
  /** Of mount(8), such as `ro`. */
  mountOptions?: string | undefined
}

export class FuseMount {
  /** Where it is mounted. */
  readonly folder: string
  readonly #cephConf: string
  readonly #args: string[]
  #process: ChildProcess | undefined

  private constructor(
    folder: string,
    { cephConf = String(process.env.CEPH_CONF), root = '/', user, mountOptions }: FuseOptions,
  ) {
    const name = user ? ['-n', `client.${user.name}`, '--keyring', user.keyring] : ['-n', 'client.admin']
    const given = mountOptions === undefined ? [] : ['-o', mountOptions]
    this.folder = folder
    this.#cephConf = cephConf
    this.#args = ['-f', '-c', cephConf, ...name, '-r', root, ...given, folder]
  }

  static async open(t: Test, options: FuseOptions = {}): Promise<FuseMount> {
    const mount = new FuseMount(await mkdtemp(join(tmpdir(), 'cephkit-mount-')), options)
    t.teardown(() => mount.close())
    await mount.mount()
    return mount
  }

  async mount(): Promise<void> {
    // The runtime of a sanitizer is for this process.
    const env = { ...process.env, LD_PRELOAD: undefined }
    this.#process = spawn('ceph-fuse', this.#args, { stdio: 'ignore', env, detached: true })
    if (!(await until(() => this.isMounted(), 30_000))) throw new Error(`ceph-fuse has not mounted ${this.folder}`)
  }

  async isMounted(): Promise<boolean> {
    return (await readFile('/proc/self/mounts', 'utf8')).includes(` ${this.folder} fuse.ceph-fuse `)
  }

  get #pid(): number {
    return Number(this.#process?.pid)
  }

  stop(): void {
    hang(this.#pid)
  }

  cont(): void {
    process.kill(this.#pid, 'SIGCONT')
  }

  /** Leaves the mount there, with nobody behind it. */
  async kill(): Promise<void> {
    await this.#evict()
    await this.#end('SIGKILL')
  }

  /** The MDS would wait a minute for what a client has that was killed, and whoever wants it would wait as long. */
  async #evict(): Promise<void> {
    const sessions: { id: number; client_metadata: { mount_point?: string } }[] = JSON.parse(
      await this.#tellMds('session', 'ls'),
    )
    for (const { id, client_metadata } of sessions)
      if (client_metadata.mount_point === this.folder) await this.#tellMds('session', 'evict', `id=${id}`)
  }

  #tellMds(...command: string[]): Promise<string> {
    return run('ceph', '--conf', this.#cephConf, 'tell', 'mds.cephfs:0', ...command, '--format', 'json')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    child.kill('SIGCONT')
    // What hangs is not waited for.
    const killing = setTimeout(() => void this.kill(), 20_000)
    await ended
    clearTimeout(killing)
    this.#endStarted()
  }

  /** It remounts itself now and then by a mount(8), which has its device open, and waits for it for ever once it is dead. */
  #endStarted(): void {
    try {
      process.kill(-this.#pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  /** Mounts another one in its place, and leaves the old one as it is: what hangs there goes on hanging. Answers what ends it. */
  async replace(): Promise<() => Promise<void>> {
    const old = this.#process
    await this.#evict()
    await run('umount', '--lazy', '--no-canonicalize', this.folder)
    await this.mount()
    return async () => {
      if (old === undefined || old.exitCode !== null || old.signalCode !== null) return
      const ended = once(old, 'exit')
      old.kill('SIGKILL')
      await ended
    }
  }

  async unmount(): Promise<void> {
    await this.#end('SIGTERM')
    if (await this.isMounted()) await run('umount', '-l', this.folder)
  }

  async close(): Promise<void> {
    await this.unmount()
    await rmdir(this.folder)
  }
}
