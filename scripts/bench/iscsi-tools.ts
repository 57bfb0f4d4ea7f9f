/** Initiators, and tgtd as somebody drives it by hand. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import type { Load } from './io-client.js'

/** How many requests tell how fast the others will be. */
const probed = 2_000

/** What one program may take: far more than a measurement does. */
const limitMs = 120_000

/** The part of the image that is between one request and the next: far from round, so that they come to all places. */
const goldenRatio = 0.618

/**
 * Operations per second of `qemu-img bench`, by libiscsi, for about as long. Debian's fio has no engine for iSCSI, and
 * libiscsi's own program only reads.
 */
export async function measureByQemu(url: string, load: Load, size: number, seconds: number): Promise<number> {
  const rate = await benchByQemu(url, load, size, probed)
  return benchByQemu(url, load, size, Math.max(probed, Math.round(rate * seconds)))
}

async function benchByQemu(url: string, { kind, blockSize, depth }: Load, size: number, count: number) {
  // An odd number of blocks, so that a size that is a power of two has each block once before it has one twice.
  const step = (Math.floor((size / blockSize) * goldenRatio) | 1) * blockSize
  const how = { '-f': 'raw', '-c': count, '-d': depth, '-s': blockSize, '-S': step }
  const args = Object.entries(how).flatMap(([option, value]) => [option, String(value)])
  const said = await run('qemu-img', ['bench', ...args, ...(kind === 'randwrite' ? ['-w'] : []), url])
  const [, elapsed = ''] = /Run completed in ([\d.]+) seconds/.exec(said) ?? []
  if (!(Number(elapsed) > 0)) throw new Error(`qemu-img bench: ${said.trim()}`)
  return count / Number(elapsed)
}

/** Logs in and asks for the size. */
export async function logIn(url: string): Promise<void> {
  await run('iscsi-readcapacity16', [url])
}

const tid = '1'

/** One target by hand. */
export class Tgtadm {
  readonly #env: NodeJS.ProcessEnv
  readonly #controlPort: string
  readonly #cephConf: string
  #isThere = false

  constructor({ TGT_IPC_SOCKET, TGT_CONTROL_PORT = '0' }: Record<string, string>, cephConf: string) {
    this.#env = { ...process.env, TGT_IPC_SOCKET }
    this.#controlPort = TGT_CONTROL_PORT
    this.#cephConf = cephConf
  }

  async expose(iqn: string, image: string): Promise<void> {
    await this.#run('target', 'new', '--targetname', iqn)
    this.#isThere = true
    const store = ['--bstype', 'rbd', '--backing-store', image, '--bsopts', `conf=${this.#cephConf};id=admin`]
    await this.#run('logicalunit', 'new', '--lun', '1', ...store)
    await this.#run('target', 'bind', '--initiator-address', 'ALL')
  }

  /** What there is of it. */
  async remove(): Promise<void> {
    if (!this.#isThere) return
    await this.#run('target', 'delete', '--force')
    this.#isThere = false
  }

  async #run(mode: string, operation: string, ...args: string[]): Promise<void> {
    const where = ['-C', this.#controlPort, '--lld', 'iscsi', '--mode', mode, '--op', operation, '--tid', tid]
    await run('tgtadm', [...where, ...args], this.#env)
  }
}

async function run(program: string, args: string[], env: NodeJS.ProcessEnv = process.env): Promise<string> {
  // In a group of its own, so that Ctrl-C does not end it in the middle.
  const limit = { timeout: limitMs, killSignal: 'SIGKILL' } as const
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env, detached: true, ...limit })
  const ended = once(child, 'close')
  const [printed, said, [status, signal]] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  if (status === 0) return printed
  const why = signal === limit.killSignal ? `not done in ${limitMs / 1000} s` : said.trim()
  throw new Error(`${program} ${args.join(' ')}: ${why}`)
}
