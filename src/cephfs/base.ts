import { constants } from 'node:os'
import {
  BlocklistedError,
  ClosedError,
  type Cluster,
  type FileSystem,
  NotConnectedError,
  NotFoundError,
  TimeoutError,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import type { Logger } from '../log.js'
import { TenantBaseNotFoundError } from './errors.js'
import { Tenants } from './tenants.js'

export interface TenantBaseOptions {
  cluster: Cluster
  config: Pick<Config, 'cephfs'>
  log: Pick<Logger, 'warn' | 'info'>
}

/** Whoever this process is. */
const asRoot = { uid: 0, gid: 0 }

/**
 * The directory of the tenants, mounted on first use, and kept so. A mount that has died (an MDS has evicted it, because its host
 * stood still) is replaced by another one.
 */
export class TenantBase {
  readonly #options: TenantBaseOptions
  #mounting: Promise<FileSystem> | undefined
  #isClosed = false

  constructor(options: TenantBaseOptions) {
    this.#options = options
  }

  /**
   * @param work - What can be done again where it has been done in part.
   * @throws {TenantBaseNotFoundError}
   * @throws {ClosedError} from `close()` on, also where it was begun before
   * @throws {MissingLibraryError} libcephfs is not installed
   */
  use<T>(work: (tenants: Tenants) => Promise<T>): Promise<T> {
    return this.#use(work, false)
  }

  /** The same, and makes the directory of the tenants if there is none. */
  useOrMake<T>(work: (tenants: Tenants) => Promise<T>): Promise<T> {
    return this.#use(work, true)
  }

  async #use<T>(work: (tenants: Tenants) => Promise<T>, isToMake: boolean): Promise<T> {
    const files = await this.#mounted(isToMake)
    try {
      return await work(new Tenants(files))
    } catch (error) {
      if (!isDead(error) || this.#isClosed) throw error
      this.#options.log.warn({ err: error }, 'the file system is mounted anew')
      await this.#drop(files)
      return work(new Tenants(await this.#mounted(isToMake)))
    }
  }

  async #mounted(isToMake: boolean): Promise<FileSystem> {
    try {
      return await this.#shared()
    } catch (error) {
      if (!(isToMake && error instanceof TenantBaseNotFoundError)) throw error
    }
    await this.#make()
    return this.#shared()
  }

  #shared(): Promise<FileSystem> {
    // Nobody would unmount it.
    if (this.#isClosed) return Promise.reject(this.#closed())
    if (this.#mounting) return this.#mounting
    const mounting = this.#mount()
    this.#mounting = mounting
    mounting.catch(() => this.#forget(mounting))
    return mounting
  }

  #closed(): Error {
    const [code, syscall, resource] = ['EBADF', 'close', this.#name]
    const fields = { code, errno: -constants.errno.EBADF, syscall, resource, retryable: false }
    return new ClosedError(`${code}: closed, ${syscall} '${resource}'`, fields)
  }

  get #name(): string {
    const { fileSystem, tenantBase } = this.#options.config.cephfs
    return `${fileSystem ?? ''}:${tenantBase}`
  }

  async #mount(): Promise<FileSystem> {
    const { cluster, config } = this.#options
    const { fileSystem: name, tenantBase: root } = config.cephfs
    try {
      return await cluster.mountFileSystem({ name, root, ...asRoot })
    } catch (error) {
      if (!(error instanceof NotFoundError && error.syscall === 'ceph_mount')) throw error
      throw new TenantBaseNotFoundError(this.#name, { cause: error })
    }
  }

  async #make(): Promise<void> {
    const { cluster, config } = this.#options
    await using whole = await cluster.mountFileSystem({ name: config.cephfs.fileSystem, ...asRoot })
    await whole.mkdir(config.cephfs.tenantBase, { recursive: true })
  }

  #forget(mounting: Promise<FileSystem>): void {
    if (this.#mounting === mounting) this.#mounting = undefined
  }

  /** Unless somebody else has done so already. */
  async #drop(files: FileSystem): Promise<void> {
    const mounting = this.#mounting
    if (mounting && (await mounting.catch(() => undefined)) === files) this.#forget(mounting)
    files.close().catch(error => this.#options.log.info({ err: error }, 'the old mount is not closed'))
  }

  /** Unmounts, if it is mounted, and it is not mounted again. Safe to call again. @throws {TimeoutError} an MDS hangs */
  async close(): Promise<void> {
    this.#isClosed = true
    const files = await this.#mounting?.catch(() => undefined)
    await files?.close()
  }
}

/** How long an MDS waits for a client that has died (its `session_timeout`), in milliseconds, and some more. */
const sessionTimeoutMs = 90_000

/**
 * For a job whose last process has died: what that had in its hands there is let go only when the MDS has missed it long enough,
 * and until then calls are not answered.
 */
export async function onceLetGo<T>({ goesOn }: { goesOn: boolean }, work: () => Promise<T>): Promise<T> {
  for (const giveUpAt = Date.now() + sessionTimeoutMs; ; ) {
    try {
      return await work()
    } catch (error) {
      if (!(goesOn && error instanceof TimeoutError) || Date.now() > giveUpAt) throw error
    }
  }
}

function isDead(error: unknown): boolean {
  return error instanceof BlocklistedError || error instanceof NotConnectedError || error instanceof ClosedError
}
