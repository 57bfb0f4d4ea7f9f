/**
 * tgtd's control socket, as tgtadm speaks it: one request a connection, a `struct tgtadm_req` with parameters after it, and
 * a `struct tgtadm_rsp` with text after it. It has been the same since 2012 (tgt 1.0.30).
 *
 * tgtadm itself takes passwords as arguments, which everybody on the machine can read while it runs; and it gives each
 * failure the same exit status.
 */
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { endianness } from 'node:os'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { withTimeLimit } from '../time-limit.js'
import {
  TargetRefusedError,
  TargetServiceDeniedError,
  TargetServiceDownError,
  TargetServiceSilentError,
} from './errors.js'

const modes = ['system', 'target', 'device', 'portal', 'driver', 'session', 'connection', 'account'] as const
const operations = ['new', 'delete', 'show', 'bind', 'unbind', 'update'] as const

export interface TgtRequest {
  mode: (typeof modes)[number]
  operation: (typeof operations)[number]
  /** Absent: all targets. */
  tid?: number
  lun?: number
  session?: number
  connection?: number
  /** Of an account: that it is for the target to show. */
  outgoing?: boolean
  /** Such as `targetname=iqn…`. */
  parameters?: string
  /** Default: `answerMs`. */
  limitMs?: number
}

/** What tgtd says when it refuses, by its number. */
const refusals = [
  undefined,
  'unknown',
  'no memory',
  'no driver',
  'no target',
  'no unit',
  'no session',
  'no connection',
  'no binding',
  'target exists',
  'unit exists',
  'binding exists',
  'rule exists',
  'no rule',
  'account exists',
  'no account',
  'too many accounts',
  'invalid',
  'outgoing account exists',
  'target active',
  'unit active',
  'driver active',
  'unsupported',
  'unknown parameter',
  'removal prevented',
] as const

export type Refusal = NonNullable<(typeof refusals)[number]>

export class TgtRefusedError extends TargetRefusedError {
  readonly refusal: Refusal

  /** It has no parameters in it: there can be a password among them. */
  constructor({ mode, operation }: TgtRequest, refusal: Refusal) {
    super(`tgtd refused: ${operation} ${mode}: ${refusal}`)
    this.refusal = refusal
  }
}

export function isRefusal(error: unknown, ...refusals: readonly Refusal[]): boolean {
  return error instanceof TgtRefusedError && refusals.includes(error.refusal)
}

export interface TgtAccess {
  /** Its path, without the control port. */
  socket: string
  controlPort: number
}

const lldBytes = 64
const requestBytes = 120
const responseBytes = 8
const allTargets = -1

/** It does so when it ends, and to those who are not of its own user. */
const unheard = 'has closed the connection without an answer'

const isLittleEndian = endianness() === 'LE'

/** Pauses before it is asked whether tgtd has died, in milliseconds. */
const deathMs = [0, 20, 200]

/** tgtd does one thing after the other, so a request waits for those of others. */
const answerMs = 15_000

export class TgtControl {
  /** The socket's path. */
  readonly path: string
  readonly #signal: AbortSignal

  /** @param signal - Ends all that is asked, and not yet answered. */
  constructor({ socket, controlPort }: TgtAccess, signal: AbortSignal) {
    this.path = `${socket}.${controlPort}`
    this.#signal = signal
  }

  /** Each tgtd makes the socket anew. */
  async life(): Promise<string | undefined> {
    try {
      const { ino, ctimeMs } = await stat(this.path)
      return `${ino} ${ctimeMs}`
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw new TargetServiceDeniedError(`${this.path} cannot be looked at: ${codeOf(error)}`, { cause: error })
    }
  }

  /**
   * Gives the text of the answer.
   *
   * @throws {TargetServiceDownError} no tgtd
   * @throws {TargetServiceSilentError} no answer in time, or none at all
   * @throws {TargetServiceDeniedError} the socket belongs to another user
   * @throws {TgtRefusedError}
   */
  async ask(request: TgtRequest): Promise<string> {
    const { limitMs = answerMs } = request
    return withTimeLimit(limitMs, this.#signal, limit => this.#askUntil(limit, request, limitMs))
  }

  async #askUntil(limit: AbortSignal, request: TgtRequest, limitMs: number): Promise<string> {
    const socket = connect({ path: this.path, signal: limit })
    try {
      return readAnswer(request, await this.#exchange(socket, encode(request)), this.path)
    } catch (error) {
      if (!limit.aborted) throw (await this.#hasDied(error)) ? this.#down(error) : error
      const why = this.#signal.aborted ? 'is not waited for any more' : `has not answered for ${limitMs / 1000} s`
      throw new TargetServiceSilentError(`tgtd at ${this.path} ${why}`, { cause: error })
    } finally {
      socket.destroy()
    }
  }

  async #exchange(socket: Socket, request: Buffer): Promise<Buffer> {
    try {
      await once(socket, 'connect')
      // Not ended: tgtd takes an end for a request that was given up.
      socket.write(request)
      return await buffer(socket)
    } catch (error) {
      throw this.#why(error)
    }
  }

  /** In the middle of the request. The sockets of a process that was killed are closed one after the other: it can still seem to listen. */
  async #hasDied(error: unknown): Promise<boolean> {
    if (!(error instanceof TargetServiceSilentError)) return false
    for (const pause of deathMs) {
      await delay(pause)
      if (await this.#isDown()) return true
    }
    return false
  }

  async #isDown(): Promise<boolean> {
    const socket = connect(this.path)
    try {
      await once(socket, 'connect')
      return false
    } catch (error) {
      return this.#why(error) instanceof TargetServiceDownError
    } finally {
      socket.destroy()
    }
  }

  #down(cause: unknown): TargetServiceDownError {
    return new TargetServiceDownError(`no tgtd at ${this.path}`, { cause })
  }

  #why(error: unknown): unknown {
    switch (codeOf(error)) {
      case 'ENOENT':
      case 'ECONNREFUSED':
        return this.#down(error)
      case 'ECONNRESET':
      case 'EPIPE':
        return new TargetServiceSilentError(`tgtd at ${this.path} ${unheard}`, { cause: error })
      case 'EACCES':
      case 'EPERM':
        return new TargetServiceDeniedError(`${this.path} belongs to another user`, { cause: error })
      default:
        return error
    }
  }
}

function encode({ mode, operation, tid, lun, session, connection, outgoing, parameters }: TgtRequest): Buffer {
  const text = parameters === undefined ? Buffer.alloc(0) : Buffer.from(`${parameters}\0`)
  const request = Buffer.alloc(requestBytes)
  const view = new DataView(request.buffer, request.byteOffset, requestBytes)
  view.setUint32(0, modes.indexOf(mode), isLittleEndian)
  view.setUint32(4, operations.indexOf(operation), isLittleEndian)
  request.write('iscsi', 8)
  const rest = 8 + lldBytes
  view.setUint32(rest, requestBytes + text.length, isLittleEndian)
  view.setInt32(rest + 4, tid ?? allTargets, isLittleEndian)
  view.setBigUint64(rest + 8, BigInt(session ?? 0), isLittleEndian)
  view.setBigUint64(rest + 16, BigInt(lun ?? 0), isLittleEndian)
  view.setUint32(rest + 24, connection ?? 0, isLittleEndian)
  view.setUint32(rest + 36, outgoing ? 1 : 0, isLittleEndian)
  return Buffer.concat([request, text])
}

function readAnswer(request: TgtRequest, answer: Buffer, path: string): string {
  if (answer.length < responseBytes) {
    throw new TargetServiceSilentError(`tgtd at ${path} ${unheard}`)
  }
  const view = new DataView(answer.buffer, answer.byteOffset, answer.length)
  const code = view.getUint32(0, isLittleEndian)
  const length = view.getUint32(4, isLittleEndian)
  if (code !== 0) throw new TgtRefusedError(request, refusals[code] ?? 'unknown')
  if (answer.length < length) throw new TargetServiceSilentError(`tgtd at ${path} ended in the middle of an answer`)
  return answer.toString('utf8', responseBytes, length).replace(/\0$/, '')
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}
