import { type CallOptions, call, open } from '../call.js'
import {
  checkBytes,
  checkData,
  checkFunction,
  checkInteger,
  checkKey,
  checkKeys,
  checkOneOf,
  checkOptions,
  checkText,
  wrongType,
} from '../check.js'
import { ConflictError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { NativeOmapPage, NativeReadStep, NativeWatchEvent } from './bindings.js'
import type { Pool } from './pool.js'
import { type NotifyResult, Watch, type WatchListener } from './watch.js'
import { type Bytes, type OmapEntries, WriteOperation } from './write-operation.js'

export interface ObjectStat {
  /** In bytes. */
  size: number
  /** Exact to the second. */
  modifiedAt: Date
  /** Grows with each write; what `WriteOperation.assertVersion` takes. */
  version: number
}

export interface OmapPage {
  entries: Map<string, Buffer>
  /** Whether there are entries after these. */
  more: boolean
  /** The object's version, as in `ObjectStat`. */
  version: number
}

/** Who holds a lock. */
export interface Lockers {
  exclusive: boolean
  /** What holders of a shared lock have in common. */
  tag: string
  lockers: { client: string; cookie: string; address: string }[]
}

export interface ObjectLockOptions extends CallOptions {
  /** Tells this holder from others of the same client. Default: empty. */
  cookie?: string | undefined
  /** For people who look at the lock. Default: empty. */
  description?: string | undefined
  /** After how many milliseconds the lock ends by itself, 68 years at most. Default: never. */
  duration?: number | undefined
  /**
   * `may` renews a lock that is held already with this cookie; `must` does nothing else, and when it is not held that
   * is a NotFoundError. Default: holding it already is an ExistsError.
   */
  renew?: 'may' | 'must' | undefined
}

/** LIBRADOS_LOCK_FLAG_MAY_RENEW, LIBRADOS_LOCK_FLAG_MUST_RENEW */
const renewFlags = { may: 1, must: 2 }
const renewals = ['may', 'must'] as const

/** The OSD counts seconds since 1970 in 32 bits; longer ones would be over at once. In milliseconds. */
const maxLockDuration = 2 ** 31 * 1000

/** How much of an object a read fetches before it knows its size, in bytes. */
const firstReadBytes = 64 * 1024
/** As much of what was asked for, in bytes. */
const maxFirstReadBytes = 4 * 1024 * 1024

const omapEntriesPerPage = 512

/** Milliseconds that `notify` waits for watchers unless told otherwise. */
const defaultNotifyTimeout = 10_000

/**
 * A RADOS object, by its name: bytes, attributes, and an ordered map of keys and values (omap). Having one costs
 * nothing, and does not say that it exists.
 */
export class RadosObject {
  readonly pool: Pool
  readonly name: string

  /** @internal */
  constructor(pool: Pool, name: string) {
    this.pool = pool
    this.name = name
  }

  get path(): string {
    return `${this.pool.path}/${this.name}`
  }

  get #resource(): Resource {
    return { kind: 'object', name: this.path }
  }

  /**
   * Does a write operation.
   *
   * @returns The object's version after it.
   * @throws {ConflictError} a condition does not hold
   * @throws {ObjectExistsError} an exclusive create, and it is there
   * @throws {ObjectNotFoundError} a step needs the object: a condition, or the removal of something. Or the pool is
   *   gone.
   * @throws {InvalidArgumentError} no steps; an object larger, or more data at once, than the OSDs allow; or a name of
   *   an attribute that is too long
   * @throws {QuotaExceededError} the pool is at its quota, `whenFull` is `try`, and this needs room
   * @throws {NoSpaceError} the same of a pool whose OSDs are full
   *
   * @implements rados_create_write_op rados_aio_write_op_operate rados_release_write_op
   */
  async operate(operation: WriteOperation, options: CallOptions = {}): Promise<number> {
    if (!(operation instanceof WriteOperation)) throw wrongType('operation', 'a WriteOperation', operation)
    const { version } = await call(this.#resource, options, token =>
      native.objectWrite(this.pool.handle, this.name, operation.steps, this.pool.whenFull === 'force', token),
    )
    return version
  }

  /** @implements rados_create_read_op rados_aio_read_op_operate rados_release_read_op */
  async #read(steps: NativeReadStep[], options: CallOptions): Promise<{ version: number; results: unknown[] }> {
    return call(this.#resource, options, token => native.objectRead(this.pool.handle, this.name, steps, token))
  }

  /** @throws {ObjectNotFoundError} @implements rados_read_op_stat */
  async stat(options: CallOptions = {}): Promise<ObjectStat> {
    const { version, results } = await this.#read([['stat']], options)
    return { ...(results[0] as Omit<ObjectStat, 'version'>), version }
  }

  /**
   * Reads the object, as it is at one moment.
   *
   * @param options.offset - In bytes. Default: 0.
   * @param options.length - In bytes; there is less where the object ends. Default: to the end.
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_read_op_read rados_read_op_assert_version
   */
  async read(
    options: CallOptions & { offset?: number | undefined; length?: number | undefined } = {},
  ): Promise<Buffer> {
    checkOptions(options, ['offset', 'length'])
    const { offset = 0, length, ...callOptions } = options
    checkBytes('offset', offset)
    if (length !== undefined) checkBytes('length', length)
    // RADOS takes a length of nothing for all.
    const firstLength = Math.min(length || firstReadBytes, maxFirstReadBytes)
    for (;;) {
      const { version, results } = await this.#read([['stat'], ['read', offset, firstLength]], callOptions)
      const [{ size }, first] = results as [ObjectStat, Buffer]
      const wanted = Math.min(length ?? size, Math.max(size - offset, 0))
      if (wanted <= first.length) return first.subarray(0, wanted)
      try {
        const steps: NativeReadStep[] = [
          ['assertVersion', version],
          ['read', offset + first.length, wanted - first.length],
        ]
        const second = await this.#read(steps, callOptions)
        return Buffer.concat([first, second.results[0] as Buffer])
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error // written to in between: read again
      }
    }
  }

  /** Writes at an offset, in bytes. The object is made if need be. */
  async write(data: Bytes, offset = 0, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().write(data, offset), options)
  }

  /** Replaces all data. The object is made if need be. */
  async writeFull(data: Bytes, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().writeFull(data), options)
  }

  /** Writes behind what is there. The object is made if need be. */
  async append(data: Bytes, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().append(data), options)
  }

  /** Makes the object shorter or longer, to a size in bytes. One that is not there stays so. */
  async truncate(size: number, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().truncate(size), options)
  }

  /** @throws {ObjectNotFoundError} */
  async remove(options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().remove(), options)
  }

  /**
   * All attributes.
   *
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_read_op_getxattrs rados_getxattrs_next rados_getxattrs_end
   */
  async getXattrs(options: CallOptions = {}): Promise<Map<string, Buffer>> {
    const { results } = await this.#read([['getXattrs']], options)
    return new Map(results[0] as [string, Buffer][])
  }

  /** Sets an attribute. The object is made if need be. */
  async setXattr(name: string, value: Bytes, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().setXattr(name, value), options)
  }

  /** Removes an attribute, if it is there. @throws {ObjectNotFoundError} */
  async removeXattr(name: string, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().removeXattr(name), options)
  }

  /**
   * One page of the omap, in the order of the keys.
   *
   * @param options.after - Begin behind this key. Default: at the first.
   * @param options.prefix - Only keys that begin so. Default: all.
   * @param options.limit - How many entries. Default: 512; the OSD may answer fewer.
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_read_op_omap_get_vals2 rados_omap_get_next2 rados_omap_get_end
   */
  async getOmapPage(
    options: CallOptions & {
      after?: string | undefined
      prefix?: string | undefined
      limit?: number | undefined
    } = {},
  ): Promise<OmapPage> {
    checkOptions(options, ['after', 'prefix', 'limit'])
    const { after = '', prefix = '', limit = omapEntriesPerPage, ...callOptions } = options
    checkText('after', after)
    checkText('prefix', prefix)
    checkInteger('limit', limit, 1)
    const { version, results } = await this.#read([['getOmap', after, prefix, limit]], callOptions)
    const { entries, more } = results[0] as NativeOmapPage
    return { entries: new Map(entries), more, version }
  }

  /** All entries of the omap, page by page, so not as of one moment. @throws {ObjectNotFoundError} */
  async *listOmap(
    options: CallOptions & { prefix?: string | undefined } = {},
  ): AsyncGenerator<[key: string, value: Buffer], void, undefined> {
    checkOptions(options, ['prefix'])
    let after = ''
    for (;;) {
      const { entries, more } = await this.getOmapPage({ ...options, after })
      for (const entry of entries) {
        yield entry
        after = entry[0]
      }
      if (!more) return
    }
  }

  /**
   * The values of these keys; those that are not there are left out.
   *
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_read_op_omap_get_vals_by_keys2
   */
  async getOmap(keys: readonly string[], options: CallOptions = {}): Promise<Omit<OmapPage, 'more'>> {
    const steps: NativeReadStep[] = [['getOmapByKeys', checkKeys('keys', keys)]]
    const { version, results } = await this.#read(steps, options)
    return { entries: new Map((results[0] as NativeOmapPage).entries), version }
  }

  /** Sets values in the omap, and leaves others. The object is made if need be. */
  async setOmap(entries: OmapEntries, options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().setOmap(entries), options)
  }

  /** Removes keys from the omap, those that are there. @throws {ObjectNotFoundError} */
  async removeOmap(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    await this.operate(new WriteOperation().removeOmap(keys), options)
  }

  #lock(name: string): Resource {
    return { kind: 'lock', name: `${this.path}: ${name}` }
  }

  /**
   * Takes a lock that nobody else can hold. The object is made if need be. A lock keeps nobody from writing.
   *
   * @throws {LockBusyError} somebody else holds it, or this client with another cookie
   * @throws {ExistsError} held already, with this cookie
   * @throws {NotFoundError} not held any more, and to be renewed
   * @throws {InvalidArgumentError} the name is too long
   *
   * @implements rados_lock_exclusive
   */
  async lockExclusive(name: string, options: ObjectLockOptions = {}): Promise<void> {
    checkKey('name', name)
    const { cookie, description, duration, flags, callOptions } = lockArguments(options)
    await call(this.#lock(name), callOptions, token =>
      native.objectLockExclusive(this.pool.handle, this.name, name, cookie, description, duration, flags, token),
    )
  }

  /**
   * Takes a lock that holders with the same tag share.
   *
   * @throws {LockBusyError} somebody holds it exclusively, or with another tag
   * @throws {ExistsError} held already, with this cookie
   * @throws {NotFoundError} not held any more, and to be renewed
   *
   * @implements rados_lock_shared
   */
  async lockShared(name: string, tag: string, options: ObjectLockOptions = {}): Promise<void> {
    checkKey('name', name)
    checkText('tag', tag)
    const { cookie, description, duration, flags, callOptions } = lockArguments(options)
    await call(this.#lock(name), callOptions, token =>
      native.objectLockShared(this.pool.handle, this.name, name, cookie, tag, description, duration, flags, token),
    )
  }

  /** @throws {NotFoundError} not held with this cookie @implements rados_aio_unlock */
  async unlock(name: string, options: CallOptions & { cookie?: string | undefined } = {}): Promise<void> {
    checkKey('name', name)
    checkOptions(options, ['cookie'])
    const { cookie = '', ...callOptions } = options
    checkText('cookie', cookie)
    await call(this.#lock(name), callOptions, token =>
      native.objectUnlock(this.pool.handle, this.name, name, cookie, token),
    )
  }

  /**
   * Takes a lock from its holder, as `listLockers()` names it. That client is not blocklisted, as it is by `break()` of an
   * image's locks, and goes on writing: `cluster.blocklist()`, before this, keeps it from that.
   *
   * @throws {NotFoundError} it does not hold it
   * @throws {InvalidArgumentError} that is no name of a client
   *
   * @implements rados_break_lock
   */
  async breakLock(name: string, client: string, cookie: string, options: CallOptions = {}): Promise<void> {
    checkKey('name', name)
    checkKey('client', client)
    checkText('cookie', cookie)
    await call(this.#lock(name), options, token =>
      native.objectBreakLock(this.pool.handle, this.name, name, client, cookie, token),
    )
  }

  /** Who holds a lock: nobody, one, or those that share it. @implements rados_list_lockers */
  async listLockers(name: string, options: CallOptions = {}): Promise<Lockers> {
    checkKey('name', name)
    return call(this.#lock(name), options, token => native.objectListLockers(this.pool.handle, this.name, name, token))
  }

  /**
   * Hears what others `notify()`. The watch lives until it is closed, and keeps the process alive.
   *
   * @param listener - Called with each notification. What it returns, or the promise of it, is the reply; the notifier
   *   waits for it.
   * @param options.timeout - After how long without a sign of life the OSD drops the watch, in milliseconds, rounded up to whole
   *   seconds. Default: the cluster's own, 30 s.
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_watch3
   */
  async watch(listener: WatchListener, options: CallOptions & { timeout?: number | undefined } = {}): Promise<Watch> {
    checkFunction('listener', listener)
    checkOptions(options, ['timeout'])
    const { timeout = 0, ...callOptions } = options
    const seconds = Math.ceil(checkInteger('timeout', timeout, 0, 2 ** 31) / 1000)
    // What arrives before the watch can be given to the caller waits, so that the caller can listen for errors first.
    const early: NativeWatchEvent[] = []
    let receive = (event: NativeWatchEvent): void => void early.push(event)
    const handle = await open(this.#resource, callOptions, token =>
      native.watchStart(this.pool.handle, this.name, seconds, event => receive(event), token),
    )
    const watch = new Watch(this, handle, this.#resource, listener)
    receive = event => watch.receive(event)
    for (const event of early) setImmediate(receive, event)
    return watch
  }

  /**
   * Tells all who watch the object, and waits for their replies.
   *
   * @param options.timeout - For how long to wait, in milliseconds, rounded up to whole seconds. Default: 10,000.
   * @returns Who replied, and who did not in time.
   * @throws {ObjectNotFoundError}
   *
   * @implements rados_aio_notify rados_decode_notify_response rados_free_notify_response
   */
  async notify(
    payload: Bytes = '',
    options: CallOptions & { timeout?: number | undefined } = {},
  ): Promise<NotifyResult> {
    const data = checkData('payload', payload)
    checkOptions(options, ['timeout'])
    const { timeout = defaultNotifyTimeout, ...callOptions } = options
    // librados leaves out what is not a whole second, and takes none for its default of 30.
    const wholeSeconds = Math.ceil(checkInteger('timeout', timeout, 1, 2 ** 31) / 1000) * 1000
    return call(this.#resource, callOptions, token =>
      native.objectNotify(this.pool.handle, this.name, data, wholeSeconds, token),
    )
  }
}

function lockArguments(options: ObjectLockOptions) {
  checkOptions(options, ['cookie', 'description', 'duration', 'renew'])
  const { cookie = '', description = '', duration, renew, ...callOptions } = options
  if (duration !== undefined) checkInteger('duration', duration, 1, maxLockDuration)
  return {
    cookie: checkText('cookie', cookie),
    description: checkText('description', description),
    duration: duration ?? 0,
    flags: renew === undefined ? 0 : renewFlags[checkOneOf('renew', renew, renewals)],
    callOptions,
  }
}
