/** What an image is made of: a file of this machine, or one behind a URL, in raw format or in qcow2. */
import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { checkText, wrongValue } from '../../lib/check.js'
import type { ProgressOptions } from '../../lib/index.js'
import { JobError } from '../errors.js'
import { download, isUrl, publicUrl } from './download.js'

/** In hexadecimal digits, of the file as it is: not of what is in a qcow2 file. */
export interface Checksums {
  sha256?: string | undefined
  sha512?: string | undefined
}

const algorithms = ['sha256', 'sha512'] as const
const hexDigits = { sha256: 64, sha512: 128 }

/** As the record has them: in lower case. */
export function normalChecksums(given: Checksums): Checksums {
  const normal: Checksums = {}
  for (const algorithm of algorithms) {
    if (given[algorithm] === undefined) continue
    const sum = checkText(algorithm, given[algorithm]).toLowerCase()
    if (sum.length !== hexDigits[algorithm] || !/^[0-9a-f]*$/.test(sum)) {
      throw wrongValue(algorithm, `${hexDigits[algorithm]} hexadecimal digits`, sum)
    }
    normal[algorithm] = sum
  }
  return normal
}

/** In bytes: what is read of a file at a time. */
const readBytes = 2 ** 20

interface Opened {
  size: number | undefined
  rest: AsyncIterator<Uint8Array, void, undefined>
  /** Of this machine; a download has none. */
  file?: FileHandle
  /** Ends it, also while bytes are being waited for. */
  stop?: () => void
}

export class Origin implements AsyncDisposable {
  /** Where it comes from, for people; nothing secret is in it. */
  readonly name: string
  /** Of the file, in bytes; undefined while a server does not say. */
  readonly size: number | undefined
  readonly format: 'raw' | 'qcow2'
  readonly #opened: Opened
  readonly #head: Uint8Array[]

  private constructor(name: string, opened: Opened, head: Uint8Array[]) {
    this.name = name
    this.size = opened.size
    this.#opened = opened
    this.#head = head
    this.format = formatOf(name, Buffer.concat(head))
  }

  /** @param source - The path of a file, or an http(s) URL. */
  static async open(source: string, signal?: AbortSignal): Promise<Origin> {
    const scheme = /^([a-z][a-z\d+.-]*):\/\//i.exec(source)?.[1]
    // Before it is taken for a path, which an error shows.
    if (scheme !== undefined && !isUrl(source)) throw new Error(`only http and https URLs, and not ${scheme}`)
    const opened = isUrl(source) ? await openUrl(source, signal) : await openFile(source)
    try {
      const head: Uint8Array[] = []
      for (let length = 0; length < headBytes; ) {
        const { value, done } = await opened.rest.next()
        if (done) break
        head.push(value)
        length += value.length
      }
      return new Origin(isUrl(source) ? publicUrl(source) : resolve(source), opened, head)
    } catch (error) {
      await close(opened)
      throw error
    }
  }

  /**
   * Its bytes, which can be read once. Reading fails in the end if they are not those of the checksums.
   *
   * @param sums - What is expected; the SHA-256 is written to it.
   */
  async *bytes(sums: Checksums, { signal, onProgress }: ProgressOptions): AsyncGenerator<Buffer, void, undefined> {
    const wanted = algorithms.filter(algorithm => algorithm === 'sha256' || sums[algorithm] !== undefined)
    const hashes = wanted.map(algorithm => ({ algorithm, hash: createHash(algorithm) }))
    let done = 0
    for await (const chunk of this.#all()) {
      signal?.throwIfAborted()
      for (const { hash } of hashes) hash.update(chunk)
      done += chunk.length
      onProgress?.(done, this.size ?? done)
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    }
    for (const { algorithm, hash } of hashes) {
      const sum = hash.digest('hex')
      const expected = sums[algorithm]
      if (expected !== undefined && expected !== sum) {
        throw new JobError('CHECKSUM_MISMATCH', `the ${algorithm} of ${this.name} is ${sum}, and not ${expected}`)
      }
      sums[algorithm] = sum
    }
  }

  async *#all(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#head
    yield* { [Symbol.asyncIterator]: () => this.#opened.rest }
  }

  /**
   * The same as a file that has the checksums, while it is used: a program can open it by its path.
   *
   * @param sums - As with `bytes()`.
   */
  async asFile(sums: Checksums, options: ProgressOptions, use: (path: string) => Promise<void>): Promise<void> {
    const { file } = this.#opened
    if (file === undefined) return this.#asDownload(sums, options, use)
    const before = await file.stat()
    for await (const _ of this.bytes(sums, options));
    await this.#use(file, use)
    const after = await file.stat()
    if (before.mtimeMs !== after.mtimeMs || before.size !== after.size) {
      throw new Error(`${this.name} was written to while it was read`)
    }
  }

  async #asDownload(sums: Checksums, options: ProgressOptions, use: (path: string) => Promise<void>): Promise<void> {
    await using file = await temporaryFile(this.size)
    for await (const chunk of this.bytes(sums, options)) await writeAll(file, chunk)
    await this.#use(file, use)
  }

  /** By a path that leads to this very file, whatever its name leads to by now; what fails tells of the name. */
  async #use({ fd }: FileHandle, use: (path: string) => Promise<void>): Promise<void> {
    const path = `/proc/${process.pid}/fd/${fd}`
    try {
      await use(path)
    } catch (error) {
      if (error instanceof Error) error.message = error.message.replaceAll(path, this.name)
      throw error
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return close(this.#opened)
  }
}

async function close({ rest, file, stop }: Opened): Promise<void> {
  stop?.()
  // A download that is stopped may fail with that.
  await rest.return?.().catch(() => {})
  await file?.close()
}

async function openFile(path: string): Promise<Opened> {
  // A pipe that nobody writes to would have it wait for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const stat = await file.stat()
  if (!stat.isFile()) {
    await file.close()
    throw new Error(`${path} is no image: it must be a file, and not empty`)
  }
  return { size: stat.size, rest: chunksOf(file, stat.size), file }
}

/** As much as there was at the beginning; a file that is still being written is none to be taken. */
async function* chunksOf(file: FileHandle, size: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < size; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(readBytes), 0, Math.min(readBytes, size - at), at)
    if (bytesRead === 0) throw new Error('the file became shorter while it was read')
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

async function openUrl(url: string, signal: AbortSignal | undefined): Promise<Opened> {
  const { size, bytes, stop } = await download(url, signal)
  return { size, rest: bytes, stop }
}

/** As long as the longest beginning of those below. */
const headBytes = 8

/** How files begin that are images, or have one in them, and that are not taken; and those which often come instead. */
const otherFormats: readonly (readonly [beginning: string, what: string])[] = [
  ['\x1f\x8b', 'a gzip file: unpack it first'],
  ['\xfd7zXZ\0', 'an xz file: unpack it first'],
  ['\x28\xb5\x2f\xfd', 'a zstd file: unpack it first'],
  ['BZh', 'a bzip2 file: unpack it first'],
  ['PK\x03\x04', 'a zip file: unpack it first'],
  ['KDMV', 'in the format vmdk: have qemu-img convert it first'],
  ['vhdxfile', 'in the format vhdx: have qemu-img convert it first'],
  ['conectix', 'in the format vpc: have qemu-img convert it first'],
  ['<<< ', 'in the format vdi: have qemu-img convert it first'],
  ['<!DOCTYP', 'a web page'],
  ['<!doctyp', 'a web page'],
]

function formatOf(name: string, head: Buffer): 'raw' | 'qcow2' {
  if (head.length === 0) throw new Error(`${name} is no image: it must be a file, and not empty`)
  const beginning = head.toString('latin1', 0, headBytes)
  const other = otherFormats.find(([start]) => beginning.startsWith(start))
  if (other) throw new Error(`${name} is no raw or qcow2 image, but ${other[1]}`)
  return beginning.startsWith('QFI\xfb') ? 'qcow2' : 'raw'
}

/** Without a name: however this process ends, nothing is left of it. */
async function temporaryFile(size = 0): Promise<FileHandle> {
  const folder = tmpdir()
  const { bavail, bsize } = await statfs(folder)
  if (bavail * bsize < size) {
    throw new Error(`${folder} (TMPDIR) has ${bavail * bsize} bytes of space, and the download needs ${size}`)
  }
  const path = join(folder, `cephkit-${randomUUID()}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}

async function writeAll(file: FileHandle, data: Buffer): Promise<void> {
  for (let written = 0; written < data.length; ) written += (await file.write(data, written)).bytesWritten
}
