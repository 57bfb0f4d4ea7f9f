import { isIPv4 } from 'node:net'
import { resolve } from 'node:path'
import { StackConflictError, StackOptionError } from './errors.js'
import { LOOPBACK } from './ports.js'

/** What a stack can have besides the block cluster (monitor, manager, OSDs). */
export const SERVICES = ['mds', 'radosgw', 'dashboard', 'rabbitmq', 'tgt'] as const
export type Service = (typeof SERVICES)[number]

/** Where an OSD keeps its objects: in memory, or with BlueStore in a file of the state folder. */
export const STORES = ['memstore', 'bluestore'] as const
export type Store = (typeof STORES)[number]

export interface StackOptions {
  /** The state folder. Everything that the stack writes is in it. */
  dir: string
  /**
   * The address of this machine at which Ceph's daemons listen, for clients in virtual machines. Default: 127.0.0.1, where
   * the other services always are.
   */
  address?: string | undefined
  /** Number of OSDs. Default: 1. */
  osds?: number | undefined
  /** Default: memstore. */
  store?: Store | undefined
  /** What each OSD offers, in bytes; space is taken as it is used. Default: 8 GiB. */
  osdBytes?: number | undefined
  /**
   * Commit monitor changes (snapshot ids, pools …) within 20 ms. false keeps Ceph's own pace, up to a second a commit.
   * Default: true.
   */
  fastCommits?: boolean | undefined
  /** Default: none, the block cluster alone. */
  services?: Service[] | undefined
  /** Gives up, and takes down what was started. */
  signal?: AbortSignal | undefined
  /** Called as each part becomes ready. */
  onReady?: ((part: ReadyPart) => void) | undefined
}

export interface ReadyPart {
  part: string
  /** Milliseconds since the start of the whole stack. */
  atMs: number
}

/** The settings of a stack with every default filled in, as its folder records them. */
export interface StackSettings {
  address: string
  osds: number
  store: Store
  osdBytes: number
  fastCommits: boolean
  services: Service[]
}

const GiB = 2 ** 30

const DEFAULTS: StackSettings = {
  address: LOOPBACK,
  osds: 1,
  store: 'memstore',
  osdBytes: 8 * GiB,
  fastCommits: true,
  services: [],
}

/** What a running stack is not changed in; services are what can be added to one. */
const FIXED = ['address', 'osds', 'store', 'osdBytes', 'fastCommits'] as const

export function compileSettings(options: StackOptions): StackSettings {
  checkOptions(options)
  const { address, osds, store, osdBytes, fastCommits, services } = options
  return {
    address: address ?? DEFAULTS.address,
    osds: osds ?? DEFAULTS.osds,
    store: store ?? DEFAULTS.store,
    osdBytes: osdBytes ?? DEFAULTS.osdBytes,
    fastCommits: fastCommits ?? DEFAULTS.fastCommits,
    services: services ?? DEFAULTS.services,
  }
}

/** The services that a running stack lacks. It loses none that it is not asked for, as others may be using them. */
export function servicesToAdd(running: StackSettings, options: StackOptions): Service[] {
  for (const setting of FIXED) {
    const asked = options[setting]
    if (asked !== undefined && asked !== running[setting]) throw new StackConflictError(inWords(running)[setting])
  }
  return SERVICES.filter(service => options.services?.includes(service) && !running.services.includes(service))
}

/** As `up` is asked for it. */
function inWords({
  address,
  osds,
  store,
  osdBytes,
  fastCommits,
}: StackSettings): Record<(typeof FIXED)[number], string> {
  return {
    address: `at ${address}`,
    osds: `with ${osds} ${osds === 1 ? 'OSD' : 'OSDs'}`,
    store: `with store ${store}`,
    osdBytes: `with OSD size ${osdBytes / GiB} GiB`,
    fastCommits: `${fastCommits ? 'without' : 'with'} slow commits`,
  }
}

/** The folder as an absolute path: it names the stack, whatever the current folder is later. */
export function resolveDir(dir: unknown): string {
  if (typeof dir !== 'string' || dir === '' || dir.includes('\0')) throw new StackOptionError('dir', 'a path', dir)
  return resolve(dir)
}

function checkOptions({ address, osds, store, osdBytes, services }: StackOptions): void {
  if (address !== undefined && !isIPv4(address)) throw new StackOptionError('address', 'an IPv4 address', address)
  if (osds !== undefined && !(Number.isInteger(osds) && osds >= 1 && osds <= 16)) {
    throw new StackOptionError('osds', 'a number from 1 to 16', osds)
  }
  if (store !== undefined && !STORES.includes(store)) throw new StackOptionError('store', STORES.join(' or '), store)
  // BlueStore refuses devices that cannot hold its own metadata.
  if (osdBytes !== undefined && !(Number.isSafeInteger(osdBytes) && osdBytes >= GiB)) {
    throw new StackOptionError('OSD size in GiB', 'at least 1, and whole bytes', osdBytes / GiB)
  }
  for (const service of services ?? []) {
    if (!SERVICES.includes(service)) throw new StackOptionError('services', `of ${SERVICES.join(', ')}`, service)
  }
}
