/** The bindings of libcephfs, and of a CephFS that is mounted. */
import type { Handle, Token } from '../bindings.js'
import type { ClusterHandle } from '../rados/bindings.js'

export type FileSystemHandle = Handle<'fileSystem'>
export type FileHandle = Handle<'file'>
export type OpenDirectoryHandle = Handle<'openDirectory'>
export type DirectoryHandle = Handle<'directory'>
export type RemovalHandle = Handle<'removal'>

/** Bytes where it is no UTF-8. */
export type NativePath = string | Uint8Array

/** What has mounted a CephFS. */
export type MountClient = 'kernel' | 'ceph-fuse'

export interface NativeFileStat {
  ino: bigint
  mode: number
  nlink: number
  uid: number
  gid: number
  size: number
  blksize: number
  blocks: number
  atime: Date
  mtime: Date
  ctime: Date
  birthtime: Date
}

export interface NativeStatfs {
  /** In bytes: the unit of the next three. */
  bsize: number
  /** Of all there is. */
  blocks: number
  bfree: number
  /** As `bfree`: nothing is kept back. */
  bavail: number
  /** How many files and directories there are; no limit is known. */
  files: number
  /** Bytes that a name may have. */
  namelen: number
}

export interface NativeFileSnapshot {
  name: string
  id: number
  metadata: [string, string][]
  /** Seconds since 1970, with a fraction. */
  createdAt?: string
}

export interface NativeDirectoryEntry {
  name: string | Buffer
  type: DirectoryEntryType
}

export type DirectoryEntryType =
  | 'file'
  | 'directory'
  | 'symbolicLink'
  | 'fifo'
  | 'socket'
  | 'characterDevice'
  | 'blockDevice'
  | 'unknown'

export interface NativeKeptEntry {
  path: Buffer
  /** Negative. */
  errno: number
  syscall: string
  snapshots: Buffer[]
}

export interface CephfsBindings {
  /** A uid or gid of -1 is the process's own. */
  fileSystemMount(
    cluster: ClusterHandle,
    name: string | null,
    root: NativePath,
    uid: number,
    gid: number,
    token?: Token,
  ): Promise<FileSystemHandle>
  fileSystemStat(mount: FileSystemHandle, path: NativePath, follow: boolean, token?: Token): Promise<NativeFileStat>
  fileSystemStatfs(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<NativeStatfs>
  fileSystemMkdir(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemMkdirs(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemRmdir(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<void>
  fileSystemUnlink(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<void>
  fileSystemRename(mount: FileSystemHandle, path: NativePath, newPath: NativePath, token?: Token): Promise<void>
  fileSystemLink(mount: FileSystemHandle, existing: NativePath, path: NativePath, token?: Token): Promise<void>
  fileSystemSymlink(mount: FileSystemHandle, target: NativePath, path: NativePath, token?: Token): Promise<void>
  fileSystemReadlink(
    mount: FileSystemHandle,
    path: NativePath,
    asBuffer: boolean,
    token?: Token,
  ): Promise<string | Buffer>
  fileSystemChmod(mount: FileSystemHandle, path: NativePath, mode: number, token?: Token): Promise<void>
  fileSystemChown(
    mount: FileSystemHandle,
    path: NativePath,
    uid: number,
    gid: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  /** Times are in microseconds since 1970. */
  fileSystemUtimes(
    mount: FileSystemHandle,
    path: NativePath,
    atime: number,
    mtime: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  fileSystemTruncate(mount: FileSystemHandle, path: NativePath, size: number, token?: Token): Promise<void>
  fileSystemSync(mount: FileSystemHandle, token?: Token): Promise<void>
  fileSystemGetXattr(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    follow: boolean,
    token?: Token,
  ): Promise<Buffer>
  fileSystemGetXattrs(
    mount: FileSystemHandle,
    path: NativePath,
    names: readonly string[],
    follow: boolean,
    token?: Token,
  ): Promise<(Buffer | null)[]>
  /** For each name in the directory, the same as `fileSystemGetXattrs` without follow; null where there is no directory. */
  fileSystemSurvey(
    mount: FileSystemHandle,
    path: NativePath,
    names: readonly Uint8Array[],
    xattrs: readonly string[],
    token?: Token,
  ): Promise<((Buffer | null)[] | null)[]>
  fileSystemListXattrs(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<string[]>
  fileSystemSetXattr(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    value: Uint8Array,
    flags: number,
    follow: boolean,
    token?: Token,
  ): Promise<void>
  fileSystemRemoveXattr(mount: FileSystemHandle, path: NativePath, name: string, token?: Token): Promise<void>
  fileSystemCreateSnapshot(
    mount: FileSystemHandle,
    path: NativePath,
    name: string,
    mode: number,
    metadata: Record<string, string>,
    token?: Token,
  ): Promise<void>
  fileSystemRemoveSnapshot(mount: FileSystemHandle, path: NativePath, name: string, token?: Token): Promise<void>
  fileSystemListSnapshots(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<NativeFileSnapshot[]>

  fileOpen(mount: FileSystemHandle, path: NativePath, flags: number, mode: number, token?: Token): Promise<FileHandle>
  /** A position of -1 is the file's own, which goes on with each. */
  fileRead(file: FileHandle, length: number, position: number, token?: Token): Promise<Buffer>
  fileWrite(file: FileHandle, data: Uint8Array, position: number, token?: Token): Promise<number>
  fileSync(file: FileHandle, dataOnly: boolean, token?: Token): Promise<void>
  fileStat(file: FileHandle, token?: Token): Promise<NativeFileStat>
  fileTruncate(file: FileHandle, size: number, token?: Token): Promise<void>

  /**
   * Of a CephFS that the kernel or ceph-fuse has mounted. Neither the event loop nor the end of the process waits for these,
   * as they may hang.
   */
  mountedCheck(mount: NativePath, token?: Token): Promise<MountClient>
  /** Null for those that are not there. */
  mountedGetXattrs(
    mount: NativePath,
    path: NativePath,
    names: readonly string[],
    follow: boolean,
    token?: Token,
  ): Promise<(Buffer | null)[]>
  mountedSetXattr(mount: NativePath, path: NativePath, name: string, value: Uint8Array, token?: Token): Promise<void>
  /** Answers how many microseconds it took. */
  mountedProbe(mount: NativePath, name: string, content: Uint8Array, token?: Token): Promise<number>

  /** Holds a directory, found by one name after the other; no symbolic link is followed. */
  directoryHold(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<OpenDirectoryHandle>
  directoryStat(directory: OpenDirectoryHandle, token?: Token): Promise<NativeFileStat>
  /** Null for those that are not there. */
  directoryGetXattrs(
    directory: OpenDirectoryHandle,
    names: readonly string[],
    token?: Token,
  ): Promise<(Buffer | null)[]>
  directorySetXattr(
    directory: OpenDirectoryHandle,
    name: string,
    value: Uint8Array,
    flags: number,
    token?: Token,
  ): Promise<void>
  /** What has been changed has `was`. */
  directoryEnsure(
    directory: OpenDirectoryHandle,
    directories: readonly { path: string; uid: number; gid: number; mode: number }[],
    token?: Token,
  ): Promise<{ made: boolean; was?: { uid: number; gid: number; mode: number } }[]>

  directoryOpen(mount: FileSystemHandle, path: NativePath, token?: Token): Promise<DirectoryHandle>
  /** Fewer than the limit at the end only. */
  directoryRead(
    directory: DirectoryHandle,
    limit: number,
    asBuffers: boolean,
    token?: Token,
  ): Promise<NativeDirectoryEntry[]>

  removalBegin(mount: FileSystemHandle, path: NativePath, snapshots: boolean, token?: Token): Promise<RemovalHandle>
  /** Until it is done, or for so long. */
  removalGo(
    removal: RemovalHandle,
    milliseconds: number,
    token?: Token,
  ): Promise<{ done: boolean; removed: number; kept: NativeKeptEntry[] }>
}
