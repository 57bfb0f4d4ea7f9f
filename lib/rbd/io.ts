/** The data of an image: what of `Image` is I/O. */

import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkBoolean, checkBytes, checkInteger, checkOneOf, checkView, outOfRange, wrongType } from '../check.js'
import { MismatchError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { ImageHandle } from './bindings.js'

/** LIBRADOS_OP_FLAG_FADVISE_* */
const fadviseFlags = { random: 0x4, sequential: 0x8, willneed: 0x10, dontneed: 0x20, nocache: 0x40, fua: 0x80 }
const fadviseNames = Object.keys(fadviseFlags) as Fadvise[]

/** What is known of how the data will be used, for the caches of librbd and of the OSDs: as in posix_fadvise(2). */
export type Fadvise = keyof typeof fadviseFlags

export interface IoOptions extends CallOptions {
  /** Default: none. With `fua`, a write resolves when it is safe in the cluster, and not before. */
  fadvise?: readonly Fadvise[] | undefined
}

export interface WriteZeroesOptions extends IoOptions {
  /** Write zeroes, and so take the space, instead of giving it back. Default: false. */
  thickProvision?: boolean | undefined
}

/** RBD_WRITE_ZEROES_FLAG_THICK_PROVISION */
const thickProvisionFlag = 1

const sector = 512

/** What `writeSame()` has librbd repeat is as long: where an object is no multiple of it, librbd does so in memory, bit by bit. */
const repeatedBytes = 64 * 1024

/** What fits into the int that librbd returns; more is a RangeError. */
const maxIoBytes = 2 ** 31 - 4096

/** Reading and writing: at most 2^31 - 4096 bytes in one call, the range of a `writeSame()` included. */
export abstract class ImageIo {
  /** @internal */
  readonly handle: ImageHandle
  /** `rbd/tenant-a/vm-1`, or `rbd/golden@base`. */
  readonly path: string
  /** @internal */
  readonly resource: Resource

  /** @internal */
  constructor(handle: ImageHandle, path: string) {
    this.handle = handle
    this.path = path
    this.resource = { kind: 'image', name: path }
  }

  /**
   * Reads into a new buffer, or into a given one. There is less than asked for where the image ends: the new buffer is
   * shorter then, and of the given one the end is left as it is. A given one is librbd's until the call has settled, and
   * an abort does not end that.
   *
   * @param offset - In bytes.
   * @param length - In bytes.
   * @param buffer - The buffer to fill.
   * @returns The new buffer, or how many bytes of the given one were filled.
   * @throws {InvalidArgumentError} the offset is at the end of the image, or beyond
   *
   * @implements rbd_aio_read2
   */
  read(offset: number, length: number, options?: IoOptions): Promise<Buffer>
  read(offset: number, buffer: NodeJS.ArrayBufferView, options?: IoOptions): Promise<number>
  read(offset: number, target: number | NodeJS.ArrayBufferView, options?: IoOptions): Promise<Buffer | number> {
    return typeof target === 'number' ? this.#readNew(offset, target, options) : this.#readInto(offset, target, options)
  }

  async #readNew(offset: number, length: number, options: IoOptions | undefined): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(checkInteger('length', length, 0, maxIoBytes))
    const count = await this.#readInto(offset, buffer, options)
    return count === length ? buffer : buffer.subarray(0, count)
  }

  #readInto(offset: number, buffer: NodeJS.ArrayBufferView, options: IoOptions | undefined): Promise<number> {
    return this.#io(options, (flags, token) => {
      const bytes = checkBuffer('buffer', buffer)
      return native.imageRead(this.handle, endOf(offset, bytes.length), offset, bytes, flags, token)
    })
  }

  /**
   * Reads one stretch of the image into several buffers, one after the other. They are librbd's until the call has
   * settled, and an abort does not end that.
   *
   * @param offset - In bytes.
   * @returns How many bytes were filled: less than there is room for where the image ends.
   * @throws {InvalidArgumentError} the offset is at the end of the image, or beyond
   *
   * @implements rbd_aio_readv
   */
  readv(offset: number, buffers: readonly NodeJS.ArrayBufferView[], options?: CallOptions): Promise<number> {
    return call(this.resource, options, token => {
      const { parts, length } = checkBuffers('buffers', buffers)
      return native.imageReadv(this.handle, endOf(offset, length), offset, parts, token)
    })
  }

  /**
   * Writes. Resolves when librbd has the data, which may be in its cache: it is safe after `flush()`, or `close()`. So it is
   * with all that writes. Until the first `flush()` it is safe at once. A write that fails after it has resolved, librbd 16.2
   * tells to a `flush()` that is begun before that, and to nobody else; `fua` is for who must know. Of what is written to one
   * place without awaiting the one before, librbd does not say what comes last. The data must not be changed until this has
   * settled, and an abort does not end that.
   *
   * @param offset - In bytes.
   * @throws {InvalidArgumentError} it goes beyond the end of the image: nothing is written
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_write2
   */
  write(offset: number, data: NodeJS.ArrayBufferView, options?: IoOptions): Promise<void> {
    return this.#io(options, (flags, token) => {
      const bytes = checkBuffer('data', data)
      return native.imageWrite(this.handle, endOf(offset, bytes.length), offset, bytes, flags, token)
    })
  }

  /**
   * Writes several buffers, one after the other, as one stretch of the image. They must not be changed until this has
   * settled, and an abort does not end that.
   *
   * @param offset - In bytes.
   * @throws {InvalidArgumentError} it goes beyond the end of the image: nothing is written
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_writev
   */
  writev(offset: number, data: readonly NodeJS.ArrayBufferView[], options?: CallOptions): Promise<void> {
    return call(this.resource, options, token => {
      const { parts, length } = checkBuffers('data', data)
      return native.imageWritev(this.handle, endOf(offset, length), offset, parts, token)
    })
  }

  /**
   * Gives a range back: it reads as zeroes then, or as the parent's data where librbd finds that cheaper. That is so of
   * whole multiples of `rbd_discard_granularity_bytes` (64 KiB by default) in each object; what the range has of others
   * stays as it is. What lies beyond the end of the image is left out. Where an encryption is loaded, nothing is given back:
   * librbd writes zeroes, encrypted.
   *
   * @param offset - In bytes.
   * @param length - In bytes.
   * @throws {InvalidArgumentError} the offset is at the end of the image, or beyond
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_discard
   */
  discard(offset: number, length: number, options?: CallOptions): Promise<void> {
    return call(this.resource, options, token => {
      const end = endOf(offset, checkBytes('length', length))
      return native.imageDiscard(this.handle, end, offset, length, token)
    })
  }

  /**
   * Makes a range read as zeroes, to the byte, and gives back its space unless told otherwise, or an encryption is loaded.
   * With `thickProvision`, what is no whole sector of 512 bytes at its ends is written apart: a failure can leave a part of the
   * range as it was. librbd knows no zeroes that are safe at once: `fua` is for those written apart only.
   *
   * @param offset - In bytes.
   * @param length - In bytes.
   * @throws {InvalidArgumentError} it goes beyond the end of the image: nothing is written
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_write_zeroes
   */
  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Promise<void> {
    const isBetween = isBetweenSectors(offset) || isBetweenSectors(length)
    if (options?.thickProvision === true && isBetween && length !== 0) {
      return this.#writeZeroesInPieces(offset, length, options)
    }
    const start = (flags: number, token: AbortToken | undefined) => {
      const { thickProvision = false } = options ?? {}
      // librbd takes a flag for whole sectors only; nothing is no part of one.
      const zeroFlags = checkBoolean('thickProvision', thickProvision) && length !== 0 ? thickProvisionFlag : 0
      const end = endOf(offset, checkBytes('length', length))
      return native.imageWriteZeroes(this.handle, end, offset, length, zeroFlags, flags, token)
    }
    return this.#io(options, start, ['fadvise', 'thickProvision'])
  }

  /**
   * librbd 16.2 would cut off what is no whole sector itself, and wait for ever where a snapshot is made in between. Begins
   * with the end, where it turns out whether the range is within the image.
   */
  async #writeZeroesInPieces(offset: number, length: number, options: WriteZeroesOptions): Promise<void> {
    const end = endOf(checkBytes('offset', offset), checkBytes('length', length))
    const first = Math.min(end, Math.ceil(offset / sector) * sector)
    const last = Math.max(first, Math.floor(end / sector) * sector)
    const { thickProvision, ...writeOptions } = options
    if (last < end) await this.write(last, Buffer.alloc(end - last), writeOptions)
    if (first < last) await this.writeZeroes(first, last - first, options)
    if (offset < first) await this.write(offset, Buffer.alloc(first - offset), writeOptions)
  }

  /**
   * Writes the same data again and again, until the range is full. Of a length that is a power of two, at most 64 KiB of it go
   * to the OSDs for an object, unless an encryption is loaded. The data must not be changed until this has settled, and an abort
   * does not end that. Where the range is no multiple of as much of it as fits into 64 KiB, its end is written apart: a failure
   * can leave a part of the range as it was.
   *
   * @param offset - In bytes.
   * @param length - Of the range in bytes: a multiple of the data's.
   * @throws {InvalidArgumentError} it goes beyond the end of the image: nothing is written
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_writesame
   */
  async writeSame(offset: number, length: number, data: NodeJS.ArrayBufferView, options?: IoOptions): Promise<void> {
    const end = endOf(offset, checkInteger('length', length, 0, maxIoBytes))
    const unit = checkSome('data', data)
    if (length % unit.length !== 0)
      throw outOfRange('length', `a multiple of the length of data, ${unit.length}`, length)
    const repeated = repeat(unit, Math.min(repeatedBytes, length))
    const last = end - (length % repeated.length)
    // Begins with the end, where it turns out whether the range is within the image.
    if (last < end) await this.write(last, repeated.subarray(0, end - last), options)
    await this.#io(options, (flags, token) =>
      native.imageWriteSame(this.handle, last, offset, last - offset, repeated, flags, token),
    )
  }

  /**
   * Writes if the image has there what is expected, in one step that nothing comes between. Neither may be changed until
   * this has settled, and an abort does not end that.
   *
   * @param offset - In bytes.
   * @param expected - As long as the data.
   * @throws {MismatchError} it has something else there: nothing is written
   * @throws {InvalidArgumentError} it goes beyond the end of the image, or is not within 512 bytes of it that begin at a
   *   multiple of 512
   * @throws {NotSupportedError} more than 256 bytes, and the image has stripes of 512
   * @throws {ReadOnlyImageError} opened read-only; or another client keeps the exclusive lock
   *
   * @implements rbd_aio_compare_and_write
   */
  async compareAndWrite(
    offset: number,
    expected: NodeJS.ArrayBufferView,
    data: NodeJS.ArrayBufferView,
    options?: IoOptions,
  ): Promise<void> {
    const mismatch = await this.#io(options, (flags, token) => {
      const old = checkSome('expected', expected)
      const bytes = checkBuffer('data', data)
      if (bytes.length !== old.length) throw outOfRange('data', `as long as expected, ${old.length} bytes`, data)
      return native.imageCompareAndWrite(this.handle, endOf(offset, old.length), offset, old, bytes, flags, token)
    })
    if (mismatch !== null) throw new MismatchError(mismatch, this.resource)
  }

  /**
   * Waits until all writes that have resolved are safe in the cluster. Rejects where one fails meanwhile; of one that has
   * failed since it resolved, and before this was called, librbd 16.2 does not tell.
   *
   * @implements rbd_aio_flush
   */
  flush(options?: CallOptions): Promise<void> {
    return call(this.resource, options, token => native.imageFlush(this.handle, token))
  }

  /** Drops librbd's cache of the image, after writing what is in it. @implements rbd_invalidate_cache */
  invalidateCache(options?: CallOptions): Promise<void> {
    return call(this.resource, options, token => native.imageInvalidateCache(this.handle, token))
  }

  /**
   * All of it is one call, and so one promise, because these are called a hundred thousand times a second: `start` checks
   * its arguments, and what it throws becomes a rejection.
   */
  #io<T>(
    options: IoOptions | undefined,
    start: (flags: number, token: AbortToken | undefined) => Promise<T>,
    own = ownOptions,
  ): Promise<T> {
    return call(this.resource, options, token => start(fadviseOf(options), token), own)
  }

  /** After whatever may have made the image smaller, or larger. @internal */
  forgetSize(): void {
    native.imageForgetSize(this.handle)
  }
}

const ownOptions: readonly string[] = ['fadvise']

function fadviseOf(options: IoOptions | undefined): number {
  const names = options?.fadvise
  if (names === undefined) return 0
  if (!Array.isArray(names)) throw wrongType('fadvise', 'an array', names)
  const flags = Array.from(names, name => fadviseFlags[checkOneOf('a member of fadvise', name, fadviseNames)])
  return flags.reduce((all, flag) => all | flag, 0)
}

/** What is no number at all is for the checks. */
function isBetweenSectors(bytes: unknown): boolean {
  return Number.isSafeInteger(bytes) && (bytes as number) % sector !== 0
}

/** Where a range ends, which must be a number too. */
function endOf(offset: number, length: number): number {
  return checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER - length) + length
}

function checkBuffer(argument: string, value: unknown): Uint8Array {
  const bytes = checkView(argument, value)
  checkLength(argument, bytes.length)
  return bytes
}

function checkSome(argument: string, value: unknown): Uint8Array {
  const bytes = checkBuffer(argument, value)
  if (bytes.length === 0) throw outOfRange(argument, 'at least one byte long', value)
  return bytes
}

function checkBuffers(argument: string, value: unknown): { parts: Uint8Array[]; length: number } {
  if (!Array.isArray(value)) throw wrongType(argument, 'an array of Buffers, TypedArrays and DataViews', value)
  const parts = Array.from(value, view => checkView(`a member of ${argument}`, view))
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  checkLength(argument, length)
  return { parts, length }
}

function checkLength(argument: string, length: number): void {
  if (length > maxIoBytes) throw outOfRange(argument, `at most ${maxIoBytes} bytes long`, length)
}

/** As often as it fits into so many bytes, and once at least. */
function repeat(data: Uint8Array, most: number): Uint8Array {
  const times = Math.floor(most / data.length)
  return times > 1 ? Buffer.alloc(times * data.length, data) : data
}
