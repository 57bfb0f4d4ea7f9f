import type { AbortToken } from '../bindings.js'
import type { CallOptions } from '../call.js'
import { checkBoolean, checkInteger, checkKey, checkOptions, wrongType } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Cluster } from '../rados/cluster.js'
import type { FileSystemHandle } from './bindings.js'
import { Calls, openMount, Turns } from './calls.js'
import { failure } from './failure.js'
import { OpenDirectory } from './open-directory.js'
import { checkPath, checkSnapshotName, type FilePath, fromBytes, parentOf, shownPath } from './path.js'
import {
  changeQuota,
  checkQuota,
  countXattrs,
  type DirectoryUsage,
  type EffectiveQuota,
  limitNames,
  parseQuota,
  parseUsage,
  type Quota,
  type QuotaChange,
  quotaXattr,
  usageXattrs,
} from './quota.js'
import { type CreateFileSnapshotOptions, checkMetadata, type FileSnapshot, toSnapshot } from './snapshot.js'
import { batchesOf, type DirectoryReport, inFlight, toReports } from './survey.js'
import { FileTree } from './tree.js'

export interface MountOptions extends CallOptions {
  /** Which file system. Default: the one that the cluster has for the default (`ceph fs set-default`), or its only one. */
  name?: string | undefined
  /** The directory that becomes `/`. Default: the file system's own root. */
  root?: string | undefined
  /** On whose behalf, for permissions and as the owner of what is made. Default: the process's own user. */
  uid?: number | undefined
  /** Default: the process's own group. */
  gid?: number | undefined
  /** Refuse what would change something. Default: false. */
  readOnly?: boolean | undefined
}

const maxId = 2 ** 32 - 2
/** The addon's word for the process's own. */
const ownId = -1

const snapshotPermissions = 0o755

/** How many calls of `listUsage()` are under way at once. */
const reportsAtOnce = 16

/**
 * A mounted CephFS, in this process and without the kernel. Paths are from the root of the mount; one with `..` is refused. There
 * is no umask: what is made has the mode that is asked for.
 *
 * Each call waits as long as the connection's `timeout` says, and then rejects with a TimeoutError; what was asked may happen all
 * the same. An MDS that hangs keeps the threads of the calls under way, 32 of the library's 64 at most, until it answers.
 */
export class FileSystem extends FileTree implements AsyncDisposable {
  readonly cluster: Cluster
  readonly #resource: Resource

  /** @internal */
  constructor(
    cluster: Cluster,
    handle: FileSystemHandle,
    calls: Calls,
    resource: Resource,
    fields: { root: string; readOnly: boolean },
  ) {
    super(handle, calls, fields)
    this.cluster = cluster
    this.#resource = resource
  }

  get closed(): boolean {
    return this.calls.closed
  }

  /**
   * The quota of a directory itself. A symbolic link is not followed.
   *
   * @returns Without what has no limit: an empty object is no quota.
   * @throws {FileNotFoundError} @throws {TimeoutError}
   */
  async getQuota(path: FilePath, options: CallOptions = {}): Promise<Quota> {
    const at = checkPath('path', path)
    const start = (token: AbortToken) => native.fileSystemGetXattrs(this.handle, at, [quotaXattr], false, token)
    const [value = null] = await this.look(this.resource(at, 'quota'), options, start)
    return parseQuota(value)
  }

  /**
   * Sets the quota of a directory, and reads it back from the MDS before it counts as set. A symbolic link is not followed.
   * Writers that are under way notice within seconds, and may exceed it until then.
   *
   * @returns The quota as it is now.
   * @throws {PermissionError} the MDS caps of this user have no `p` (`allow rwp`), or the directory's mode does not allow it
   * @throws {ConflictError} it reads back with another value: somebody else has set it meanwhile
   * @throws {FileNotFoundError} @throws {NotDirectoryError} @throws {TimeoutError}
   *
   * @implements ceph_lsetxattr
   */
  async setQuota(path: FilePath, quota: QuotaChange, options: CallOptions = {}): Promise<Quota> {
    const at = checkPath('path', path)
    checkQuota(quota)
    const resource = this.resource(at, 'quota')
    const stat = await this.lstat(at, options)
    if (!stat.isDirectory()) throw failure('ENOTDIR', 'ceph_lsetxattr', resource)
    const set = (xattr: string, value: Buffer) =>
      this.change(resource, options, token => native.fileSystemSetXattr(this.handle, at, xattr, value, 0, false, token))
    return changeQuota(quota, { resource, syscall: 'ceph_lsetxattr', set, get: () => this.getQuota(at, options) })
  }

  /** Takes the quota of a directory away, as `setQuota()` sets it. */
  async clearQuota(path: FilePath, options: CallOptions = {}): Promise<void> {
    await this.setQuota(path, { maxBytes: null, maxFiles: null }, options)
  }

  /**
   * The limits that count for a path: of its own quota and of those of the directories above it, up to the root of the mount, the
   * lowest of each. Symbolic links are followed.
   *
   * @throws {FileNotFoundError} @throws {TimeoutError}
   */
  async effectiveQuota(path: FilePath, options: CallOptions = {}): Promise<EffectiveQuota> {
    const effective: EffectiveQuota = {}
    for (let at = await this.resolve(path, options); ; at = parentOf(at)) {
      const directory = fromBytes(at)
      const quota = await this.getQuota(directory, options)
      for (const name of limitNames) {
        const limit = quota[name]
        if (limit !== undefined && limit < (effective[name]?.limit ?? Infinity))
          effective[name] = { limit, path: shownPath(directory) }
      }
      if (at === '/') return effective
    }
  }

  /**
   * Quota, usage and some extended attributes of each directory in a directory, in no order: for reports. What is no directory is
   * left out, and so is what goes meanwhile. A symbolic link is not followed.
   *
   * @param options.xattrs - Names of the extended attributes. Default: none.
   * @throws {FileNotFoundError} @throws {NotDirectoryError} @throws {TimeoutError}
   *
   * @implements ceph_lgetxattr
   */
  async *listUsage(
    path: FilePath,
    options: CallOptions & { xattrs?: readonly string[] | undefined } = {},
  ): AsyncGenerator<DirectoryReport, void, undefined> {
    const at = checkPath('path', path)
    checkOptions(options, ['xattrs'])
    const { xattrs = [], ...callOptions } = options
    if (!Array.isArray(xattrs)) throw wrongType('xattrs', 'an array', xattrs)
    const wanted = [quotaXattr, ...countXattrs, ...xattrs.map(name => checkKey('xattrs', name))]
    const resource = this.resource(at)
    const batches = batchesOf(await this.opendir(at, { ...callOptions, encoding: 'buffer' }), callOptions)
    yield* inFlight(reportsAtOnce, batches, async names => {
      const start = (token: AbortToken) => native.fileSystemSurvey(this.handle, at, names, wanted, token)
      return toReports(names, await this.look(resource, callOptions, start), xattrs)
    })
  }

  /** What is in a directory and below it. @throws {FileNotFoundError} @throws {NotDirectoryError} @throws {TimeoutError} */
  async usage(path: FilePath, options: CallOptions = {}): Promise<DirectoryUsage> {
    const at = checkPath('path', path)
    const start = (token: AbortToken) => native.fileSystemGetXattrs(this.handle, at, usageXattrs, true, token)
    const values = await this.look(this.resource(at), options, start)
    // A file has none of them.
    if (values.includes(null)) throw failure('ENOTDIR', 'ceph_getxattr', this.resource(at))
    return parseUsage(values)
  }

  /**
   * Opens a directory to hold on to it. No symbolic link is followed, on no part of the path.
   *
   * @throws {SymbolicLinkError} one is a symbolic link @throws {NotDirectoryError} @throws {FileNotFoundError}
   * @throws {TimeoutError} no answer in time
   *
   * @implements ceph_ll_lookup_root ceph_ll_lookup ceph_ll_put
   */
  async openDirectory(path: FilePath, options: CallOptions = {}): Promise<OpenDirectory> {
    const at = checkPath('path', path)
    const resource = this.resource(at)
    const handle = await this.calls.open(resource, options, token => native.directoryHold(this.handle, at, token))
    return new OpenDirectory(handle, resource, this.calls, this.readOnly)
  }

  /**
   * Makes a snapshot of a directory and all below it. What libcephfs elsewhere has not written yet is not in it.
   *
   * @throws {SnapshotExistsError}
   * @throws {SnapshotNotFoundError} there is no such directory
   * @throws {PermissionError} the MDS caps of this user have no `s` (`allow rws`), or the file system allows no new snapshots
   * @throws {TimeoutError}
   *
   * @implements ceph_mksnap
   */
  async createSnapshot(path: FilePath, name: string, options: CreateFileSnapshotOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkSnapshotName('name', name)
    checkOptions(options, ['metadata'])
    const { metadata = {}, ...callOptions } = options
    checkMetadata(metadata)
    const start = (token: AbortToken) =>
      native.fileSystemCreateSnapshot(this.handle, at, name, snapshotPermissions, metadata, token)
    await this.change(this.#snapshot(at, name), callOptions, start)
  }

  /** @throws {SnapshotNotFoundError} @throws {PermissionError} as `createSnapshot()` @implements ceph_rmsnap */
  async removeSnapshot(path: FilePath, name: string, options: CallOptions = {}): Promise<void> {
    const at = checkPath('path', path)
    checkSnapshotName('name', name)
    const start = (token: AbortToken) => native.fileSystemRemoveSnapshot(this.handle, at, name, token)
    await this.change(this.#snapshot(at, name), options, start)
  }

  /**
   * The snapshots of a directory itself, and not those of the ones above it. Their files are below `.snap/NAME`.
   *
   * @throws {SnapshotNotFoundError} there is no such directory
   *
   * @implements ceph_get_snap_info ceph_conf_get
   */
  async listSnapshots(path: FilePath, options: CallOptions = {}): Promise<FileSnapshot[]> {
    const at = checkPath('path', path)
    const start = (token: AbortToken) => native.fileSystemListSnapshots(this.handle, at, token)
    return (await this.look(this.resource(at, 'fileSnapshot'), options, start)).map(toSnapshot)
  }

  #snapshot(path: FilePath, name: string): Resource {
    return { kind: 'fileSnapshot', name: `${this.resource(path).name}@${name}` }
  }

  /**
   * Unmounts, after what was opened through it is closed, each after its calls in flight. Safe to call again. Every call after it
   * rejects with a ClosedError. Where a snapshot was removed by another call at the moment that it was removed here, libcephfs 16.2
   * may never be done with it: then this waits three seconds, and the session with the MDS stays while the process lives.
   *
   * @throws {TimeoutError} not in time, as when an MDS hangs: it goes on unheard
   *
   * @implements ceph_unmount ceph_release
   */
  async close(): Promise<void> {
    await this.calls.close(this.#resource)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** As long as a timer can wait. */
const longestTimeoutMs = 2 ** 31 - 1

/** `cluster.mountFileSystem()`. @internal */
export async function mountFileSystem(cluster: Cluster, options: MountOptions): Promise<FileSystem> {
  checkOptions(options, ['name', 'root', 'uid', 'gid', 'readOnly'])
  const { name, root: givenRoot = '/', uid, gid, readOnly = false, ...callOptions } = options
  if (name !== undefined) checkKey('name', name)
  const root = checkPath('root', checkKey('root', givenRoot))
  if (uid !== undefined) checkInteger('uid', uid, 0, maxId)
  if (gid !== undefined) checkInteger('gid', gid, 0, maxId)
  checkBoolean('readOnly', readOnly)
  const resource: Resource = { kind: 'fileSystem', name: `${name ?? 'the default file system'}:${root}` }
  const seconds = Number(await cluster.getOption('client_mount_timeout', callOptions))
  const turns = new Turns()
  const limitMs = Math.min(seconds * 1000, longestTimeoutMs)
  const handle = await openMount(turns, limitMs, resource, callOptions, token =>
    native.fileSystemMount(cluster.handle, name ?? null, root, uid ?? ownId, gid ?? ownId, token),
  )
  return new FileSystem(cluster, handle, new Calls(turns, limitMs, handle), resource, { root, readOnly })
}
