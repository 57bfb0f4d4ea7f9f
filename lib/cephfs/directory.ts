import type { CallOptions } from '../call.js'
import { checkOneOf, checkOptions } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { DirectoryEntryType, DirectoryHandle, NativeDirectoryEntry } from './bindings.js'
import type { Calls } from './calls.js'

export interface NameOptions extends CallOptions {
  /** `buffer` for names that may be no UTF-8; with `utf8`, such a name is a CephError (EILSEQ). Default: `utf8`. */
  encoding?: 'utf8' | 'buffer' | undefined
}

/** Of the options that such a method has besides those of every call. */
export const nameOptions = ['encoding']

/** Takes the encoding out of the options. */
export function nameArguments(options: NameOptions): { asBuffer: boolean; callOptions: CallOptions } {
  checkOptions(options, nameOptions)
  const { encoding = 'utf8', ...callOptions } = options
  return { asBuffer: checkOneOf('encoding', encoding, ['utf8', 'buffer']) === 'buffer', callOptions }
}

/** How many entries one native call fetches. */
const entriesPerBatch = 1000

/** By the names of `fs.Dirent`. */
export class DirectoryEntry<Name extends string | Buffer = string> {
  readonly name: Name
  readonly type: DirectoryEntryType

  /** @internal */
  constructor(entry: NativeDirectoryEntry) {
    this.name = entry.name as Name
    this.type = entry.type
  }

  isFile(): boolean {
    return this.type === 'file'
  }

  isDirectory(): boolean {
    return this.type === 'directory'
  }

  isSymbolicLink(): boolean {
    return this.type === 'symbolicLink'
  }
}

/**
 * A directory that is open for reading: `for await` gives its entries, without `.` and `..`, in no order, a batch of them at a
 * time, and closes it at the end. What is made or removed meanwhile may be among them or not.
 */
export class Directory<Name extends string | Buffer = string> implements AsyncDisposable {
  readonly path: string
  readonly #handle: DirectoryHandle
  readonly #resource: Resource
  readonly #calls: Calls
  readonly #asBuffer: boolean

  /** @internal */
  constructor(handle: DirectoryHandle, resource: Resource, calls: Calls, asBuffer: boolean) {
    this.path = resource.name
    this.#handle = handle
    this.#resource = resource
    this.#calls = calls.of(handle)
    this.#asBuffer = asBuffer
  }

  get closed(): boolean {
    return this.#calls.closed
  }

  /**
   * The next entries, at most 1,000; none at the end. Where it fails, by an abort too, the directory is closed: nobody knows
   * how far it has been read.
   *
   * @throws {TimeoutError} no answer in time
   *
   * @implements ceph_readdir_r
   */
  async readBatch(options: CallOptions = {}): Promise<DirectoryEntry<Name>[]> {
    let isBegun = false
    try {
      const entries = await this.#calls.call(this.#resource, options, token => {
        isBegun = true
        return native.directoryRead(this.#handle, entriesPerBatch, this.#asBuffer, token)
      })
      return entries.map(entry => new DirectoryEntry<Name>(entry))
    } catch (error) {
      // Unheard, as what it was that failed says more.
      if (isBegun) this.close().catch(() => {})
      throw error
    }
  }

  /** The entries that have not been read yet. Closes the directory, at the end or whenever its reader leaves. */
  async *entries(options: CallOptions = {}): AsyncGenerator<DirectoryEntry<Name>, void, undefined> {
    try {
      for (;;) {
        const batch = await this.readBatch(options)
        yield* batch
        if (batch.length < entriesPerBatch) return
      }
    } finally {
      await this.close()
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<DirectoryEntry<Name>, void, undefined> {
    return this.entries()
  }

  /** Safe to call again. @throws {TimeoutError} not in time: it goes on unheard @implements ceph_closedir */
  async close(): Promise<void> {
    await this.#calls.close(this.#resource)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
