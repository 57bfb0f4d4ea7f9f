/** Paths in a file system, and names in its directories. */
import { checkKey, wrongType, wrongValue } from '../check.js'

/** Text, or bytes where a name is no UTF-8. From the root of the mount, with or without a `/` in front. */
export type FilePath = string | Uint8Array

/** Where CephFS shows the snapshots of each directory (`client_snapdir`). */
const snapshotFolder = '.snap'

/**
 * The path without what means nothing in it. libcephfs would climb by `..` out of the root of the mount, and what leads
 * to `..` depends on symbolic links, so that is refused.
 */
export function checkPath<P extends FilePath>(argument: string, value: P): P
export function checkPath(argument: string, value: unknown): FilePath {
  if (typeof value === 'string') return plainPath(argument, checkKey(argument, value), value)
  checkPathBytes(argument, value)
  return fromBytes(plainPath(argument, toBytes(value), value))
}

function checkPathBytes(argument: string, value: unknown): asserts value is Uint8Array {
  if (!(value instanceof Uint8Array) || value.buffer instanceof SharedArrayBuffer)
    throw wrongType(argument, 'a string, or a Buffer in memory that is not shared', value)
  if (value.length === 0 || value.includes(0)) throw wrongValue(argument, 'bytes without NUL, and not empty', value)
}

function plainPath(argument: string, path: string, value: FilePath): string {
  const names = path.split('/').filter(name => name !== '' && name !== '.')
  if (names.includes('..')) throw wrongValue(argument, "a path without '..'", value)
  return `/${names.join('/')}`
}

/**
 * Of something that can be made, removed or renamed: not the root. Nor the folder that shows snapshots, which libcephfs would
 * make and rename as if it were any other; what is in there is for `createSnapshot()` and `removeSnapshot()`.
 */
export function checkEntryPath<P extends FilePath>(argument: string, value: P): P {
  const path = checkPath(argument, value)
  const text = shownPath(path)
  if (text === '/') throw wrongValue(argument, 'a path below the root', value)
  if (text.split('/').includes(snapshotFolder)) throw wrongValue(argument, `a path without ${snapshotFolder}`, value)
  return path
}

/** For messages. */
export function shownPath(path: FilePath): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString()
}

/** With one character for each byte, for what is done to parts of a path. */
export function toBytes(path: FilePath): string {
  return Buffer.from(path).toString('latin1')
}

export function fromBytes(path: string): Buffer {
  return Buffer.from(path, 'latin1')
}

/** Both have been checked. */
export function joined(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

/** CephFS keeps names with `_` in front for those that a directory has from the ones above it. */
export function checkSnapshotName(argument: string, value: unknown): string {
  const name = checkKey(argument, value)
  if (name.includes('/') || name === '.' || name === '..' || name.startsWith('_'))
    throw wrongValue(argument, "a name without '/', and without '_' in front", value)
  return name
}

/** What a symbolic link leads to, which need not be there. */
export function checkTarget(argument: string, value: unknown): FilePath {
  if (typeof value === 'string') return checkKey(argument, value)
  checkPathBytes(argument, value)
  return value
}
