/** The lifecycle of an image by the `rbd` command, one process after the other. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import type { Latencies, Operation } from './lifecycle.js'

/** The processes that make up each operation: the command opens an image anew each time. */
const commands: Record<Operation, (image: string, golden: string) => string[][]> = {
  create: image => [['create', '--size', '1G', image]],
  resize: image => [['resize', '--no-progress', '--size', '2G', image]],
  snapshot: image => [
    ['snap', 'create', '--no-progress', `${image}@base`],
    ['snap', 'protect', `${image}@base`],
  ],
  dropSnapshot: image => [
    ['snap', 'unprotect', `${image}@base`],
    ['snap', 'rm', '--no-progress', `${image}@base`],
  ],
  clone: (image, golden) => [['clone', golden, `${image}-clone`]],
  dropClone: image => [['rm', '--no-progress', `${image}-clone`]],
  remove: image => [['rm', '--no-progress', image]],
}

export class RbdCommand {
  readonly name = 'rbd command'
  readonly #image: string
  readonly #golden: string
  readonly #cephConf: string
  readonly #signal: AbortSignal

  /** @param golden - The protected snapshot that clones are made of. */
  constructor(pool: string, golden: string, cephConf: string, signal: AbortSignal) {
    this.#image = `${pool}/rbd`
    this.#golden = `${pool}/${golden}`
    this.#cephConf = cephConf
    this.#signal = signal
  }

  async measure(operation: Operation): Promise<Latencies> {
    const start = performance.now()
    for (const args of commands[operation](this.#image, this.#golden)) await runRbd(args, this.#cephConf)
    const latenciesMs = [performance.now() - start]
    this.#signal.throwIfAborted()
    return { latenciesMs }
  }
}

export async function runRbd(args: string[], cephConf: string): Promise<void> {
  const env = { ...process.env, CEPH_CONF: cephConf }
  // In a group of its own, so that Ctrl-C does not end it with the image open.
  const rbd = spawn('rbd', args, { stdio: ['ignore', 'ignore', 'pipe'], env, detached: true })
  const [said, [status]] = await Promise.all([text(rbd.stderr), once(rbd, 'close')])
  if (status !== 0) throw new Error(`rbd ${args.join(' ')}: ${said.trim()}`)
}
