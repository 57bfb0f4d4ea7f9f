/** A tgtd of the test's own, and initiators of libiscsi and of qemu. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { freePort } from '../../src/dev/ports.js'
import { until } from './broker.js'

export class Tgt {
  readonly portal: string
  readonly port: number
  readonly #folder: string
  #child: ChildProcess | undefined

  private constructor(folder: string, address: string, port: number) {
    this.#folder = folder
    this.port = port
    this.portal = `${address}:${port}`
  }

  static async start(t: Test, address = '127.0.0.1'): Promise<Tgt> {
    const tgt = new Tgt(await mkdtemp(join(tmpdir(), 'cephkit-tgt-')), address, await freePort())
    t.teardown(async () => {
      await tgt.kill()
      await rm(tgt.#folder, { recursive: true })
    })
    await tgt.start()
    return tgt
  }

  /** For an agent, and for tgtadm. */
  get environment(): Record<string, string> {
    return { ISCSI_DRIVER: 'tgt', TGT_IPC_SOCKET: join(this.#folder, 'socket'), TGT_CONTROL_PORT: '1' }
  }

  async start(): Promise<void> {
    const env = { ...process.env, ...this.environment, LD_PRELOAD: undefined }
    const args = ['-f', '-C', '1', '--iscsi', `portal=${this.portal}`]
    this.#child = spawn('/usr/sbin/tgtd', args, { env, stdio: 'ignore' })
    const socket = join(this.#folder, 'socket.1')
    await until(
      'tgtd',
      async () => existsSync(socket) && (await this.adm('target', 'show').catch(() => false)) !== false,
    )
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(name)
  }

  /** tgtd takes no notice of SIGTERM. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.isRunning) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** As a person does it. `adm('target', 'new', '--tid', '1', …)` */
  async adm(mode: string, op: string, ...args: string[]): Promise<string> {
    const env = { ...process.env, ...this.environment, LD_PRELOAD: undefined }
    const all = ['-C', '1', '--lld', 'iscsi', '--mode', mode, '--op', op, ...args]
    const { stdout } = await promisify(execFile)('/usr/sbin/tgtadm', all, { env })
    return stdout
  }

  /** The names of all targets, as tgtadm shows them. */
  async names(): Promise<string[]> {
    return [...(await this.adm('target', 'show')).matchAll(/^Target \d+: (.*)$/gm)].map(([, name = '']) => name)
  }

  /** For initiators. */
  url(iqn: string, { lun = 1, login = '' } = {}): string {
    return `iscsi://${login === '' ? '' : `${login}@`}${this.portal}/${iqn}/${lun}`
  }
}

/** A target that is emulated, on a busy machine, takes long; one that works otherwise takes milliseconds. */
const answerMs = 180_000

export const initiator = 'iqn.2001-07.org.openhvx:host:one'

/** Runs a program of libiscsi; gives what it prints. */
export async function initiate(program: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, LD_PRELOAD: undefined }
  const { stdout } = await promisify(execFile)(program, args, { env, timeout: answerMs, maxBuffer: 2 ** 26 })
  return stdout
}

/** The targets that an initiator is told of. */
export async function discover({ portal }: { portal: string }, name = initiator): Promise<string[]> {
  const listed = await initiate('iscsi-ls', '-i', name, `iscsi://${portal}`)
  return [...listed.matchAll(/^Target:(\S+) /gm)].map(([, iqn = '']) => iqn).sort()
}

export async function capacity(url: string): Promise<number> {
  const printed = await initiate('iscsi-readcapacity16', '-i', initiator, url)
  const [, bytes = ''] = /Total size:(\d+)/.exec(printed) ?? []
  return Number(bytes)
}

/** Page 0x80 and page 0x83, as an initiator has them. */
export async function identity(url: string): Promise<{ serial: string; page83: string }> {
  const inquire = (page: number) => initiate('iscsi-inq', '-i', initiator, '-e', '1', '-c', String(page), url)
  const serial = await inquire(0x80)
  return { serial: /Unit Serial Number:\[\s*(\S*)\s*\]/.exec(serial)?.[1] ?? serial, page83: await inquire(0x83) }
}

/** An initiator that is logged in, and stays so: `qemu-io`. */
export class Attached {
  readonly #child: ChildProcess
  #output = ''

  private constructor(child: ChildProcess) {
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', chunk => (this.#output += chunk))
  }

  static open(t: Test, url: string): Promise<Attached> {
    return Attached.#open(t, ['-f', 'raw', url])
  }

  /** Under a name that it chooses. */
  static openAs(t: Test, name: string, at: { portal: string; lun?: number }, iqn: string): Promise<Attached> {
    const { portal, lun = 1 } = at
    const options = { driver: 'iscsi', transport: 'tcp', portal, target: iqn, lun, 'initiator-name': name }
    const text = Object.entries(options).map(([key, value]) => `${key}=${value}`)
    return Attached.#open(t, ['--image-opts', text.join(',')])
  }

  static async #open(t: Test, args: string[]): Promise<Attached> {
    const env = { ...process.env, LD_PRELOAD: undefined }
    const attached = new Attached(spawn('qemu-io', args, { env, stdio: 'pipe' }))
    t.teardown(() => attached.kill())
    await attached.do('length')
    return attached
  }

  /** Gives what it prints. */
  async do(command: string): Promise<string> {
    const from = this.#output.length
    this.#child.stdin?.write(`${command}\n`)
    const answer = () => {
      const printed = this.#output.slice(from)
      if (this.#child.exitCode !== null) throw new Error(`qemu-io ended: ${this.#output}`)
      return /\n(qemu-io> )?$/.test(printed) && printed.includes('qemu-io> ') && printed.trim() !== 'qemu-io>'
        ? printed
        : false
    }
    return until(`${command} in ${this.#output}`, answer, answerMs)
  }

  /** Logs out. One that has lost its disk would wait for it first. */
  close(): Promise<void> {
    return this.#end(() => this.#child.stdin?.end('quit\n'))
  }

  /** Leaves without a word. */
  kill(): Promise<void> {
    return this.#end(() => this.#child.kill('SIGKILL'))
  }

  async #end(end: () => void): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    end()
    await ended
  }
}
