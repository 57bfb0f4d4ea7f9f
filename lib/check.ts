/** Checks of arguments, in the words of a user. Each returns what it was given, or throws before anything reaches C. */
import { inspect } from 'node:util'

class ArgumentTypeError extends TypeError {
  readonly code = 'ERR_INVALID_ARG_TYPE'
}
class ArgumentValueError extends TypeError {
  readonly code = 'ERR_INVALID_ARG_VALUE'
}
class ArgumentRangeError extends RangeError {
  readonly code = 'ERR_OUT_OF_RANGE'
}
for (const [ErrorClass, name] of [
  [ArgumentTypeError, 'TypeError'],
  [ArgumentValueError, 'TypeError'],
  [ArgumentRangeError, 'RangeError'],
] as const) {
  Object.defineProperty(ErrorClass.prototype, 'name', { value: name, configurable: true, writable: true })
}

function shown(value: unknown): string {
  const text = inspect(value, { depth: 0 })
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

export function wrongType(argument: string, expected: string, value: unknown): TypeError {
  return new ArgumentTypeError(`${argument} must be ${expected}; got ${shown(value)}`)
}

export function wrongValue(argument: string, expected: string, value: unknown): TypeError {
  return new ArgumentValueError(`${argument} must be ${expected}; got ${shown(value)}`)
}

export function outOfRange(argument: string, expected: string, value: unknown): RangeError {
  return new ArgumentRangeError(`${argument} must be ${expected}; got ${shown(value)}`)
}

export function checkInteger(argument: string, value: unknown, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number') throw wrongType(argument, 'a number', value)
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw outOfRange(argument, `an integer from ${min} to ${max}`, value)
  }
  return value
}

/** A size, length or offset in bytes. */
export function checkBytes(argument: string, value: unknown): number {
  return checkInteger(argument, value)
}

export function checkBoolean(argument: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw wrongType(argument, 'a boolean', value)
  return value
}

/** Text for C: a string that survives the way there, so without NUL and well-formed. */
export function checkText(argument: string, value: unknown): string {
  if (typeof value !== 'string') throw wrongType(argument, 'a string', value)
  if (value.includes('\0')) throw wrongValue(argument, 'a string without NUL', value)
  if (!isWellFormed(value)) throw wrongValue(argument, 'well-formed Unicode', value)
  return value
}

/** Milliseconds, from `min` on. @returns Whole seconds, rounded up, for C functions that count them in 32 bits. */
export function checkSeconds(argument: string, value: unknown, min = 0): number {
  return Math.ceil(checkInteger(argument, value, min, (2 ** 32 - 1) * 1000) / 1000)
}

/** Text that must not be empty, such as a key or a cookie. */
export function checkKey(argument: string, value: unknown): string {
  const text = checkText(argument, value)
  if (text === '') throw wrongValue(argument, 'a string that is not empty', value)
  return text
}

/** As long as an OSD lets an object's name be (`osd max object name len`). */
const maxObjectNameBytes = 2048

export function checkObjectName(argument: string, value: unknown): string {
  const name = checkKey(argument, value)
  if (Buffer.byteLength(name) > maxObjectNameBytes) {
    throw wrongValue(argument, `at most ${maxObjectNameBytes} bytes long`, value)
  }
  return name
}

/** An image's name becomes that of an object, behind this. */
const imageIdPrefix = 'rbd_id.'

/**
 * The name of a pool, namespace, image or snapshot. Those with / or @ could not be told apart in `pool/image@snapshot`;
 * an image that has one all the same can be opened by its id.
 */
export function checkName(argument: string, value: unknown): string {
  const name = checkKey(argument, value)
  if (/[/@]/.test(name)) throw wrongValue(argument, 'a name without / and @', value)
  const max = maxObjectNameBytes - imageIdPrefix.length
  if (Buffer.byteLength(name) > max) throw wrongValue(argument, `at most ${max} bytes long`, value)
  return name
}

export function checkOneOf<T extends string | number>(argument: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) throw wrongValue(argument, `one of ${allowed.join(', ')}`, value)
  return value as T
}

/** As bytes, for Node-API does not know of every TypedArray how large its elements are. */
export function checkView(argument: string, value: unknown): Uint8Array {
  if (!ArrayBuffer.isView(value)) throw wrongType(argument, 'a Buffer, TypedArray or DataView', value)
  const view = checkInPlace(argument, checkNotShared(argument, value as NodeJS.ArrayBufferView))
  return view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}

/** librados counts the bytes of one call in an int. */
const maxDataBytes = 2 ** 31 - 1

/** Bytes to be copied: a Buffer or Uint8Array, or a string, which becomes UTF-8. */
export function checkData(argument: string, value: unknown): Uint8Array {
  if (typeof value === 'string') {
    if (!isWellFormed(value)) throw wrongValue(argument, 'well-formed Unicode', value)
    return Buffer.from(value)
  }
  if (!(value instanceof Uint8Array)) throw wrongType(argument, 'a Buffer, Uint8Array or string', value)
  if (value.length > maxDataBytes) throw outOfRange(argument, `at most ${maxDataBytes} bytes long`, value.length)
  return checkNotShared(argument, value)
}

/** Other threads could change it while it is sent, which its checksum does not forgive. */
function checkNotShared<View extends NodeJS.ArrayBufferView>(argument: string, view: View): View {
  if (view.buffer instanceof SharedArrayBuffer) throw wrongType(argument, 'in memory that is not shared', view)
  return view
}

/**
 * Memory for a call that uses it in place. It cannot be made smaller; that it is not taken away before the call has settled, by
 * a transfer to another thread, is the caller's part: Node-API has no way to hold it.
 */
function checkInPlace(argument: string, view: NodeJS.ArrayBufferView): NodeJS.ArrayBufferView {
  const { buffer } = view
  if (isResizable(buffer)) throw wrongType(argument, 'in memory that cannot be resized', buffer)
  if (buffer.byteLength === 0 && isDetached(buffer)) throw wrongType(argument, 'in memory that is not detached', buffer)
  return view
}

// Both are in Node 20, but not in the ES2023 that TypeScript checks against; `detached` comes with Node 22.
function isResizable(buffer: ArrayBufferLike): boolean {
  return (buffer as ArrayBufferLike & { resizable: boolean }).resizable
}

function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    return new Uint8Array(buffer).length > 0
  } catch {
    return true
  }
}

export function checkKeys(argument: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw wrongType(argument, 'an array of strings', value)
  return Array.from(value, key => checkKey(`a member of ${argument}`, key))
}

/** A plain object, and not one that merely is of type 'object': an array, a Date, an AbortSignal. */
export function checkObject(argument: string, value: unknown): object {
  if (Object.prototype.toString.call(value) !== '[object Object]') throw wrongType(argument, 'an object', value)
  return value as object
}

/** An object with these members only, so that a misspelt one is an error and not a default. */
export function checkMembers(argument: string, value: unknown, allowed: readonly string[]): void {
  for (const key of Object.keys(checkObject(argument, value))) {
    if (!allowed.includes(key)) throw wrongValue(argument, `an object of ${allowed.join(', ')}`, { [key]: '...' })
  }
}

const optionsOfEveryCall = ['signal', 'onProgress']

/** The options of a call that has these of its own. */
export function checkOptions(value: unknown, own: readonly string[]): void {
  checkMembers('options', value, [...own, ...optionsOfEveryCall])
}

/** The options that every call has, and those of its own. */
export function checkCallOptions(value: { signal?: unknown; onProgress?: unknown }, own: readonly string[] = []): void {
  checkOptions(value, own)
  const { signal, onProgress } = value
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrongType('signal', 'an AbortSignal', signal)
  if (onProgress !== undefined) checkFunction('onProgress', onProgress)
}

export function checkFunction(argument: string, value: unknown): void {
  if (typeof value !== 'function') throw wrongType(argument, 'a function', value)
}

// String.prototype.isWellFormed is in Node 20, but not in the ES2023 that TypeScript checks against.
export function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}
