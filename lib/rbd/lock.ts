import { type CallOptions, call } from '../call.js'
import { checkKey, checkOptions, checkText } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Lockers } from '../rados/object.js'
import type { ImageHandle } from './bindings.js'

export interface LockOwners {
  mode: 'exclusive' | 'shared'
  /** The addresses of the clients. */
  owners: string[]
}

/**
 * The lock that librbd manages for images with the feature `exclusive-lock`: it takes it to write, and gives it up when
 * another client asks.
 */
export class ExclusiveLock {
  readonly #handle: ImageHandle
  readonly #resource: Resource

  /** @internal */
  constructor(handle: ImageHandle, imagePath: string) {
    this.#handle = handle
    this.#resource = { kind: 'exclusiveLock', name: imagePath }
  }

  /** Whether this open image holds it. @implements rbd_is_exclusive_lock_owner */
  async isOwner(options: CallOptions = {}): Promise<boolean> {
    return call(this.#resource, options, token => native.imageLockIsOwner(this.#handle, token))
  }

  /**
   * Takes the lock and keeps it, whoever asks, until it is released. Once this was called, even in vain, this open
   * image takes the lock by this method only: without it, its writes reject with a ReadOnlyImageError. Abort ends the waiting
   * only: the lock may be taken all the same, and is then to be released.
   *
   * @throws {ImageBusyError} another client keeps it
   * @throws {InvalidArgumentError} the image is opened read-only, or has not the feature `exclusive-lock`
   *
   * @implements rbd_lock_acquire
   */
  async acquire(options: CallOptions = {}): Promise<void> {
    await call(this.#resource, options, token => native.imageLockAcquire(this.#handle, token))
  }

  /** @throws {InvalidArgumentError} not held @implements rbd_lock_release */
  async release(options: CallOptions = {}): Promise<void> {
    await call(this.#resource, options, token => native.imageLockRelease(this.#handle, token))
  }

  /**
   * Who holds it, by names that `break()` takes.
   *
   * @throws {InvalidArgumentError} the image is opened read-only, or has not the feature `exclusive-lock`
   *
   * @implements rbd_lock_get_owners
   */
  async owners(options: CallOptions = {}): Promise<LockOwners> {
    return call(this.#resource, options, token => native.imageLockOwners(this.#handle, token))
  }

  /**
   * Takes the lock from its owner, alive or not, and blocklists that whole client so that its writes cannot arrive any
   * more.
   *
   * @throws {ImageBusyError} somebody else owns it by now
   * @throws {NotFoundError} nobody owns it
   * @throws {ReadOnlyImageError}
   * @throws {InvalidArgumentError} the image has not the feature `exclusive-lock`
   *
   * @implements rbd_lock_break
   */
  async break(owner: string, options: CallOptions = {}): Promise<void> {
    checkKey('owner', owner)
    await call(this.#resource, options, token => native.imageLockBreak(this.#handle, owner, token))
  }
}

/**
 * The lock of `rbd lock add`: it keeps nobody from writing, only from taking the same lock. It stays when its holder
 * dies.
 */
export class AdvisoryLock {
  readonly #handle: ImageHandle
  readonly #resource: Resource

  /** @internal */
  constructor(handle: ImageHandle, imagePath: string) {
    this.#handle = handle
    this.#resource = { kind: 'lock', name: imagePath }
  }

  /** Who holds it: nobody, one, or those that share it. @implements rbd_list_lockers */
  async list(options: CallOptions = {}): Promise<Lockers> {
    return call(this.#resource, options, token => native.imageAdvisoryLockList(this.#handle, token))
  }

  /**
   * Takes the lock. Abort ends the waiting only: it may be taken all the same, and is then to be released.
   *
   * @param cookie - Tells this holder from others of the same client.
   * @param options.shared - A tag: holders that give the same one share the lock. Default: the lock is exclusive.
   * @throws {LockBusyError} somebody else holds it
   * @throws {ExistsError} this client holds it already, with this cookie
   *
   * @implements rbd_lock_exclusive rbd_lock_shared
   */
  async acquire(cookie: string, options: CallOptions & { shared?: string | undefined } = {}): Promise<void> {
    checkKey('cookie', cookie)
    checkOptions(options, ['shared'])
    const { shared: tag, ...callOptions } = options
    if (tag !== undefined) checkText('shared', tag)
    await call(this.#resource, callOptions, token =>
      tag === undefined
        ? native.imageAdvisoryLockExclusive(this.#handle, cookie, token)
        : native.imageAdvisoryLockShared(this.#handle, cookie, tag, token),
    )
  }

  /** @throws {NotFoundError} not held with this cookie @implements rbd_unlock */
  async release(cookie: string, options: CallOptions = {}): Promise<void> {
    checkKey('cookie', cookie)
    await call(this.#resource, options, token => native.imageAdvisoryUnlock(this.#handle, cookie, token))
  }

  /**
   * Takes the lock from another client, as `list()` names it, and blocklists that whole client unless
   * `rbd_blocklist_on_break_lock` says not to.
   *
   * @throws {NotFoundError} it does not hold it
   * @throws {InvalidArgumentError} that is no name of a client
   *
   * @implements rbd_break_lock
   */
  async break(client: string, cookie: string, options: CallOptions = {}): Promise<void> {
    checkKey('client', client)
    checkKey('cookie', cookie)
    await call(this.#resource, options, token => native.imageAdvisoryBreakLock(this.#handle, client, cookie, token))
  }
}
