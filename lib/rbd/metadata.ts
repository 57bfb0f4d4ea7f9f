import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkKey, checkText } from '../check.js'
import type { Resource } from '../errors.js'

interface NativeMetadata {
  get(key: string, token?: AbortToken): Promise<string>
  set(key: string, value: string, token?: AbortToken): Promise<void>
  remove(key: string, token?: AbortToken): Promise<void>
  list(after: string, limit: number, token?: AbortToken): Promise<[string, string][]>
}

/** How many entries one native call fetches. */
const entriesPerPage = 64

/**
 * Keys and values that RBD keeps with an image or a pool. Both are text.
 */
export class Metadata {
  readonly #owner: string
  readonly #native: NativeMetadata
  readonly #checkThere: (options: CallOptions) => Promise<unknown>

  /** @internal @param checkThere - Of an image that was removed, librbd says only that it has no such key. */
  constructor(owner: string, native: NativeMetadata, checkThere: (options: CallOptions) => Promise<unknown>) {
    this.#owner = owner
    this.#native = native
    this.#checkThere = checkThere
  }

  #resource(key: string): Resource {
    return { kind: 'key', name: `${this.#owner}: ${key}` }
  }

  /**
   * The value, or undefined when there is no such key.
   *
   * @throws {ImageNotFoundError} the image was removed since it was opened
   *
   * @implements rbd_metadata_get rbd_pool_metadata_get
   */
  async get(key: string, options: CallOptions = {}): Promise<string | undefined> {
    checkKey('key', key)
    try {
      return await call(this.#resource(key), options, token => this.#native.get(key, token))
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT') throw error
      await this.#checkThere(options)
      return undefined
    }
  }

  /**
   * Sets a value. Under a key that begins with `conf_` it is a setting of RBD's, as `config` has them.
   *
   * @throws {InvalidArgumentError} it is no such setting, or cannot have that value
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_metadata_set rbd_pool_metadata_set
   */
  async set(key: string, value: string, options: CallOptions = {}): Promise<void> {
    checkKey('key', key)
    checkText('value', value)
    await call(this.#resource(key), options, token => this.#native.set(key, value, token))
  }

  /**
   * @throws {NotFoundError} there is no such key
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_metadata_remove rbd_pool_metadata_remove
   */
  async remove(key: string, options: CallOptions = {}): Promise<void> {
    checkKey('key', key)
    await call(this.#resource(key), options, token => this.#native.remove(key, token))
  }

  /**
   * All entries, in the order of the keys.
   *
   * @throws {ImageNotFoundError} the image was removed since it was opened
   *
   * @implements rbd_metadata_list rbd_pool_metadata_list
   */
  async *list(options: CallOptions = {}): AsyncGenerator<[key: string, value: string], void, undefined> {
    let after = ''
    for (;;) {
      const from = after
      const page = await call(this.#resource('*'), options, token => this.#native.list(from, entriesPerPage, token))
      if (page.length === 0) await this.#checkThere(options)
      yield* page
      if (page.length < entriesPerPage) return
      after = page[page.length - 1]?.[0] ?? ''
    }
  }
}
