import type { AbortToken } from '../bindings.js'
import { type CallOptions, call, open } from '../call.js'
import { type FileSystem, type MountOptions, mountFileSystem } from '../cephfs/file-system.js'
import {
  checkData,
  checkInteger,
  checkKey,
  checkName,
  checkObject,
  checkOneOf,
  checkOptions,
  checkSeconds,
  checkText,
  wrongType,
  wrongValue,
} from '../check.js'
import { NotFoundError, PermissionError, type Resource, toCephError } from '../errors.js'
import { native } from '../native.js'
import { MiB } from '../units.js'
import type { ClusterHandle } from './bindings.js'
import { Pool, type WhenFull, whenFullChoices } from './pool.js'

export interface ConnectOptions extends CallOptions {
  /**
   * The configuration file, or null for none. Default: where Ceph's own programs look (`$CEPH_CONF`,
   * `/etc/ceph/ceph.conf`, …); it is an error if nothing is there, unless `options` has a `mon_host`.
   */
  configFile?: string | null | undefined
  /** The user's name without `client.`. Default: `admin`. */
  user?: string | undefined
  /** The user's keyring file. Default: `$CEPH_KEYRING`, or what the configuration says. */
  keyring?: string | undefined
  /** Ceph's own options, by their names in ceph.conf; they win over the file. */
  options?: Record<string, string> | undefined
  /**
   * How long to wait for the cluster, in milliseconds, rounded up to whole seconds: to connect, and for each answer of a
   * monitor, an OSD or an MDS. Default: 30,000, except where `options` set `client_mount_timeout` (which counts for MDSs),
   * `rados_mon_op_timeout` or `rados_osd_op_timeout`, or the file does, to other values than librados' own (300, 0 and 0).
   * 0 waits for ever.
   */
  timeout?: number | undefined
  /** The cluster's name. Default: `ceph`. */
  clusterName?: string | undefined
  /** For pools that are opened without a `whenFull` of their own. Default: `wait`. */
  whenFull?: WhenFull | undefined
}

export interface OpenPoolOptions extends CallOptions {
  /** Where names are looked up; it need not exist yet. Default: the pool's own, unnamed one. */
  namespace?: string | undefined
  /** What becomes of writes while the pool is full, or at its quota. Default: what `Cluster.connect()` was told. */
  whenFull?: WhenFull | undefined
}

export interface ClusterStat {
  totalBytes: number
  usedBytes: number
  availableBytes: number
  objects: number
}

export interface CommandOptions extends CallOptions {
  /** What the command reads, such as a keyring to import. Default: nothing. */
  input?: string | Uint8Array | undefined
}

/** A command as `ceph --verbose` shows it: `{ prefix: 'osd pool get', pool: 'rbd', var: 'size' }`. */
export interface Command {
  prefix: string
  [argument: string]: unknown
}

/** The options that `timeout` stands for, with librados' own values. The second is how long an unmount waits for an MDS. */
const timeouts = {
  client_mount_timeout: 300,
  client_shutdown_timeout: 30,
  rados_mon_op_timeout: 0,
  rados_osd_op_timeout: 0,
}
/**
 * How much librados has in flight before its asynchronous calls wait, and with them the event loop; 0 is without a limit.
 * With its own values of these.
 */
const throttles = { objecter_inflight_ops: 1024, objecter_inflight_op_bytes: 100 * MiB }
const defaultTimeout = 30_000

/**
 * A connection to a Ceph cluster. Costs about five threads; share one among everything that uses the same user.
 */
export class Cluster implements AsyncDisposable {
  /** @internal */
  readonly handle: ClusterHandle
  /** The user's name without `client.`. */
  readonly user: string
  readonly #resource: Resource
  readonly #whenFull: WhenFull
  /** Weak, so that one that is forgotten is closed. */
  #mounted: WeakRef<FileSystem>[] = []

  private constructor(handle: ClusterHandle, user: string, resource: Resource, whenFull: WhenFull) {
    this.handle = handle
    this.user = user
    this.#whenFull = whenFull
    this.#resource = resource
  }

  /**
   * Connects to a cluster.
   *
   * @throws {TimeoutError} no monitor answered in time
   * @throws {PermissionError} there is no key for the user, it is malformed, or the monitors do not accept it
   * @throws {NotFoundError} there is no configuration file, it names no monitors, or there is no such option
   * @throws {InvalidArgumentError} the file is no configuration, an option cannot have that value, or `mon_host` cannot
   *   be resolved
   *
   * @implements rados_create2 rados_conf_read_file rados_conf_get rados_conf_set rados_connect
   */
  static async connect(options: ConnectOptions = {}): Promise<Cluster> {
    checkOptions(options, ['configFile', 'user', 'keyring', 'options', 'timeout', 'clusterName', 'whenFull'])
    const {
      configFile,
      user = 'admin',
      keyring,
      options: cephOptions = {},
      timeout,
      clusterName = 'ceph',
      whenFull = 'wait',
      ...callOptions
    } = options
    const name = `client.${checkUser(user)}`
    const resource: Resource = { kind: 'cluster', name: `${checkKey('clusterName', clusterName)} as ${name}` }
    if (configFile !== undefined && configFile !== null) checkKey('configFile', configFile)
    if (timeout !== undefined) checkInteger('timeout', timeout, 0, 2 ** 31)
    checkOneOf('whenFull', whenFull, whenFullChoices)
    checkObject('options', cephOptions)
    const settings = Object.entries(cephOptions)
    for (const [option, value] of settings) checkSetting(option, value)
    if (keyring !== undefined) settings.push(['keyring', checkKey('keyring', keyring)])

    const create = (token: AbortToken | undefined) => native.clusterCreate(clusterName, name, token)
    const handle = await open(resource, callOptions, create, async handle => {
      if (configFile !== null)
        await readConfigFile(handle, configFile, 'mon_host' in cephOptions, resource, callOptions)
      for (const [option, value] of settings) await setOption(handle, option, value, callOptions)
      await setTimeouts(handle, timeout, cephOptions, callOptions)
      await setUnlessSet(handle, throttles, '0', cephOptions, callOptions)
      await connect(handle, resource, callOptions)
    })
    return new Cluster(handle, user, resource, whenFull)
  }

  /** The version of the librados in use. @implements rados_version */
  static get libraryVersion(): string {
    const { major, minor, extra } = native.radosVersion()
    return `${major}.${minor}.${extra}`
  }

  get closed(): boolean {
    return !native.isOpen(this.handle)
  }

  /** The cluster's id, a UUID. @implements rados_cluster_fsid */
  async fsid(options: CallOptions = {}): Promise<string> {
    return call(this.#resource, options, token => native.clusterFsid(this.handle, token))
  }

  /** Whether another connection is to the same cluster. @internal */
  async isSameAs(other: Cluster, options: CallOptions): Promise<boolean> {
    return other === this || (await this.fsid(options)) === (await other.fsid(options))
  }

  /** What the cluster holds, in raw bytes: replicas count. @implements rados_cluster_stat */
  async stat(options: CallOptions = {}): Promise<ClusterStat> {
    return call(this.#resource, options, token => native.clusterStat(this.handle, token))
  }

  /** The id under which the cluster knows this connection, as in `client.4123`. @implements rados_get_instance_id */
  async instanceId(options: CallOptions = {}): Promise<bigint> {
    return call(this.#resource, options, token => native.clusterInstanceId(this.handle, token))
  }

  /**
   * The oldest of Ceph's releases whose clients the cluster works with, as a number: 12 is Luminous, 13 is Mimic.
   *
   * @implements rados_get_min_compatible_client
   */
  async minCompatibleClient(options: CallOptions = {}): Promise<number> {
    return call(this.#resource, options, token => native.clusterMinCompatibleClient(this.handle, token))
  }

  /** The address under which the cluster knows this connection; what a blocklist names. @implements rados_getaddrs */
  async addresses(options: CallOptions = {}): Promise<string> {
    return call(this.#resource, options, token => native.clusterAddresses(this.handle, token))
  }

  /**
   * The value that one of Ceph's options has in this connection.
   *
   * @throws {NotFoundError} there is no such option
   *
   * @implements rados_conf_get
   */
  async getOption(option: string, options: CallOptions = {}): Promise<string> {
    checkKey('option', option)
    const resource: Resource = { kind: 'key', name: option }
    return call(resource, options, token => native.clusterGetOption(this.handle, option, token))
  }

  /**
   * Sets one of Ceph's options for this connection. Those that librados reads when it connects have no effect any more.
   *
   * @throws {NotFoundError} there is no such option
   * @throws {InvalidArgumentError} it cannot have that value
   * @throws {NotSupportedError} it cannot be changed in a connection
   *
   * @implements rados_conf_set
   */
  async setOption(option: string, value: string, options: CallOptions = {}): Promise<void> {
    checkSetting(option, value)
    await setOption(this.handle, option, value, options)
  }

  /**
   * Sends a command to the monitors. JSON is asked for unless the command has a `format`; what comes back is parsed if
   * it is JSON, and text otherwise.
   *
   * @throws {CephError} with the monitors' own words in the message: an InvalidArgumentError when they do not know the
   *   command
   *
   * @implements rados_mon_command
   */
  async monCommand<T = unknown>(command: Command, options: CommandOptions = {}): Promise<T> {
    return this.#command('mon', command, options, (...rest) => native.clusterMonCommand(this.handle, ...rest))
  }

  /** Sends a command to the active manager, as `monCommand` does to the monitors. @implements rados_mgr_command */
  async mgrCommand<T = unknown>(command: Command, options: CommandOptions = {}): Promise<T> {
    return this.#command('mgr', command, options, (...rest) => native.clusterMgrCommand(this.handle, ...rest))
  }

  /**
   * Sends a command to one OSD, as `monCommand` does to the monitors.
   *
   * @throws {NotFoundError} there is no such OSD
   *
   * @implements rados_osd_command
   */
  async osdCommand<T = unknown>(osd: number, command: Command, options: CommandOptions = {}): Promise<T> {
    checkInteger('osd', osd, 0, 2 ** 31 - 1)
    const send = (...rest: CommandArguments) => native.clusterOsdCommand(this.handle, osd, ...rest)
    return this.#command(`osd.${osd}`, command, options, send)
  }

  /**
   * Sends a command to a placement group, such as `1.0`, by way of its primary OSD.
   *
   * @throws {NotFoundError} there is no such pool
   * @throws {InvalidArgumentError} that is no placement group
   *
   * @implements rados_pg_command
   */
  async pgCommand<T = unknown>(pg: string, command: Command, options: CommandOptions = {}): Promise<T> {
    checkKey('pg', pg)
    const send = (...rest: CommandArguments) => native.clusterPgCommand(this.handle, pg, ...rest)
    return this.#command(`pg ${pg}`, command, options, send)
  }

  async #command<T>(to: string, command: Command, options: CommandOptions, send: SendCommand): Promise<T> {
    checkObject('command', command)
    const prefix = checkKey('command.prefix', command.prefix)
    const json = toJson({ format: 'json', ...command })
    checkOptions(options, ['input'])
    const { input = '', ...callOptions } = options
    const data = checkData('input', input)
    const resource: Resource = { kind: 'cluster', name: `${to}: ${prefix}` }
    const { output } = await call(resource, callOptions, token => send(json, data, token))
    return parsed(output.toString()) as T
  }

  /** The names of all pools. @implements rados_pool_list */
  async listPools(options: CallOptions = {}): Promise<string[]> {
    return call(this.#resource, options, token => native.clusterListPools(this.handle, token))
  }

  /**
   * Makes a pool with the cluster's default settings. `pool.initialize()` then makes it one for RBD.
   *
   * @throws {PoolExistsError}
   *
   * @implements rados_pool_create
   */
  async createPool(name: string, options: CallOptions = {}): Promise<void> {
    checkName('name', name)
    await call({ kind: 'pool', name }, options, token => native.clusterCreatePool(this.handle, name, token))
  }

  /**
   * Deletes a pool with all that is in it. The monitors refuse unless `mon_allow_pool_delete` is set.
   *
   * @throws {PoolNotFoundError}
   * @throws {PermissionError} the monitors do not allow it
   *
   * @implements rados_pool_delete
   */
  async deletePool(name: string, options: CallOptions = {}): Promise<void> {
    checkName('name', name)
    await call({ kind: 'pool', name }, options, token => native.clusterDeletePool(this.handle, name, token))
  }

  /**
   * Opens a pool.
   *
   * @throws {PoolNotFoundError}
   *
   * @implements rados_ioctx_create rados_ioctx_set_namespace rados_ioctx_get_id rados_set_pool_full_try
   */
  async openPool(name: string, options: OpenPoolOptions = {}): Promise<Pool> {
    checkName('name', name)
    checkOptions(options, ['namespace', 'whenFull'])
    const { namespace = '', whenFull = this.#whenFull, ...callOptions } = options
    if (namespace !== '') checkName('namespace', namespace)
    const fullTry = checkOneOf('whenFull', whenFull, whenFullChoices) !== 'wait'
    const resource: Resource = { kind: 'pool', name: namespace ? `${name}/${namespace}` : name }
    let id = 0
    const handle = await open(
      resource,
      callOptions,
      token => native.ioctxOpen(this.handle, name, namespace, fullTry, token),
      async (handle, token) => {
        id = await native.ioctxId(handle, token)
      },
    )
    return new Pool(this, handle, { id, name, namespace, whenFull })
  }

  /**
   * Mounts a CephFS, in this process. It has a connection of its own, with this one's configuration and user, and waits for the
   * MDSs as long as this one's `timeout` (`client_mount_timeout`) says.
   *
   * @throws {MissingLibraryError} libcephfs is not installed
   * @throws {NotFoundError} there is no such file system, or no such directory to be the root
   * @throws {PermissionError} the MDS caps of this user do not allow it
   * @throws {TimeoutError} no MDS answered in time
   *
   * @implements ceph_create_from_rados ceph_init ceph_select_filesystem ceph_userperm_new ceph_mount_perms_set ceph_mount
   */
  async mountFileSystem(options: MountOptions = {}): Promise<FileSystem> {
    const files = await mountFileSystem(this, options)
    this.#mounted = [...this.#mounted.filter(one => one.deref()?.closed === false), new WeakRef(files)]
    return files
  }

  /** The pool's id. @throws {PoolNotFoundError} @implements rados_pool_lookup */
  async poolId(name: string, options: CallOptions = {}): Promise<number> {
    checkName('name', name)
    return call({ kind: 'pool', name }, options, token => native.clusterLookUpPool(this.handle, name, token))
  }

  /** The name of the pool with that id. @throws {PoolNotFoundError} @implements rados_pool_reverse_lookup */
  async poolName(id: number, options: CallOptions = {}): Promise<string> {
    checkInteger('id', id)
    const resource: Resource = { kind: 'pool', name: `id ${id}` }
    return call(resource, options, token => native.clusterReverseLookUpPool(this.handle, id, token))
  }

  /**
   * Waits until this connection has the newest map of the OSDs, and with it changes that others made to pools.
   *
   * @implements rados_wait_for_latest_osdmap
   */
  async waitForLatestOsdmap(options: CallOptions = {}): Promise<void> {
    await call(this.#resource, options, token => native.clusterWaitForLatestOsdmap(this.handle, token))
  }

  /**
   * Shuts a client out of the cluster, whatever it has in flight: before its locks are broken, for instance. What it
   * calls from then on rejects with a BlocklistedError.
   *
   * @param address - As in a watcher's or a locker's `address`.
   * @param options.duration - For how long, in milliseconds, rounded up to whole seconds: until the year 2106 at the
   *   longest. Default: the monitors' default, an hour.
   * @throws {InvalidArgumentError} that is no address
   *
   * @implements rados_blocklist_add
   */
  async blocklist(address: string, options: CallOptions & { duration?: number | undefined } = {}): Promise<void> {
    checkKey('address', address)
    checkOptions(options, ['duration'])
    const { duration, ...callOptions } = options
    // librados takes 0 for the default.
    const seconds = duration === undefined ? 0 : checkSeconds('duration', duration, 1)
    const resource: Resource = { kind: 'cluster', name: address }
    await call(resource, callOptions, token => native.clusterBlocklistAdd(this.handle, address, seconds, token))
  }

  /**
   * Closes the connection, and first everything that was opened through it, each after its calls in flight. Safe to
   * call again. Every call after it rejects with a ClosedError.
   *
   * @throws {TimeoutError} a file system could not be unmounted in time: it goes on unheard
   *
   * @implements rados_shutdown
   */
  async close(): Promise<void> {
    await call(this.#resource, {}, async () => {
      const closing = native.close(this.handle)
      closing.catch(() => {}) // nobody hears of it when an unmount fails
      await Promise.all(this.#mounted.map(one => one.deref()?.close()))
      await closing
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

type CommandArguments = [command: string, input: Uint8Array, token: Parameters<typeof native.clusterMonCommand>[3]]
type SendCommand = (...rest: CommandArguments) => Promise<{ output: Buffer; status: string }>

function toJson(command: object): string {
  try {
    return JSON.stringify(command)
  } catch {
    throw wrongValue('command', 'of what JSON can hold', command)
  }
}

function parsed(output: string): unknown {
  try {
    return JSON.parse(output)
  } catch {
    return output // not every command knows JSON
  }
}

/** Says nothing of the value, which may be a key. */
function checkUser(value: unknown): string {
  const user = checkKey('user', value)
  if (user.startsWith('client.')) throw wrongValue('user', 'the name without client. in front', user)
  return user
}

function checkSetting(option: string, value: unknown): void {
  checkKey('the name of an option', option)
  if (typeof value !== 'string') throw wrongType(`option ${option}`, 'a string', `a ${typeof value}`)
  try {
    checkText(`option ${option}`, value)
  } catch {
    throw wrongValue(`option ${option}`, 'well-formed Unicode without NUL', 'something else')
  }
}

async function readConfigFile(
  handle: ClusterHandle,
  path: string | undefined,
  namesMonitors: boolean,
  resource: Resource,
  options: CallOptions,
): Promise<void> {
  const file: Resource = { kind: 'key', name: path ?? `configuration of ${resource.name}` }
  try {
    await call(file, options, token => native.clusterReadConfigFile(handle, path ?? null, token))
  } catch (error) {
    const optional = path === undefined && namesMonitors
    if (!(optional && (error as { code?: string }).code === 'ENOENT')) throw error
  }
}

async function setOption(handle: ClusterHandle, option: string, value: string, options: CallOptions): Promise<void> {
  await call({ kind: 'key', name: option }, options, token => native.clusterSetOption(handle, option, value, token))
}

async function setTimeouts(
  handle: ClusterHandle,
  timeout: number | undefined,
  cephOptions: Record<string, string>,
  options: CallOptions,
): Promise<void> {
  const seconds = String(Math.ceil((timeout ?? defaultTimeout) / 1000))
  if (timeout === undefined) return setUnlessSet(handle, timeouts, seconds, cephOptions, options)
  for (const option of Object.keys(timeouts)) {
    if (!(option in cephOptions)) await setOption(handle, option, seconds, options)
  }
}

/** Which key was not there, or not enough, can be seen only from where it was looked for. */
async function connect(handle: ClusterHandle, resource: Resource, options: CallOptions): Promise<void> {
  try {
    await call(resource, options, token => native.clusterConnect(handle, token))
  } catch (error) {
    if (!(error instanceof PermissionError || error instanceof NotFoundError)) throw error
    const keyring = await native.clusterGetOption(handle, 'keyring')
    throw toCephError({ ...error, message: `keyring: ${keyring}` }, resource)
  }
}

/** Only where neither the caller nor the configuration says otherwise than librados does by itself. */
async function setUnlessSet(
  handle: ClusterHandle,
  libraryDefaults: Record<string, number>,
  value: string,
  cephOptions: Record<string, string>,
  options: CallOptions,
): Promise<void> {
  for (const [option, libraryDefault] of Object.entries(libraryDefaults)) {
    if (option in cephOptions) continue
    const current = await native.clusterGetOption(handle, option)
    if (Number(current) === libraryDefault) await setOption(handle, option, value, options)
  }
}
