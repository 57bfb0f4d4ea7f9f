import {
  checkBoolean,
  checkBytes,
  checkData,
  checkInteger,
  checkKey,
  checkKeys,
  checkMembers,
  checkOneOf,
  wrongType,
} from '../check.js'
import type { NativeWriteStep } from './bindings.js'

export type Bytes = string | Uint8Array
export type OmapEntries = Readonly<Record<string, Bytes>> | Iterable<readonly [key: string, value: Bytes]>
export type Comparison = 'eq' | 'ne' | 'gt' | 'gte' | 'lt' | 'lte'
/** An OSD knows no others for the omap. */
export type OmapComparison = 'eq' | 'gt' | 'lt'

/**
 * RADOS asks whether the value is greater than the attribute, and for the omap whether the key's is greater than the
 * value.
 */
const xattrComparisons = { eq: 'eq', ne: 'ne', gt: 'lt', gte: 'lte', lt: 'gt', lte: 'gte' } as const
const comparisons = ['eq', 'ne', 'gt', 'gte', 'lt', 'lte'] as const
const omapComparisons = ['eq', 'gt', 'lt'] as const

/**
 * Steps that the OSD does in order, all or none. Assertions and comparisons among them make the rest conditional: when
 * one does not hold, the operation fails with a ConflictError (or ObjectExistsError, ObjectNotFoundError) and nothing
 * has changed.
 *
 * @example
 * await object.operate(new WriteOperation().assertVersion(version).setOmap({ state: 'done' }))
 */
export class WriteOperation {
  /** @internal */
  readonly steps: NativeWriteStep[] = []

  #add(step: NativeWriteStep): this {
    this.steps.push(step)
    return this
  }

  /**
   * Makes the object.
   *
   * @param options.exclusive - Fail with ObjectExistsError if it is there. Default: true.
   *
   * @implements rados_write_op_create
   */
  create(options: { exclusive?: boolean | undefined } = {}): this {
    checkMembers('options', options, ['exclusive'])
    const { exclusive = true } = options
    return this.#add(['create', checkBoolean('exclusive', exclusive)])
  }

  /** Only if the object is there. @implements rados_write_op_assert_exists */
  assertExists(): this {
    return this.#add(['assertExists'])
  }

  /** Only if nobody has written since a read answered this version. @implements rados_write_op_assert_version */
  assertVersion(version: number): this {
    return this.#add(['assertVersion', checkInteger('version', version, 1)])
  }

  /**
   * Only if the attribute compares so to `value`, byte by byte: with `gt`, if it is the greater. One that is absent
   * counts as empty.
   *
   * @implements rados_write_op_cmpxattr
   */
  compareXattr(name: string, comparison: Comparison, value: Bytes): this {
    const swapped = xattrComparisons[checkOneOf('comparison', comparison, comparisons)]
    return this.#add(['compareXattr', checkKey('name', name), swapped, checkData('value', value)])
  }

  /**
   * Only if the key's value compares so to `value`, byte by byte. A key that is absent counts as empty.
   *
   * @implements rados_write_op_omap_cmp2
   */
  compareOmap(key: string, comparison: OmapComparison, value: Bytes): this {
    checkOneOf('comparison', comparison, omapComparisons)
    return this.#add(['compareOmap', checkKey('key', key), comparison, checkData('value', value)])
  }

  /** Writes at an offset, in bytes. The object is made if need be. @implements rados_write_op_write */
  write(data: Bytes, offset = 0): this {
    return this.#add(['write', checkData('data', data), checkBytes('offset', offset)])
  }

  /** Replaces all data. The object is made if need be. @implements rados_write_op_write_full */
  writeFull(data: Bytes): this {
    return this.#add(['writeFull', checkData('data', data)])
  }

  /** Writes behind what is there. The object is made if need be. @implements rados_write_op_append */
  append(data: Bytes): this {
    return this.#add(['append', checkData('data', data)])
  }

  /**
   * Makes the object shorter, or longer by zeroes, to a size in bytes. One that is not there stays so.
   *
   * @implements rados_write_op_truncate
   */
  truncate(size: number): this {
    return this.#add(['truncate', checkBytes('size', size)])
  }

  /**
   * Makes a range read as zeroes; offset and length in bytes. One that goes to the end of the object, or beyond, is cut off
   * instead: the object is shorter then. Nothing happens to one that is not there.
   *
   * @implements rados_write_op_zero
   */
  zero(offset: number, length: number): this {
    return this.#add(['zero', checkBytes('offset', offset), checkBytes('length', length)])
  }

  /** Removes the object, which must be there. @implements rados_write_op_remove */
  remove(): this {
    return this.#add(['remove'])
  }

  /** Sets an attribute. The object is made if need be. @implements rados_write_op_setxattr */
  setXattr(name: string, value: Bytes): this {
    return this.#add(['setXattr', checkKey('name', name), checkData('value', value)])
  }

  /** Removes an attribute, if it is there. The object must be. @implements rados_write_op_rmxattr */
  removeXattr(name: string): this {
    return this.#add(['removeXattr', checkKey('name', name)])
  }

  /** Sets values in the omap, and leaves others. The object is made if need be. @implements rados_write_op_omap_set2 */
  setOmap(entries: OmapEntries): this {
    if (typeof entries !== 'object' || entries === null) throw wrongType('entries', 'an object or a Map', entries)
    const pairs: unknown[] = Symbol.iterator in entries ? [...entries] : Object.entries(entries)
    return this.#add(['setOmap', pairs.map(checkPair)])
  }

  /** Removes keys from the omap, those that are there. The object must be. @implements rados_write_op_omap_rm_keys2 */
  removeOmap(keys: readonly string[]): this {
    return this.#add(['removeOmap', checkKeys('keys', keys)])
  }

  /** Removes all keys from the omap. The object must be there. @implements rados_write_op_omap_clear */
  clearOmap(): this {
    return this.#add(['clearOmap'])
  }
}

function checkPair(pair: unknown): [string, Uint8Array] {
  if (!Array.isArray(pair)) throw wrongType('a member of entries', 'a pair of key and value', pair)
  const key = checkKey('key', pair[0])
  return [key, checkData(`the value of ${key}`, pair[1])]
}
