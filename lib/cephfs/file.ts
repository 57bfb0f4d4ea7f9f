import { constants } from 'node:fs'
import type { AbortToken } from '../bindings.js'
import type { CallOptions } from '../call.js'
import { checkBytes, checkData, checkInteger, checkOptions, checkView, wrongValue } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Bytes } from '../rados/write-operation.js'
import { MiB } from '../units.js'
import type { FileHandle } from './bindings.js'
import type { Calls } from './calls.js'
import { FileStat } from './stat.js'

/** As Node's `fs.open()` has them. */
const flagsByName = {
  r: constants.O_RDONLY,
  'r+': constants.O_RDWR,
  w: constants.O_TRUNC | constants.O_CREAT | constants.O_WRONLY,
  wx: constants.O_TRUNC | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  'w+': constants.O_TRUNC | constants.O_CREAT | constants.O_RDWR,
  'wx+': constants.O_TRUNC | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
  a: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY,
  ax: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  'a+': constants.O_APPEND | constants.O_CREAT | constants.O_RDWR,
  'ax+': constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
}
/** By name, or the bits of `fs.constants`, such as O_NOFOLLOW. */
export type OpenFlags = keyof typeof flagsByName | number

/** @internal */
export function checkFlags(argument: string, value: unknown): number {
  if (typeof value === 'number') return checkInteger(argument, value, 0, 2 ** 31 - 1)
  const bits = Object.hasOwn(flagsByName, String(value)) ? flagsByName[value as keyof typeof flagsByName] : undefined
  if (typeof value !== 'string' || bits === undefined)
    throw wrongValue(argument, `a number, or one of ${Object.keys(flagsByName).join(', ')}`, value)
  return bits
}

/** Whether a file that is opened so may be changed by it. @internal */
export function changes(flags: number): boolean {
  const { O_ACCMODE = 3 } = constants as { O_ACCMODE?: number }
  return (flags & O_ACCMODE) !== constants.O_RDONLY || (flags & (constants.O_CREAT | constants.O_TRUNC)) !== 0
}

export interface ReadOptions extends CallOptions {
  /** Where in the buffer the first byte goes. Default: 0. */
  offset?: number | undefined
  /** In bytes. Default: to the end of the buffer. */
  length?: number | undefined
  /**
   * Where in the file, in bytes. Default, or null: where the last read or write without a position ended; such calls must be
   * made one after the other.
   */
  position?: number | null | undefined
}

/** How much is read or written by one call of libcephfs, in bytes: what is copied at once. @internal */
export const bytesAtOnce = 8 * MiB

/** libcephfs' word for the file's own position. */
const ownPosition = -1

/**
 * An open file, by the names of `fs.promises.FileHandle`. Data is copied on its way to libcephfs and back, so a buffer is
 * its owner's again as soon as a call has settled, be it by an abort.
 */
export class File implements AsyncDisposable {
  readonly path: string
  readonly #handle: FileHandle
  readonly #resource: Resource
  readonly #calls: Calls

  /** @internal */
  constructor(handle: FileHandle, resource: Resource, calls: Calls) {
    this.path = resource.name
    this.#handle = handle
    this.#resource = resource
    this.#calls = calls.of(handle)
  }

  get closed(): boolean {
    return this.#calls.closed
  }

  /**
   * Reads into a buffer. There is less than asked for at the end of the file, and where that is much (8 MiB) perhaps before:
   * nothing is read at the end only.
   *
   * @throws {InvalidArgumentError} not opened for reading
   * @throws {TimeoutError} no answer in time
   *
   * @implements ceph_read
   */
  async read<B extends NodeJS.ArrayBufferView>(
    buffer: B,
    options: ReadOptions = {},
  ): Promise<{ bytesRead: number; buffer: B }> {
    const { bytes, position, callOptions } = ioArguments(checkView('buffer', buffer), options)
    const length = Math.min(bytes.length, bytesAtOnce)
    const data = await this.#call(callOptions, token => native.fileRead(this.#handle, length, position, token))
    bytes.set(data)
    return { bytesRead: data.length, buffer }
  }

  /**
   * Writes all of it, or of a part of the buffer. It is in libcephfs's cache then, for other clients to see;
   * `sync()` makes it safe.
   *
   * @param data - Bytes, or text that becomes UTF-8.
   * @throws {QuotaExceededError} a quota of a directory above does not allow it; what came before may be written
   * @throws {InvalidArgumentError} not opened for writing, or larger than the file system's files may be
   * @throws {TimeoutError} no answer in time; what came before is written, and the rest may be
   *
   * @implements ceph_write
   */
  async write(data: Bytes | NodeJS.ArrayBufferView, options: ReadOptions = {}): Promise<{ bytesWritten: number }> {
    const view = typeof data === 'string' ? checkData('data', data) : checkView('data', data)
    const { bytes, position, callOptions } = ioArguments(view, options)
    // Of memory that is transferred away meanwhile it would be 0: there is an exception then, and not a shorter file.
    const { length } = bytes
    let done = 0
    do {
      const part = bytes.subarray(done, done + bytesAtOnce)
      const at = position === ownPosition ? ownPosition : position + done
      done += await this.#call(callOptions, token => native.fileWrite(this.#handle, part, at, token))
    } while (done < length)
    return { bytesWritten: done }
  }

  /**
   * Returns when what was written is safe, and so is what is known of the file.
   *
   * @throws {CephError} a write that had seemed to succeed did not: with its own code, such as ENOSPC
   * @throws {TimeoutError} no answer in time
   *
   * @implements ceph_fsync
   */
  async sync(options: CallOptions = {}): Promise<void> {
    await this.#call(options, token => native.fileSync(this.#handle, false, token))
  }

  /** As `sync()`, but of what is known of the file only what its data needs. */
  async datasync(options: CallOptions = {}): Promise<void> {
    await this.#call(options, token => native.fileSync(this.#handle, true, token))
  }

  /** @throws {TimeoutError} no answer in time @implements ceph_fstatx */
  async stat(options: CallOptions = {}): Promise<FileStat> {
    return new FileStat(await this.#call(options, token => native.fileStat(this.#handle, token)))
  }

  /**
   * Makes the file shorter, or longer by a hole.
   *
   * @param size - In bytes.
   * @throws {InvalidArgumentError} not opened for writing, or larger than the file system's files may be
   * @throws {QuotaExceededError} a quota of a directory above does not allow it
   *
   * @implements ceph_ftruncate
   */
  async truncate(size = 0, options: CallOptions = {}): Promise<void> {
    checkBytes('size', size)
    await this.#call(options, token => native.fileTruncate(this.#handle, size, token))
  }

  /**
   * Closes the file after its calls in flight. What was written may be in libcephfs's cache still, and an error of writing it is
   * told by `sync()` only. Safe to call again.
   *
   * @throws {TimeoutError} not in time: it goes on unheard
   *
   * @implements ceph_close
   */
  async close(): Promise<void> {
    await this.#calls.close(this.#resource)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #call<T>(options: CallOptions, start: (token: AbortToken) => Promise<T>): Promise<T> {
    return this.#calls.call(this.#resource, options, start)
  }
}

/** The part of the buffer that is meant, and where in the file. */
function ioArguments(view: NodeJS.ArrayBufferView, options: ReadOptions) {
  checkOptions(options, ['offset', 'length', 'position'])
  const { offset = 0, length, position = null, ...callOptions } = options
  checkInteger('offset', offset, 0, view.byteLength)
  const rest = view.byteLength - offset
  if (length !== undefined) checkInteger('length', length, 0, rest)
  return {
    bytes: new Uint8Array(view.buffer, view.byteOffset + offset, length ?? rest),
    position: position === null ? ownPosition : checkBytes('position', position),
    callOptions,
  }
}
