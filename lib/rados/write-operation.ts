import {
  checkBoolean,
  checkBytes,
  checkData,
  checkInteger,
  checkKey,
  checkOneOf,
  checkOptions,
  wrongType,
} from '../check.js'
import type { NativeWriteStep } from '../native.js'

export type Bytes = string | Uint8Array
export type Comparison = 'eq' | 'ne' | 'gt' | 'gte' | 'lt' | 'lte'

const comparisons = ['eq', 'ne', 'gt', 'gte', 'lt', 'lte'] as const

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
    checkOptions(options, ['exclusive'])
    return this.#add(['create', checkBoolean('exclusive', options.exclusive ?? true)])
  }

  /** @implements rados_write_op_assert_exists */
  assertExists(): this {
    return this.#add(['assertExists'])
  }

  /** Only if nobody has written since a read answered this version. @implements rados_write_op_assert_version */
  assertVersion(version: number): this {
    return this.#add(['assertVersion', checkInteger('version', version)])
  }

  /** Only if `value` compares so to the attribute's: `eq` means they are the same. @implements rados_write_op_cmpxattr */
  compareXattr(name: string, comparison: Comparison, value: Bytes): this {
    checkOneOf('comparison', comparison, comparisons)
    return this.#add(['compareXattr', checkKey('name', name), comparison, checkData('value', value)])
  }

  /** Only if `value` compares so to the key's. A key that is absent counts as empty. @implements rados_write_op_omap_cmp2 */
  compareOmap(key: string, comparison: Comparison, value: Bytes): this {
    checkOneOf('comparison', comparison, comparisons)
    return this.#add(['compareOmap', checkKey('key', key), comparison, checkData('value', value)])
  }

  /** @implements rados_write_op_write */
  write(data: Bytes, offset = 0): this {
    return this.#add(['write', checkData('data', data), checkBytes('offset', offset)])
  }

  /** Replaces all data. @implements rados_write_op_write_full */
  writeFull(data: Bytes): this {
    return this.#add(['writeFull', checkData('data', data)])
  }

  /** @implements rados_write_op_append */
  append(data: Bytes): this {
    return this.#add(['append', checkData('data', data)])
  }

  /** @implements rados_write_op_truncate */
  truncate(size: number): this {
    return this.#add(['truncate', checkBytes('size', size)])
  }

  /** @implements rados_write_op_zero */
  zero(offset: number, length: number): this {
    return this.#add(['zero', checkBytes('offset', offset), checkBytes('length', length)])
  }

  /** @implements rados_write_op_remove */
  remove(): this {
    return this.#add(['remove'])
  }

  /** @implements rados_write_op_setxattr */
  setXattr(name: string, value: Bytes): this {
    return this.#add(['setXattr', checkKey('name', name), checkData('value', value)])
  }

  /** @implements rados_write_op_rmxattr */
  removeXattr(name: string): this {
    return this.#add(['removeXattr', checkKey('name', name)])
  }

  /** @implements rados_write_op_omap_set2 */
  setOmap(entries: Record<string, Bytes> | Iterable<readonly [key: string, value: Bytes]>): this {
    if (typeof entries !== 'object' || entries === null) throw wrongType('entries', 'an object or a Map', entries)
    const pairs = Symbol.iterator in entries ? [...entries] : Object.entries(entries)
    const checked = pairs.map(([key, value]): [string, Uint8Array] => [
      checkKey('key', key),
      checkData(`the value of ${key}`, value),
    ])
    return this.#add(['setOmap', checked])
  }

  /** @implements rados_write_op_omap_rm_keys2 */
  removeOmap(keys: readonly string[]): this {
    return this.#add(['removeOmap', keys.map(key => checkKey('key', key))])
  }

  /** @implements rados_write_op_omap_clear */
  clearOmap(): this {
    return this.#add(['clearOmap'])
  }
}
