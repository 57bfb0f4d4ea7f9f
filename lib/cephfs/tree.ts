/** The files and directories of a file system, by their paths: what of `FileSystem` has the names of `node:fs/promises`. */

import { isUtf8 } from 'node:buffer'
import type { AbortToken } from '../bindings.js'
import type { CallOptions } from '../call.js'
import {
  checkBoolean,
  checkBytes,
  checkData,
  checkInteger,
  checkKey,
  checkOptions,
  outOfRange,
  wrongType,
  wrongValue,
} from '../check.js'
import { FileNotFoundError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { Bytes } from '../rados/write-operation.js'
import type { FileSystemHandle, NativeStatfs } from './bindings.js'
import type { Calls } from './calls.js'
import { Directory, type DirectoryEntry, type NameOptions, nameArguments } from './directory.js'
import { failure } from './failure.js'
import { bytesAtOnce, changes, checkFlags, File, type OpenFlags } from './file.js'
import {
  checkEntryPath,
  checkPath,
  checkTarget,
  type FilePath,
  fromBytes,
  joined,
  parentOf,
  shownPath,
  toBytes,
} from './path.js'
import { type RemovedTree, type RemoveTreeOptions, removeInBatches, sum } from './removal.js'
import { FileStat } from './stat.js'
import { type SetXattrOptions, setXattrArguments } from './xattr.js'

/** Of a file system, by the names of `fs.promises.statfs()`. */
export interface FileSystemStat extends NativeStatfs {}

export interface OpenOptions extends CallOptions {
  /** Permissions of a file that is made. Default: 0o644. There is no umask. */
  mode?: number | undefined
}

export interface MkdirOptions extends CallOptions {
  /** Make those above it too; it may be there already. Default: false. */
  recursive?: boolean | undefined
  /** Permissions, of all that is made. Default: 0o755. There is no umask. */
  mode?: number | undefined
}

export interface RmOptions extends CallOptions {
  /** Remove a directory with all that is in it. Default: false. */
  recursive?: boolean | undefined
  /** Nothing there is no error. Default: false. */
  force?: boolean | undefined
}

const filePermissions = 0o644
const directoryPermissions = 0o755

/** -1 is for who has no say in it, as in chown(2). */
const maxId = 2 ** 32 - 2

/** As many symbolic links as Linux follows in one path. */
const maxLinks = 40

function checkMode(mode: unknown): void {
  checkInteger('mode', mode, 0, 0o7777)
}

/** CephFS has 32 bits for the seconds since 1970, and another time would come out as one of those. */
const maxSeconds = 2 ** 32 - 1

/** Of a time, as the addon takes it. */
function microseconds(argument: string, value: unknown): number {
  if (!(value instanceof Date) && typeof value !== 'number') throw wrongType(argument, 'a Date or a number', value)
  const seconds = value instanceof Date ? value.getTime() / 1e3 : value
  if (!(seconds >= 0 && seconds <= maxSeconds)) throw outOfRange(argument, 'from 1970 to 2106', value)
  return Math.round(seconds * 1e6)
}

export abstract class FileTree {
  /** @internal */
  readonly handle: FileSystemHandle
  /** What of the file system is mounted: the `/` of all its paths. */
  readonly root: string
  readonly readOnly: boolean
  /** @internal */
  protected readonly calls: Calls

  /** @internal */
  constructor(handle: FileSystemHandle, calls: Calls, { root, readOnly }: { root: string; readOnly: boolean }) {
    this.handle = handle
    this.calls = calls
    this.root = root
    this.readOnly = readOnly
  }

  /** As messages have it: from the root of the file system. @internal */
  protected resource(path: FilePath, kind: Resource['kind'] = 'file'): Resource {
    const shown = shownPath(path)
    return { kind, name: this.root === '/' ? shown : `${this.root}${shown === '/' ? '' : shown}` }
  }

  /** @internal */
  protected look<T>(resource: Resource, options: CallOptions, start: (token: AbortToken) => Promise<T>): Promise<T> {
    return this.calls.call(resource, options, start)
  }

  /** @internal */
  protected change<T>(resource: Resource, options: CallOptions, start: (token: AbortToken) => Promise<T>): Promise<T> {
    return this.look(resource, options, token => {
      if (this.readOnly) throw failure('EROFS', 'mount', resource)
      return start(token)
    })
  }

  /** @throws {FileNotFoundError} @throws {TimeoutError} no answer in time @implements ceph_statx */
  async stat(path: FilePath, options: CallOptions = {}): Promise<FileStat> {
    return this.#stat(path, true, options)
  }

  /** As `stat()`, of a symbolic link itself and not of what it leads to. @throws {FileNotFoundError} */
  async lstat(path: FilePath, options: CallOptions = {}): Promise<FileStat> {
    return this.#stat(path, false, options)
  }

  async #stat(path: FilePath, follow: boolean, options: CallOptions): Promise<FileStat> {
    const at = checkPath('path', path)
    const start = (token: AbortToken) => native.fileSystemStat(this.handle, at, follow, token)
    return new FileStat(await this.look(this.resource(at), options, start))
  }

  /**
   * How much there is and how much is free: of the whole file system, or of what a quota on the root of the mount allows.
   *
   * @implements ceph_statfs
   */
  async statfs(path: FilePath = '/', options: CallOptions = {}): Promise<FileSystemStat> {
    const at = checkPath('path', path)
    return this.look(this.resource(at), options, token => native.fileSystemStatfs(this.handle, at, token))
  }

  /**
   * Opens a directory, to read its entries a batch at a time.
   *
   * @throws {FileNotFoundError} @throws {NotDirectoryError}
   *
   * @implements ceph_opendir
   */
  async opendir(path: FilePath, options?: NameOptions & { encoding?: 'utf8' | undefined }): Promise<Directory>
  async opendir(path: FilePath, options: NameOptions & { encoding: 'buffer' }): Promise<Directory<Buffer>>
  async opendir(path: FilePath, options: NameOptions = {}): Promise<Directory<string | Buffer>> {
    const at = checkPath('path', path)
    const { asBuffer, callOptions } = nameArguments(options)
    const resource = this.resource(at)
    const handle = await this.calls.open(resource, callOptions, token => native.directoryOpen(this.handle, at, token))
    return new Directory(handle, resource, this.calls, asBuffer)
  }

  /** All entries of a directory at once, without `.` and `..`. @throws {FileNotFoundError} @throws {NotDirectoryError} */
  async readdir(path: FilePath, options?: NameOptions & { encoding?: 'utf8' | undefined }): Promise<DirectoryEntry[]>
  async readdir(path: FilePath, options: NameOptions & { encoding: 'buffer' }): Promise<DirectoryEntry<Buffer>[]>
  async readdir(path: FilePath, options: NameOptions = {}): Promise<DirectoryEntry<string | Buffer>[]> {
    const directory = await this.opendir(path, options as NameOptions & { encoding: 'buffer' })
    const { encoding, ...callOptions } = options
    const entries: DirectoryEntry<string | Buffer>[] = []
    for await (const entry of directory.entries(callOptions)) entries.push(entry)
    return entries
  }

  /**
   * Makes a directory.
   *
   * @throws {FileExistsError} something is there; with `recursive`, something that is no directory
   * @throws {FileNotFoundError} nothing is where it was to be made
   * @throws {PermissionError} @throws {QuotaExceededError} @throws {TimeoutError}
   *
   * @implements ceph_mkdir ceph_mkdirs
   */
  async mkdir(path: FilePath, options: MkdirOptions = {}): Promise<void> {
    const at = checkEntryPath('path', path)
    checkOptions(options, ['recursive', 'mode'])
    const { recursive = false, mode = directoryPermissions, ...callOptions } = options
    checkMode(mode)
    const make = checkBoolean('recursive', recursive) ? native.fileSystemMkdirs : native.fileSystemMkdir
    await this.change(this.resource(at), callOptions, token => make(this.handle, at, mode, token))
    // libcephfs makes nothing where something is, and says that this is well.
    if (recursive && !(await this.stat(at, callOptions)).isDirectory())
      throw failure('EEXIST', 'ceph_mkdirs', this.resource(at), 'no directory')
  }

  /**
   * Removes an empty directory.
   *
   * @throws {DirectoryNotEmptyError} it has entries, or snapshots
   * @throws {FileNotFoundError} @throws {NotDirectoryError}
   *
   * @implements ceph_rmdir
   */
  async rmdir(path: FilePath, options: CallOptions = {}): Promise<void> {
    const at = checkEntryPath('path', path)
    await this.change(this.resource(at), options, token => native.fileSystemRmdir(this.handle, at, token))
  }

  /** Removes a file, or a symbolic link. @throws {FileNotFoundError} @throws {IsDirectoryError} @implements ceph_unlink */
  async unlink(path: FilePath, options: CallOptions = {}): Promise<void> {
    const at = checkEntryPath('path', path)
    await this.change(this.resource(at), options, token => native.fileSystemUnlink(this.handle, at, token))
  }

  /**
   * Removes a file, or a directory with all that is in it. What is removed is found by one name after the other, and no symbolic
   * link is followed but on the way to `path` itself: nobody who changes the tree meanwhile leads out of it. It stops at the first
   * thing that cannot be removed. Many entries take many calls: the time-out is for each, and an abort stops it.
   *
   * @throws {FileNotFoundError} nothing is there, without `force`
   * @throws {IsDirectoryError} a directory, without `recursive`
   * @throws {DirectoryNotEmptyError} a directory in it has snapshots, or has got new entries meanwhile
   * @throws {PermissionError} @throws {TimeoutError}
   */
  async rm(path: FilePath, options: RmOptions = {}): Promise<void> {
    const at = checkEntryPath('path', path)
    checkOptions(options, ['recursive', 'force'])
    const { recursive = false, force = false, ...callOptions } = options
    checkBoolean('force', force)
    try {
      if (!checkBoolean('recursive', recursive)) return await this.unlink(at, callOptions)
      for await (const { kept } of this.#removeInBatches(at, false, callOptions)) if (kept[0]) throw kept[0].error
    } catch (error) {
      if (!(force && error instanceof FileNotFoundError)) throw error
    }
  }

  /**
   * As `rm()` with `recursive`, but goes on past what cannot be removed, and tells of it.
   *
   * @throws {FileNotFoundError} nothing is there
   * @throws {TimeoutError}
   *
   * @implements ceph_ll_walk ceph_ll_opendir ceph_ll_releasedir ceph_ll_unlink ceph_ll_rmdir
   */
  async removeTree(path: FilePath, options: RemoveTreeOptions = {}): Promise<RemovedTree> {
    const at = checkEntryPath('path', path)
    checkOptions(options, ['snapshots'])
    const { snapshots = false, ...callOptions } = options
    return sum(this.#removeInBatches(at, checkBoolean('snapshots', snapshots), callOptions))
  }

  async *#removeInBatches(at: FilePath, snapshots: boolean, options: CallOptions): AsyncGenerator<RemovedTree> {
    const resource = this.resource(at)
    const removal = await this.calls.open(resource, options, token => {
      if (this.readOnly) throw failure('EROFS', 'mount', resource)
      return native.removalBegin(this.handle, at, snapshots, token)
    })
    yield* removeInBatches(removal, this.calls, resource, path => this.resource(path), options)
  }

  /**
   * Moves a file or directory, and replaces a file, or an empty directory, that has the new path.
   *
   * @throws {FileNotFoundError} @throws {DirectoryNotEmptyError} @throws {NotDirectoryError} @throws {IsDirectoryError}
   * @throws {InvalidArgumentError} into itself; or a directory with a quota to where another one counts
   *
   * @implements ceph_rename
   */
  async rename(path: FilePath, newPath: FilePath, options: CallOptions = {}): Promise<void> {
    const from = checkEntryPath('path', path)
    const to = checkEntryPath('newPath', newPath)
    await this.change(this.resource(from), options, token => native.fileSystemRename(this.handle, from, to, token))
  }

  /** Gives a file another path besides. @throws {FileExistsError} @throws {FileNotFoundError} @implements ceph_link */
  async link(existingPath: FilePath, newPath: FilePath, options: CallOptions = {}): Promise<void> {
    const existing = checkEntryPath('existingPath', existingPath)
    const at = checkEntryPath('newPath', newPath)
    await this.change(this.resource(at), options, token => native.fileSystemLink(this.handle, existing, at, token))
  }

  /**
   * Makes a symbolic link.
   *
   * @param target - What it leads to, which need not be there. Whoever follows it takes a `/` in front for the root of his own
   *   mount; and libcephfs follows `..` out of that root.
   * @throws {FileExistsError} @throws {FileNotFoundError}
   *
   * @implements ceph_symlink
   */
  async symlink(target: FilePath, path: FilePath, options: CallOptions = {}): Promise<void> {
    const to = checkTarget('target', target)
    const at = checkEntryPath('path', path)
    await this.change(this.resource(at), options, token => native.fileSystemSymlink(this.handle, to, at, token))
  }

  /** What a symbolic link leads to. @throws {InvalidArgumentError} it is none @implements ceph_readlink */
  async readlink(path: FilePath, options?: NameOptions & { encoding?: 'utf8' | undefined }): Promise<string>
  async readlink(path: FilePath, options: NameOptions & { encoding: 'buffer' }): Promise<Buffer>
  async readlink(path: FilePath, options: NameOptions = {}): Promise<string | Buffer> {
    const at = checkPath('path', path)
    const { asBuffer, callOptions } = nameArguments(options)
    const start = (token: AbortToken) => native.fileSystemReadlink(this.handle, at, asBuffer, token)
    return this.look(this.resource(at), callOptions, start)
  }

  /** The path without symbolic links; a link does not lead out of the mount here. @throws {SymbolicLinkError} too many */
  async realpath(path: FilePath, options?: NameOptions & { encoding?: 'utf8' | undefined }): Promise<string>
  async realpath(path: FilePath, options: NameOptions & { encoding: 'buffer' }): Promise<Buffer>
  async realpath(path: FilePath, options: NameOptions = {}): Promise<string | Buffer> {
    const { asBuffer, callOptions } = nameArguments(options)
    const found = fromBytes(await this.resolve(path, callOptions))
    if (!asBuffer && !isUtf8(found)) throw failure('EILSEQ', 'ceph_readlink', this.resource(path))
    return asBuffer ? found : found.toString()
  }

  /** As `realpath()`, with one character for each byte. @internal */
  protected async resolve(path: FilePath, options: CallOptions): Promise<string> {
    const left = toBytes(checkPath('path', path)).split('/').reverse()
    let at = '/'
    for (let links = 0; left.length > 0; ) {
      const name = left.pop() ?? ''
      if (name === '' || name === '.') continue
      if (name === '..') {
        at = parentOf(at)
        continue
      }
      const next = joined(at, name)
      if (!(await this.lstat(fromBytes(next), options)).isSymbolicLink()) {
        at = next
        continue
      }
      if (++links > maxLinks) throw failure('ELOOP', 'ceph_readlink', this.resource(path))
      const target = toBytes(await this.readlink(fromBytes(next), { ...options, encoding: 'buffer' }))
      if (target.startsWith('/')) at = '/'
      left.push(...target.split('/').reverse())
    }
    return at
  }

  /** Changes the permissions. @param mode - As in chmod(2), such as 0o1777. @throws {FileNotFoundError} @implements ceph_chmod */
  async chmod(path: FilePath, mode: number, options: CallOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkMode(mode)
    await this.change(this.resource(at), options, token => native.fileSystemChmod(this.handle, at, mode, token))
  }

  /** Changes owner and group. @throws {FileNotFoundError} @throws {PermissionError} @implements ceph_chown */
  async chown(path: FilePath, uid: number, gid: number, options: CallOptions = {}): Promise<void> {
    await this.#chown(path, uid, gid, true, options)
  }

  /** As `chown()`, of a symbolic link itself and not of what it leads to. @implements ceph_lchown */
  async lchown(path: FilePath, uid: number, gid: number, options: CallOptions = {}): Promise<void> {
    await this.#chown(path, uid, gid, false, options)
  }

  async #chown(path: FilePath, uid: number, gid: number, follow: boolean, options: CallOptions): Promise<void> {
    const at = checkPath('path', path)
    checkInteger('uid', uid, 0, maxId)
    checkInteger('gid', gid, 0, maxId)
    const start = (token: AbortToken) => native.fileSystemChown(this.handle, at, uid, gid, follow, token)
    await this.change(this.resource(at), options, start)
  }

  /**
   * Changes the times of the last access and the last change.
   *
   * @param atime - A Date, or seconds since 1970, which may have a fraction; up to 2106.
   * @throws {FileNotFoundError}
   *
   * @implements ceph_utimes
   */
  async utimes(path: FilePath, atime: Date | number, mtime: Date | number, options: CallOptions = {}): Promise<void> {
    await this.#utimes(path, atime, mtime, true, options)
  }

  /** As `utimes()`, of a symbolic link itself and not of what it leads to. @implements ceph_lutimes */
  async lutimes(path: FilePath, atime: Date | number, mtime: Date | number, options: CallOptions = {}): Promise<void> {
    await this.#utimes(path, atime, mtime, false, options)
  }

  async #utimes(
    path: FilePath,
    atime: Date | number,
    mtime: Date | number,
    follow: boolean,
    options: CallOptions,
  ): Promise<void> {
    const at = checkPath('path', path)
    const accessed = microseconds('atime', atime)
    const modified = microseconds('mtime', mtime)
    const start = (token: AbortToken) => native.fileSystemUtimes(this.handle, at, accessed, modified, follow, token)
    await this.change(this.resource(at), options, start)
  }

  /**
   * Makes a file shorter, or longer by a hole.
   *
   * @param size - In bytes.
   * @throws {FileNotFoundError} @throws {IsDirectoryError} @throws {QuotaExceededError}
   */
  async truncate(path: FilePath, size = 0, options: CallOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkBytes('size', size)
    await this.change(this.resource(at), options, token => native.fileSystemTruncate(this.handle, at, size, token))
  }

  /**
   * Opens a file.
   *
   * @param flags - Default: `r`.
   * @throws {FileNotFoundError} @throws {FileExistsError} @throws {IsDirectoryError} @throws {PermissionError}
   * @throws {QuotaExceededError} it would be one file too many
   * @throws {TimeoutError} no answer in time
   *
   * @implements ceph_open
   */
  async open(path: FilePath, flags: OpenFlags = 'r', options: OpenOptions = {}): Promise<File> {
    const at = checkPath('path', path)
    const bits = checkFlags('flags', flags)
    checkOptions(options, ['mode'])
    const { mode = filePermissions, ...callOptions } = options
    checkMode(mode)
    const resource = this.resource(at)
    const handle = await this.calls.open(resource, callOptions, token => {
      if (this.readOnly && changes(bits)) throw failure('EROFS', 'mount', resource)
      return native.fileOpen(this.handle, at, bits, mode, token)
    })
    return new File(handle, resource, this.calls)
  }

  /**
   * All that is in a file.
   *
   * @param options - Or the encoding itself, such as `utf8`.
   * @param options.encoding - Answer a string. Default: a Buffer.
   * @throws {FileNotFoundError} @throws {IsDirectoryError}
   */
  async readFile(path: FilePath, options?: CallOptions & { encoding?: null | undefined }): Promise<Buffer>
  async readFile(
    path: FilePath,
    options: BufferEncoding | (CallOptions & { encoding: BufferEncoding }),
  ): Promise<string>
  async readFile(
    path: FilePath,
    options: BufferEncoding | (CallOptions & { encoding?: BufferEncoding | null | undefined }) = {},
  ): Promise<string | Buffer> {
    if (typeof options === 'string') return this.readFile(path, { encoding: options })
    checkOptions(options, ['encoding'])
    const { encoding = null, ...callOptions } = options
    if (encoding !== null && !Buffer.isEncoding(encoding)) throw wrongValue('encoding', 'one of a Buffer', encoding)
    const bytes = await this.#readFile(path, callOptions)
    return encoding === null ? bytes : bytes.toString(encoding)
  }

  async #readFile(path: FilePath, options: CallOptions): Promise<Buffer> {
    await using file = await this.open(path, 'r', options)
    const { size } = await file.stat(options)
    const parts: Buffer[] = []
    for (let done = 0; ; ) {
      // One byte more than it was, for it may have grown, and to see the end.
      const buffer = Buffer.allocUnsafe(Math.max(Math.min(size - done, bytesAtOnce), 0) + 1)
      const { bytesRead } = await file.read(buffer, { ...options, position: done })
      if (bytesRead === 0) return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)
      parts.push(buffer.subarray(0, bytesRead))
      done += bytesRead
    }
  }

  /**
   * Replaces what is in a file, which is made if need be, and returns when it is safe. What fails in the middle leaves a part.
   *
   * @param data - A string becomes UTF-8.
   * @param options.flag - Default: `w`. `wx` for a file that must not be there, `a` to write behind what is there.
   * @throws {FileNotFoundError} @throws {IsDirectoryError} @throws {PermissionError} @throws {QuotaExceededError}
   */
  async writeFile(
    path: FilePath,
    data: Bytes | NodeJS.ArrayBufferView,
    options: OpenOptions & { flag?: OpenFlags | undefined } = {},
  ): Promise<void> {
    checkOptions(options, ['flag', 'mode'])
    const { flag = 'w', mode, ...callOptions } = options
    const bytes = typeof data === 'string' ? checkData('data', data) : data
    if (!ArrayBuffer.isView(bytes)) throw wrongType('data', 'a string, Buffer, TypedArray or DataView', data)
    await using file = await this.open(path, flag, { ...callOptions, mode })
    await file.write(bytes, callOptions)
    await file.sync(callOptions)
  }

  /** Returns when all that was written through this mount is safe. @throws {TimeoutError} @implements ceph_sync_fs */
  async sync(options: CallOptions = {}): Promise<void> {
    await this.look(this.resource('/'), options, token => native.fileSystemSync(this.handle, token))
  }

  /**
   * The value of an extended attribute: a user's own (`user.color`), or one of CephFS's (`ceph.dir.rbytes`, `ceph.dir.layout`).
   *
   * @throws {XattrNotFoundError} there is no such attribute
   * @throws {FileNotFoundError}
   *
   * @implements ceph_getxattr ceph_lgetxattr
   */
  async getXattr(path: FilePath, name: string, options: CallOptions = {}): Promise<Buffer> {
    const at = checkPath('path', path)
    checkKey('name', name)
    const start = (token: AbortToken) => native.fileSystemGetXattr(this.handle, at, name, true, token)
    return this.look(this.resource(at), options, start)
  }

  /**
   * Sets an extended attribute.
   *
   * @throws {XattrNotFoundError} it was to be replaced, and is not there
   * @throws {FileExistsError} it was to be made, and is there
   * @throws {NotSupportedError} nothing can have that name
   * @throws {PermissionError} @throws {FileNotFoundError}
   *
   * @implements ceph_setxattr
   */
  async setXattr(path: FilePath, name: string, value: Bytes, options: SetXattrOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkKey('name', name)
    const data = checkData('value', value)
    const { flags, callOptions } = setXattrArguments(options)
    const start = (token: AbortToken) => native.fileSystemSetXattr(this.handle, at, name, data, flags, true, token)
    await this.change(this.resource(at), callOptions, start)
  }

  /** The names of a user's own extended attributes; CephFS does not list its own. @implements ceph_listxattr */
  async listXattrs(path: FilePath, options: CallOptions = {}): Promise<string[]> {
    const at = checkPath('path', path)
    return this.look(this.resource(at), options, token => native.fileSystemListXattrs(this.handle, at, token))
  }

  /** Removes an extended attribute. @throws {XattrNotFoundError} it is not there @implements ceph_removexattr */
  async removeXattr(path: FilePath, name: string, options: CallOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkKey('name', name)
    const start = (token: AbortToken) => native.fileSystemRemoveXattr(this.handle, at, name, token)
    await this.change(this.resource(at), options, start)
  }
}
