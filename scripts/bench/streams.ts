/**
 * Export of an image to a file, and import, where a quarter of the image has data. Beside `rbd export`, `rbd import` and
 * `qemu-img convert`, each of them a process every time.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { GiB } from '../../lib/index.js'
import { Client, cephkitProgram } from './client.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'

export interface Scale {
  /** Of the image, in bytes. */
  size: number
  /** How often it is each one's turn. */
  turns: number
}
const full: Scale = { size: 4 * GiB, turns: 7 }
const quick: Scale = { size: GiB, turns: 3 }

export const streams: Part = {
  name: 'streams',
  measure: context => measureStreams(context, context.quick ? quick : full),
}

export async function measureStreams(context: Context, scale: Scale): Promise<Row[]> {
  const { pool, namespace, cephConf, signal } = context
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
  try {
    await using client = await Client.start(cephkitProgram('streams-client.js', pool, namespace), cephConf, signal)
    await client.call('prepare', 'source', scale.size)
    return await measure(new Sides(context, client, join(folder, 'raw')), scale)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function measure(sides: Sides, { size, turns }: Scale): Promise<Row[]> {
  const load = (what: string) => `${what} of ${size / GiB} GiB, a quarter with data`
  const [exports, rbdExports, qemuExports] = await alternate(turns, [
    () => sides.exportBy(path => sides.cephkit('exportImage', 'source', path)),
    () => sides.exportBy(path => sides.rbd('export', sides.spec('source'), path)),
    () => sides.exportBy(path => sides.qemuImg(sides.url('source'), path)),
  ])
  await sides.rbd('export', sides.spec('source'), sides.path)
  const [imports, rbdImports, qemuImports] = await alternate(turns, [
    () => sides.importBy(path => sides.cephkit('importImage', 'target', path)),
    () => sides.importBy(path => sides.rbd('import', path, sides.spec('target'))),
    () => sides.importBy(path => sides.qemuImg(path, sides.url('target'))),
  ])
  return [
    row(load('export'), exports, rbdExports, 'rbd export'),
    row(load('export'), exports, qemuExports, 'qemu-img convert'),
    row(load('import'), imports, rbdImports, 'rbd import'),
    row(load('import'), imports, qemuImports, 'qemu-img convert'),
  ]
}

function row(load: string, oursMs: number[], peerMs: number[], peerName: string): Row {
  return compare({
    part: 'streams',
    load,
    metric: 'time',
    unit: 's',
    better: 'less',
    ours: median(oursMs) / 1000,
    peer: median(peerMs) / 1000,
    peerName,
    need: 1,
  })
}

/** What each side does; all answer how many milliseconds it took. */
class Sides {
  readonly path: string
  readonly #context: Context
  readonly #client: Client

  constructor(context: Context, client: Client, path: string) {
    this.#context = context
    this.#client = client
    this.path = path
  }

  /** For `rbd`. */
  spec(image: string): string {
    const { pool, namespace } = this.#context
    return `${pool}/${namespace}/${image}`
  }

  /** For `qemu-img`. */
  url(image: string): string {
    return `rbd:${this.spec(image)}:conf=${this.#context.cephConf}`
  }

  async exportBy(work: (path: string) => Promise<number>): Promise<number> {
    const took = await work(this.path)
    await rm(this.path)
    return took
  }

  async importBy(work: (path: string) => Promise<number>): Promise<number> {
    const took = await work(this.path)
    await this.#client.call('removeImage', 'target')
    return took
  }

  cephkit(call: 'exportImage' | 'importImage', image: string, path: string): Promise<number> {
    return this.#client.call<number>(call, image, path)
  }

  rbd(verb: 'export' | 'import', from: string, to: string): Promise<number> {
    return this.#run('rbd', verb, '--no-progress', from, to)
  }

  qemuImg(from: string, to: string): Promise<number> {
    return this.#run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', from, to)
  }

  async #run(program: string, ...args: string[]): Promise<number> {
    const { cephConf, signal } = this.#context
    const start = performance.now()
    // In a group of its own, so that Ctrl-C does not end it with the image open.
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, CEPH_CONF: cephConf },
      detached: true,
    })
    const [said, [status]] = await Promise.all([text(child.stderr), once(child, 'close')])
    const took = performance.now() - start
    if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${said.trim()}`)
    signal.throwIfAborted()
    return took
  }
}
