import type { AbortToken } from '../bindings.js'
import type { CallOptions } from '../call.js'
import { checkData, checkInteger, checkKey, checkMembers, wrongType, wrongValue } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Bytes } from '../rados/write-operation.js'
import type { OpenDirectoryHandle } from './bindings.js'
import type { Calls } from './calls.js'
import { failure } from './failure.js'
import { checkPath } from './path.js'
import {
  changeQuota,
  checkQuota,
  type DirectoryUsage,
  parseQuota,
  parseUsage,
  type Quota,
  type QuotaChange,
  quotaXattr,
  usageXattrs,
} from './quota.js'
import { FileStat } from './stat.js'
import { type SetXattrOptions, setXattrArguments } from './xattr.js'

/** Whom a directory belongs to, and what they may do. */
export interface DirectoryOwnership {
  uid: number
  gid: number
  /** Permissions, as in chmod(2), such as 0o1777. */
  mode: number
}

/** A directory that is to be there. */
export interface WantedDirectory extends DirectoryOwnership {
  /** From the open directory, which is `.` itself. Those above it come before it. */
  path: string
}

export interface EnsuredDirectory {
  path: string
  /** It was not there. */
  made: boolean
  /** What it was, where that was not as wanted and has been changed. */
  was?: DirectoryOwnership
}

const maxId = 2 ** 32 - 2
const maxMode = 0o7777

/**
 * A directory that is held open: what is done here is done to that very one, whatever becomes of its path meanwhile. No symbolic
 * link was followed on the way to it, and below it none is.
 */
export class OpenDirectory implements AsyncDisposable {
  readonly path: string
  readonly #handle: OpenDirectoryHandle
  readonly #resource: Resource
  readonly #calls: Calls
  readonly #readOnly: boolean

  /** @internal */
  constructor(handle: OpenDirectoryHandle, resource: Resource, calls: Calls, readOnly: boolean) {
    this.path = resource.name
    this.#handle = handle
    this.#resource = resource
    this.#calls = calls.of(handle)
    this.#readOnly = readOnly
  }

  get closed(): boolean {
    return this.#calls.closed
  }

  /** @throws {TimeoutError} no answer in time @implements ceph_ll_getattr */
  async stat(options: CallOptions = {}): Promise<FileStat> {
    return new FileStat(await this.#look(options, token => native.directoryStat(this.#handle, token)))
  }

  /** As `getXattr()` of the file system. @throws {XattrNotFoundError} @throws {TimeoutError} @implements ceph_ll_getxattr */
  async getXattr(name: string, options: CallOptions = {}): Promise<Buffer> {
    checkKey('name', name)
    const [value = null] = await this.#xattrs([name], this.#resource, options)
    if (value === null) throw failure('ENODATA', 'ceph_ll_getxattr', this.#resource)
    return value
  }

  /** As `setXattr()` of the file system. @throws {PermissionError} @throws {TimeoutError} @implements ceph_ll_setxattr */
  async setXattr(name: string, value: Bytes, options: SetXattrOptions = {}): Promise<void> {
    checkKey('name', name)
    const data = checkData('value', value)
    const { flags, callOptions } = setXattrArguments(options)
    await this.#setXattr(name, data, flags, this.#resource, callOptions)
  }

  /** As `getQuota()` of the file system. @throws {TimeoutError} */
  async getQuota(options: CallOptions = {}): Promise<Quota> {
    const [value = null] = await this.#xattrs([quotaXattr], this.#quotaResource, options)
    return parseQuota(value)
  }

  /**
   * As `setQuota()` of the file system.
   *
   * @throws {PermissionError} the MDS caps of this user have no `p` (`allow rwp`), or the directory's mode does not allow it
   * @throws {ConflictError} it reads back with another value: somebody else has set it meanwhile
   * @throws {TimeoutError}
   */
  async setQuota(quota: QuotaChange, options: CallOptions = {}): Promise<Quota> {
    checkQuota(quota)
    const resource = this.#quotaResource
    const set = (xattr: string, value: Buffer) => this.#setXattr(xattr, value, 0, resource, options)
    return changeQuota(quota, { resource, syscall: 'ceph_ll_setxattr', set, get: () => this.getQuota(options) })
  }

  /** As `usage()` of the file system. @throws {TimeoutError} */
  async usage(options: CallOptions = {}): Promise<DirectoryUsage> {
    return parseUsage(await this.#xattrs(usageXattrs, this.#resource, options))
  }

  /**
   * Makes the directories that are not there, with those owners and permissions, and gives them to those that have others. What
   * is in them stays as it is. When one fails, those before it are done.
   *
   * @returns What became of each, in their order.
   * @throws {NotDirectoryError} one is a file, or a symbolic link: it is left as it is
   * @throws {SymbolicLinkError} one above another is a symbolic link
   * @throws {FileNotFoundError} the one above is not there; or somebody has removed this one
   * @throws {PermissionError} @throws {QuotaExceededError} @throws {TimeoutError}
   *
   * @implements ceph_ll_mkdir ceph_ll_setattr ceph_mount_perms
   */
  async ensureDirectories(
    directories: readonly WantedDirectory[],
    options: CallOptions = {},
  ): Promise<EnsuredDirectory[]> {
    const wanted = checkWanted(directories)
    const ensured = await this.#change(this.#resource, options, token =>
      native.directoryEnsure(this.#handle, wanted, token),
    )
    return ensured.map(({ made, was }, i) => ({ path: wanted[i]?.path ?? '', made, ...(was && { was }) }))
  }

  /** Closes the directory after its calls in flight. Safe to call again. @throws {TimeoutError} not in time */
  async close(): Promise<void> {
    await this.#calls.close(this.#resource)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get #quotaResource(): Resource {
    return { ...this.#resource, kind: 'quota' }
  }

  #xattrs(names: readonly string[], resource: Resource, options: CallOptions): Promise<(Buffer | null)[]> {
    return this.#calls.call(resource, options, token => native.directoryGetXattrs(this.#handle, names, token))
  }

  #setXattr(name: string, value: Uint8Array, flags: number, resource: Resource, options: CallOptions): Promise<void> {
    return this.#change(resource, options, token => native.directorySetXattr(this.#handle, name, value, flags, token))
  }

  #look<T>(options: CallOptions, start: (token: AbortToken) => Promise<T>): Promise<T> {
    return this.#calls.call(this.#resource, options, start)
  }

  #change<T>(resource: Resource, options: CallOptions, start: (token: AbortToken) => Promise<T>): Promise<T> {
    return this.#calls.call(resource, options, token => {
      if (this.#readOnly) throw failure('EROFS', 'mount', resource)
      return start(token)
    })
  }
}

function checkWanted(directories: unknown): WantedDirectory[] {
  if (!Array.isArray(directories)) throw wrongType('directories', 'an array', directories)
  return directories.map((each, i) => {
    const argument = `directories[${i}]`
    checkMembers(argument, each, ['path', 'uid', 'gid', 'mode'])
    const { path, uid, gid, mode } = each
    const plain = checkPath(`${argument}.path`, checkKey(`${argument}.path`, path))
    if (plain.split('/').includes('.snap')) throw wrongValue(`${argument}.path`, 'a path without .snap', path)
    checkInteger(`${argument}.uid`, uid, 0, maxId)
    checkInteger(`${argument}.gid`, gid, 0, maxId)
    checkInteger(`${argument}.mode`, mode, 0, maxMode)
    return { path: plain.slice(1) || '.', uid, gid, mode }
  })
}
