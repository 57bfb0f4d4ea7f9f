import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkInteger, checkKey, checkMembers, checkText, wrongValue } from '../check.js'
import type { NativeConfigOption } from './bindings.js'
import type { Metadata } from './metadata.js'

export interface ConfigOption {
  /** Such as `rbd_qos_iops_limit`. */
  name: string
  value: string
  /** Where the value comes from: the cluster's configuration, or an override at the pool or the image. */
  source: 'config' | 'pool' | 'image'
}

/** A limit per second, of operations or of bytes. */
export interface QosLimit {
  limit: number
  /** What may be taken at once after a pause. Default: none beyond the limit. */
  burst?: number | undefined
}

/** `null` takes the override away; what is absent stays as it is. */
export interface QosChange {
  iops?: QosLimit | null | undefined
  readIops?: QosLimit | null | undefined
  writeIops?: QosLimit | null | undefined
  /** Bytes per second. */
  bps?: QosLimit | null | undefined
  readBps?: QosLimit | null | undefined
  writeBps?: QosLimit | null | undefined
}

export type Qos = { [K in keyof QosChange]?: QosLimit }

/** The one table of which limit is kept under which name: `<name>_limit` and `<name>_burst`. */
const qosOptions = {
  iops: 'rbd_qos_iops',
  readIops: 'rbd_qos_read_iops',
  writeIops: 'rbd_qos_write_iops',
  bps: 'rbd_qos_bps',
  readBps: 'rbd_qos_read_bps',
  writeBps: 'rbd_qos_write_bps',
} as const
const qosNames = Object.keys(qosOptions) as (keyof typeof qosOptions)[]

/** RBD keeps an override as metadata, under the option's name behind this. */
const overridePrefix = 'conf_'

/**
 * RBD's settings for one image, or for all images of a pool. Clients that have an image open take a change over as soon
 * as they hear of it.
 */
export class Config {
  readonly #owner: string
  /** None where settings can be read only: in one namespace of a pool. */
  readonly #metadata: Metadata | null
  readonly #list: (token?: AbortToken) => Promise<NativeConfigOption[]>

  /** @internal */
  constructor(owner: string, metadata: Metadata | null, list: (token?: AbortToken) => Promise<NativeConfigOption[]>) {
    this.#owner = owner
    this.#metadata = metadata
    this.#list = list
  }

  /**
   * All settings that can be overridden, as they are in effect.
   *
   * @implements rbd_config_image_list rbd_config_pool_list
   */
  async list(options: CallOptions = {}): Promise<ConfigOption[]> {
    return call({ kind: 'key', name: `${this.#owner}: settings` }, options, this.#list)
  }

  /**
   * Overrides a setting.
   *
   * @param name - Such as `rbd_cache`.
   * @throws {InvalidArgumentError} there is no such setting, or it cannot have that value
   * @throws {TypeError} the pool is opened at a namespace
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_metadata_set rbd_pool_metadata_set
   */
  async set(name: string, value: string, options: CallOptions = {}): Promise<void> {
    checkKey('name', name)
    checkText('value', value)
    await this.#overrides().set(overridePrefix + name, value, options)
  }

  /**
   * Takes an override away.
   *
   * @throws {NotFoundError} there is none
   * @throws {TypeError} the pool is opened at a namespace
   * @throws {ReadOnlyImageError}
   *
   * @implements rbd_metadata_remove rbd_pool_metadata_remove
   */
  async remove(name: string, options: CallOptions = {}): Promise<void> {
    checkKey('name', name)
    await this.#overrides().remove(overridePrefix + name, options)
  }

  /** The limits in effect; one that is absent does not limit. */
  async getQos(options: CallOptions = {}): Promise<Qos> {
    const values = new Map((await this.list(options)).map(({ name, value }) => [name, Number(value)]))
    const qos: Qos = {}
    for (const name of qosNames) {
      const limit = values.get(`${qosOptions[name]}_limit`)
      const burst = values.get(`${qosOptions[name]}_burst`)
      if (limit) qos[name] = burst ? { limit, burst } : { limit }
    }
    return qos
  }

  /**
   * Limits I/O. The limits are settings that are written one after the other: what fails, or is aborted, can leave some of
   * them as they were.
   *
   * @throws {RangeError} a burst below its limit
   * @throws {TypeError} the pool is opened at a namespace
   * @throws {ReadOnlyImageError}
   */
  async setQos(change: QosChange, options: CallOptions = {}): Promise<void> {
    checkMembers('change', change, qosNames)
    const wanted = qosNames.filter(name => change[name] !== undefined)
    for (const name of wanted) checkLimit(name, change[name] ?? null)
    for (const name of wanted) {
      const limit = change[name] ?? null
      await this.#override(`${qosOptions[name]}_limit`, limit?.limit, options)
      await this.#override(`${qosOptions[name]}_burst`, limit?.burst, options)
    }
  }

  async #override(option: string, value: number | undefined, options: CallOptions): Promise<void> {
    const overrides = this.#overrides()
    const key = overridePrefix + option
    if (value !== undefined) {
      await overrides.set(key, String(value), options)
    } else if ((await overrides.get(key, options)) !== undefined) {
      await overrides.remove(key, options)
    }
  }

  #overrides(): Metadata {
    if (this.#metadata !== null) return this.#metadata
    throw wrongValue('the pool', 'opened without a namespace, for its settings are those of all', this.#owner)
  }
}

function checkLimit(name: string, value: QosLimit | null): void {
  if (value === null) return
  checkMembers(name, value, ['limit', 'burst'])
  checkInteger(`${name}.limit`, value.limit, 1)
  if (value.burst !== undefined) checkInteger(`${name}.burst`, value.burst, value.limit)
}
