import type { NativeFileStat } from './bindings.js'

/** The part of a mode that says what it is, and its values: S_IFMT and others of stat(2). */
const typeMask = 0o170000
const types = {
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  file: 0o100000,
  symbolicLink: 0o120000,
  socket: 0o140000,
}

/** What a file system knows of a file or directory, by the names of `fs.Stats`. */
export class FileStat {
  /** The inode's number. */
  readonly ino: bigint
  /** Type and permissions, as in stat(2). */
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  /** In bytes. Of a directory it is what is in it, directories below it too, as late as `usage()` has it. */
  readonly size: number
  /** What it is best read by, in bytes. */
  readonly blksize: number
  /** In units of 512 bytes. CephFS counts holes too. */
  readonly blocks: number
  readonly atime: Date
  readonly mtime: Date
  readonly ctime: Date
  readonly birthtime: Date

  /** @internal */
  constructor(stat: NativeFileStat) {
    this.ino = stat.ino
    this.mode = stat.mode
    this.nlink = stat.nlink
    this.uid = stat.uid
    this.gid = stat.gid
    this.size = stat.size
    this.blksize = stat.blksize
    this.blocks = stat.blocks
    this.atime = stat.atime
    this.mtime = stat.mtime
    this.ctime = stat.ctime
    this.birthtime = stat.birthtime
  }

  #is(type: number): boolean {
    return (this.mode & typeMask) === type
  }

  isFile(): boolean {
    return this.#is(types.file)
  }

  isDirectory(): boolean {
    return this.#is(types.directory)
  }

  isSymbolicLink(): boolean {
    return this.#is(types.symbolicLink)
  }

  isFIFO(): boolean {
    return this.#is(types.fifo)
  }

  isSocket(): boolean {
    return this.#is(types.socket)
  }

  isCharacterDevice(): boolean {
    return this.#is(types.characterDevice)
  }

  isBlockDevice(): boolean {
    return this.#is(types.blockDevice)
  }
}
