/** The environment, as one frozen object. What is wrong with it is said once, at start, all of it. */
import { isIP } from 'node:net'
import { isAbsolute } from 'node:path'
import { z } from 'zod'

export interface Config {
  /** Who this agent is: in bindings, results, heartbeats and stamps. */
  agentId: string
  /** What the connection is called on the broker. */
  serviceName: string
  broker: {
    /** May hold a password. */
    url: string
    jobsExchange: string
    resultsExchange: string
    telemetryExchange: string
    deadLetterExchange: string
    taskQueue: string
    inventoryRoutingKey: string
    /** Jobs in hand at once. */
    prefetch: number
    reconnectDelayMs: number
  }
  ceph: {
    /** What is undefined is as Ceph's own programs have it. */
    configFile: string | undefined
    user: string | undefined
    keyring: string | undefined
    volumePool: string
    catalogPool: string
  }
  cephfs: {
    /** Undefined: the one that the cluster has for the default. */
    fileSystem: string | undefined
    /** Where the directories of tenants are: a path without anything that means nothing in it. */
    tenantBase: string
  }
  journal: {
    /** How long what is known of a finished job is kept. */
    keepMs: number
    /** Whether jobs of other agents are taken over when those are gone. */
    takeover: boolean
  }
  /** Where health and metrics are told. Port 0: any that is free. */
  http: { host: string; port: number }
  /** The CephFS whose health is told. Null: none. */
  mount: { path: string; probeIntervalMs: number; timeoutMs: number } | null
  volumes: {
    /** How many images a clone may be made of beside its own. From the first number on it is flattened later. */
    cloneDepthSoft: number
    cloneDepthHard: number
    /** How long a deleted volume is kept in the trash; 0: not at all. */
    trashDelayMs: number
  }
  iscsi: {
    /** What exposes volumes; `none`: nothing does. */
    driver: (typeof iscsiDrivers)[number]
    /** What stands before an image's name in the name of its target, of those that are exposed from now on. */
    iqnPrefix: string
    /** Where initiators find the targets. tgtd has one, on this host. */
    portals: [PortalAddress, ...PortalAddress[]]
    /** What initiators log in with, unless a job says otherwise. Null: without a password. */
    chap: { user: string; password: string } | null
    /** Of volumes that are exposed from now on. */
    disk: { blockSize: number; writeCache: boolean; discard: boolean }
    /** The control socket of tgtd: a path, to which tgtd adds the port. */
    tgt: { socket: string; controlPort: number }
    dashboard: DashboardSettings
  }
  inventoryIntervalMs: number
  heartbeatIntervalMs: number
  /** How long a create may take to become ready. */
  createTimeoutMs: number
  log: LogSettings
}

/** An address of a host, and the host's name. */
export interface PortalAddress {
  host?: string
  ip: string
}

/** What the driver `ceph-iscsi` asks; with another one there need not be any. */
export interface DashboardSettings {
  /** Of the Dashboard at each ceph-mgr. */
  urls: readonly string[]
  user: string
  password: string
  /** The first header Accept that is tried. */
  accept: string
  checksCertificate: boolean
}

export interface LogSettings {
  enabled: boolean
  level: (typeof logLevels)[number]
  /** One JSON object a line; else text for people. */
  json: boolean
  name: string
}

/** Settings are missing or wrong. The message names them all, one a line, and shows no secret. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(['wrong settings', ...problems].join('\n  '))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const iscsiDrivers = ['tgt', 'ceph-iscsi', 'none'] as const

/** A timer that is to wait longer than this does not wait at all. */
const longestTimeoutMs = 2 ** 31 - 1

const weekMs = 7 * 24 * 3600 * 1000
const centuryMs = 100 * 365 * 24 * 3600 * 1000

/** Each image of a chain is open, and costs memory, in whoever opens its end. */
const longestChain = 64

/** RBD keeps the end of the time in 32 bits of seconds, until the year 2106. */
const longestTrashDelayMs = 10 * 365 * 24 * 3600 * 1000

/** AMQP's own limit for the names of exchanges and queues, and for routing keys. */
const longestName = 255

/** The queue that the control plane declares for an agent. */
export function agentQueue(agentId: string): string {
  return `agent.${agentId}.tasks`
}

/** Either means nothing without the other. */
const chapPair = ['CEPH_TARGET_USER', 'CEPH_TARGET_PASSWORD'] as const

/** Of those that go together, one that is right may be of no use when another one is wrong. */
export const togetherSettings = [chapPair, ['CEPH_GW_ISCSI_HOST', 'CEPH_GW_ISCSI_IP']] as const

/** What the driver `ceph-iscsi` cannot do without. */
export const dashboardNeeds = ['CEPH_API_URL', 'CEPH_API_USER', 'CEPH_API_PASSWORD', 'CEPH_GW_ISCSI_HOST'] as const

/** As ceph-iscsi takes them, and most initiators. */
export const chapUser = /^[\w.:@_-]{8,64}$/
export const chapUserIs = 'must be 8 to 64 of letters, digits, . : @ _ and -'
export const chapPassword = /^[\w@/_-]{12,16}$/
export const chapPasswordIs = 'must be 12 to 16 of letters, digits, @ / _ and -'

/** The one that all had before there was a setting. */
export const defaultIqnPrefix = 'iqn.2001-07.org.openhvx:'

/** RFC 3720, 3.2.6.3.1: a month in which somebody had a domain, and that domain in reverse. What follows is theirs to give. */
const iqnPrefix = /^iqn\.\d{4}-(0[1-9]|1[0-2])(\.[a-z\d]([a-z\d-]*[a-z\d])?)+:$/
const iqnPrefixIs = `must be a month, a domain in reverse and a colon, such as ${defaultIqnPrefix}`

/** Leaves 63 characters of the 223 for the name of an image. */
const longestIqnPrefix = 160

const settings = z.object({
  BROKER_URL: z.string('is not set').refine(isAmqpUrl, 'must be an amqp:// or amqps:// URL'),
  JOBS_EXCHANGE: name('jobs'),
  RESULTS_EXCHANGE: name('results'),
  TASK_QUEUE: name('openhvx.storage.tasks'),
  TELEMETRY_EXCHANGE: name('agent.telemetry'),
  TELEMETRY_ROUTING_KEY: name('inventory.storage.full'),
  DEAD_LETTER_EXCHANGE: name('jobs.dead'),
  SERVICE_NAME: name('storage-controller'),
  // Goes into `heartbeat.<id>` and `agent.<id>.tasks`.
  STORAGE_CONTROLLER_AGENT_ID: name('storage-controller-1', 200),
  PREFETCH_COUNT: integer(1, 65_535, 10),
  CEPH_CONF: z.string().optional(),
  CEPH_USER: z
    .string()
    .refine(user => !user.startsWith('client.'), 'must be without the client. in front')
    .optional(),
  CEPH_KEYRING: z.string().optional(),
  CEPH_DEFAULT_POOL: pool('rbd'),
  CEPH_CATALOG_POOL: pool('catalog'),
  CEPHFS_NAME: z.string().optional(),
  CEPHFS_TENANT_BASE: directory('/tenants'),
  JOURNAL_KEEP_MS: integer(1, centuryMs, weekMs),
  JOURNAL_TAKEOVER: boolean(false),
  HTTP_HOST: z.string().default('127.0.0.1'),
  HTTP_PORT: integer(0, 65_535, 9283),
  MOUNT_PATH: z.string().refine(isAbsolute, 'must be an absolute path').optional(),
  MOUNT_PROBE_INTERVAL_MS: integer(1, longestTimeoutMs, 10_000),
  MOUNT_TIMEOUT_MS: integer(1, longestTimeoutMs, 5_000),
  CLONE_DEPTH_SOFT: integer(1, longestChain, 8),
  CLONE_DEPTH_HARD: integer(1, longestChain, 16),
  TRASH_DELAY_MS: integer(0, longestTrashDelayMs, 0),
  ISCSI_DRIVER: z.enum(iscsiDrivers, `must be one of ${iscsiDrivers.join(', ')}`).default('tgt'),
  IQN_PREFIX: z
    .string()
    .max(longestIqnPrefix, `must be at most ${longestIqnPrefix} characters`)
    .regex(iqnPrefix, iqnPrefixIs)
    .default(defaultIqnPrefix),
  CEPH_GW_ISCSI_HOST: list(name => name !== '', 'must be a name, or several with commas between').default([]),
  CEPH_GW_ISCSI_IP: list(isAddress, 'must be an IP address, or several with commas between').default(['127.0.0.1']),
  CEPH_API_URL: list(
    isDashboardUrl,
    'must be an http:// or https:// URL without a password, or several with commas',
  ).default([]),
  CEPH_API_USER: z.string().optional(),
  CEPH_API_PASSWORD: z.string().optional(),
  CEPH_API_ACCEPT: z
    .string()
    .regex(/^application\/vnd\.ceph\.api\.v\d+\.\d+\+json$/, 'must be as application/vnd.ceph.api.v1.0+json')
    .default('application/vnd.ceph.api.v1.0+json'),
  CEPH_INSECURE_TLS: boolean(false),
  CEPH_TARGET_USER: z.string().regex(chapUser, chapUserIs).optional(),
  CEPH_TARGET_PASSWORD: z.string().regex(chapPassword, chapPasswordIs).optional(),
  ISCSI_BLOCK_SIZE: z.enum(['512', '4096'], 'must be 512 or 4096').default('512').transform(Number),
  ISCSI_WRITE_CACHE: boolean(true),
  // tgt up to 1.0.97, at least, takes a discard that librbd has done for one that has failed.
  ISCSI_DISCARD: boolean(false),
  TGT_IPC_SOCKET: z.string().default('/var/run/tgtd/socket'),
  TGT_CONTROL_PORT: integer(0, 32_767, 0),
  INVENTORY_INTERVAL_MS: integer(1, longestTimeoutMs, 300_000),
  HEARTBEAT_INTERVAL_MS: integer(1, longestTimeoutMs, 60_000),
  CREATE_READINESS_TIMEOUT_MS: integer(1, longestTimeoutMs, 180_000),
  BROKER_RECONNECT_DELAY_MS: integer(1, longestTimeoutMs, 5_000),
  LOG_ENABLED: boolean(true),
  LOG_LEVEL: z.enum(logLevels, `must be one of ${logLevels.join(', ')}`).default('info'),
  LOG_JSON: boolean(false),
  LOG_SERVICE_NAME: z.string().default('storage-controller'),
})

const cephKeys = {
  CEPH_CONF: true,
  CEPH_USER: true,
  CEPH_KEYRING: true,
  CEPH_DEFAULT_POOL: true,
  CEPH_CATALOG_POOL: true,
} as const

const cephSettings = settings.pick(cephKeys)

const fileSystemSettings = settings.pick({ CEPHFS_NAME: true, CEPHFS_TENANT_BASE: true })

const iscsiKeys = {
  ISCSI_DRIVER: true,
  IQN_PREFIX: true,
  CEPH_GW_ISCSI_HOST: true,
  CEPH_GW_ISCSI_IP: true,
  CEPH_API_URL: true,
  CEPH_API_USER: true,
  CEPH_API_PASSWORD: true,
  CEPH_API_ACCEPT: true,
  CEPH_INSECURE_TLS: true,
  CEPH_TARGET_USER: true,
  CEPH_TARGET_PASSWORD: true,
  ISCSI_BLOCK_SIZE: true,
  ISCSI_WRITE_CACHE: true,
  ISCSI_DISCARD: true,
  TGT_IPC_SOCKET: true,
  TGT_CONTROL_PORT: true,
} as const

const targetKeys = { ...cephKeys, ...iscsiKeys, STORAGE_CONTROLLER_AGENT_ID: true } as const

/** Their wrong values are not shown. */
const secret = new Set(['BROKER_URL', 'RMQ_URL', 'CEPH_TARGET_PASSWORD', 'CEPH_API_URL', 'CEPH_API_PASSWORD'])

/**
 * Reads the settings. One that is blank counts as not set, except TASK_QUEUE, where blank has a meaning.
 *
 * @throws {ConfigError}
 */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config {
  return deepFreeze(configOf(parse(withRules(settings), environment)))
}

/**
 * Reads those of the cluster alone, for who needs no broker.
 *
 * @throws {ConfigError}
 */
export function readCephConfig(environment: NodeJS.ProcessEnv = process.env): Config['ceph'] {
  return deepFreeze(cephConfigOf(parse(cephSettings, environment)))
}

/**
 * Reads those of the directories of tenants.
 *
 * @throws {ConfigError}
 */
export function readFileSystemConfig(environment: NodeJS.ProcessEnv = process.env): Config['cephfs'] {
  return deepFreeze(fileSystemConfigOf(parse(fileSystemSettings, environment)))
}

/**
 * Reads those of what is exposed, for who needs no broker.
 *
 * @throws {ConfigError}
 */
export function readTargetConfig(
  environment: NodeJS.ProcessEnv = process.env,
): Pick<Config, 'agentId' | 'ceph' | 'iscsi'> {
  const values = parse(withRules(settings.pick(targetKeys)), environment)
  const agentId = values.STORAGE_CONTROLLER_AGENT_ID
  return deepFreeze({ agentId, ceph: cephConfigOf(values), iscsi: iscsiConfigOf(values) })
}

function parse<T>(schema: z.ZodType<T>, environment: NodeJS.ProcessEnv): T {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([variable, value]) => value !== '' || variable === 'TASK_QUEUE'),
  )
  const result = schema.safeParse({ ...given, BROKER_URL: given.BROKER_URL ?? given.RMQ_URL })
  if (!result.success) throw new ConfigError(result.error.issues.map(issue => describeProblem(issue, given)))
  return result.data
}

function configOf(values: z.output<typeof settings>): Config {
  const agentId = values.STORAGE_CONTROLLER_AGENT_ID
  return {
    agentId,
    serviceName: values.SERVICE_NAME,
    broker: {
      url: values.BROKER_URL,
      jobsExchange: values.JOBS_EXCHANGE,
      resultsExchange: values.RESULTS_EXCHANGE,
      telemetryExchange: values.TELEMETRY_EXCHANGE,
      deadLetterExchange: values.DEAD_LETTER_EXCHANGE,
      taskQueue: values.TASK_QUEUE.trim() === '' ? agentQueue(agentId) : values.TASK_QUEUE,
      inventoryRoutingKey: values.TELEMETRY_ROUTING_KEY,
      prefetch: values.PREFETCH_COUNT,
      reconnectDelayMs: values.BROKER_RECONNECT_DELAY_MS,
    },
    ceph: cephConfigOf(values),
    cephfs: fileSystemConfigOf(values),
    journal: { keepMs: values.JOURNAL_KEEP_MS, takeover: values.JOURNAL_TAKEOVER },
    http: { host: values.HTTP_HOST, port: values.HTTP_PORT },
    mount: mountConfigOf(values),
    volumes: {
      cloneDepthSoft: values.CLONE_DEPTH_SOFT,
      cloneDepthHard: values.CLONE_DEPTH_HARD,
      trashDelayMs: values.TRASH_DELAY_MS,
    },
    iscsi: iscsiConfigOf(values),
    inventoryIntervalMs: values.INVENTORY_INTERVAL_MS,
    heartbeatIntervalMs: values.HEARTBEAT_INTERVAL_MS,
    createTimeoutMs: values.CREATE_READINESS_TIMEOUT_MS,
    log: {
      enabled: values.LOG_ENABLED,
      level: values.LOG_LEVEL,
      json: values.LOG_JSON,
      name: values.LOG_SERVICE_NAME,
    },
  }
}

function cephConfigOf(values: z.output<typeof cephSettings>): Config['ceph'] {
  return {
    configFile: values.CEPH_CONF,
    user: values.CEPH_USER,
    keyring: values.CEPH_KEYRING,
    volumePool: values.CEPH_DEFAULT_POOL,
    catalogPool: values.CEPH_CATALOG_POOL,
  }
}

function fileSystemConfigOf(values: z.output<typeof fileSystemSettings>): Config['cephfs'] {
  return { fileSystem: values.CEPHFS_NAME, tenantBase: values.CEPHFS_TENANT_BASE }
}

function iscsiConfigOf(values: Pick<z.output<typeof settings>, keyof typeof iscsiKeys>): Config['iscsi'] {
  const { CEPH_TARGET_USER: user, CEPH_TARGET_PASSWORD: password } = values
  return {
    driver: values.ISCSI_DRIVER,
    iqnPrefix: values.IQN_PREFIX,
    portals: portalsOf(values.CEPH_GW_ISCSI_HOST, values.CEPH_GW_ISCSI_IP),
    chap: user !== undefined && password !== undefined ? { user, password } : null,
    disk: {
      blockSize: values.ISCSI_BLOCK_SIZE,
      writeCache: values.ISCSI_WRITE_CACHE,
      discard: values.ISCSI_DISCARD,
    },
    tgt: { socket: values.TGT_IPC_SOCKET, controlPort: values.TGT_CONTROL_PORT },
    dashboard: {
      urls: values.CEPH_API_URL,
      user: values.CEPH_API_USER ?? '',
      password: values.CEPH_API_PASSWORD ?? '',
      accept: values.CEPH_API_ACCEPT,
      checksCertificate: !values.CEPH_INSECURE_TLS,
    },
  }
}

function mountConfigOf(values: z.output<typeof settings>): Config['mount'] {
  const { MOUNT_PATH: path, MOUNT_PROBE_INTERVAL_MS: probeIntervalMs, MOUNT_TIMEOUT_MS: timeoutMs } = values
  return path === undefined ? null : { path, probeIntervalMs, timeoutMs }
}

/** As many of both, if there are names at all. */
function portalsOf(hosts: readonly string[], ips: readonly string[]): Config['iscsi']['portals'] {
  const [first = { ip: '' }, ...others] = ips.map((ip, index) => {
    const host = hosts[index]
    return host === undefined ? { ip } : { host, ip }
  })
  return [first, ...others]
}

type TogetherSettings = Pick<z.output<typeof settings>, keyof typeof iscsiKeys>

interface Rule {
  setting: keyof TogetherSettings
  message: string
  /** Of a setting that is wrong by itself, which has been named, there may be the text, or nothing. */
  holds: (values: TogetherSettings) => boolean
}

const chapRules = chapPair.map((setting, index): Rule => {
  const other = chapPair[1 - index] ?? setting
  return {
    setting,
    message: `is not set, and ${other} is`,
    holds: values => values[setting] !== undefined || values[other] === undefined,
  }
})

const dashboardRules = dashboardNeeds.map((setting): Rule => {
  const isSet = (value: string | string[] | undefined) => value !== undefined && value.length > 0
  return {
    setting,
    message: 'is not set, and ISCSI_DRIVER=ceph-iscsi needs it',
    holds: values => values.ISCSI_DRIVER !== 'ceph-iscsi' || isSet(values[setting]),
  }
})

const rules: readonly Rule[] = [
  ...chapRules,
  ...dashboardRules,
  {
    setting: 'CEPH_GW_ISCSI_IP',
    message: 'must be one: tgt exposes volumes on this host',
    holds: ({ ISCSI_DRIVER, CEPH_GW_ISCSI_IP }) => ISCSI_DRIVER !== 'tgt' || countOf(CEPH_GW_ISCSI_IP, 1) === 1,
  },
  {
    setting: 'CEPH_GW_ISCSI_HOST',
    message: 'must be as many as CEPH_GW_ISCSI_IP, or none',
    holds: ({ CEPH_GW_ISCSI_HOST, CEPH_GW_ISCSI_IP }) => {
      const hosts = countOf(CEPH_GW_ISCSI_HOST, 0)
      return hosts === 0 || hosts === countOf(CEPH_GW_ISCSI_IP, hosts)
    },
  },
  {
    setting: 'ISCSI_BLOCK_SIZE',
    message: 'must be 512: ceph-iscsi has no other',
    holds: ({ ISCSI_DRIVER, ISCSI_BLOCK_SIZE }) => ISCSI_DRIVER !== 'ceph-iscsi' || ISCSI_BLOCK_SIZE !== 4096,
  },
]

/** @param otherwise - If it is wrong by itself. */
function countOf(parts: string[], otherwise: number): number {
  return Array.isArray(parts) ? parts.length : otherwise
}

/** All that is wrong is named at once, so this is looked at whatever else is. */
function withRules<T extends z.ZodType<TogetherSettings>>(schema: T): T {
  const when = () => true
  return rules.reduce(
    (ruled, { setting, message, holds }) => ruled.refine(holds, { path: [setting], message, when }),
    schema,
  )
}

function list(fits: (part: string) => boolean, message: string) {
  const parts = (text: string) => text.split(',').map(part => part.trim())
  return z
    .string()
    .refine(text => parts(text).every(fits), message)
    .transform(parts)
}

function name(fallback: string, longest = longestName) {
  const fits = (text: string) => Buffer.byteLength(text) <= longest
  return z.string().refine(fits, `must be at most ${longest} bytes`).default(fallback)
}

function directory(fallback: string) {
  const names = (path: string) => path.split('/').filter(name => name !== '' && name !== '.')
  return z
    .string()
    .refine(
      path => path.startsWith('/') && !names(path).includes('..'),
      'must be a path that begins with /, without ..',
    )
    .transform(path => `/${names(path).join('/')}`)
    .default(fallback)
}

function pool(fallback: string) {
  return z
    .string()
    .regex(/^[^/@]+$/, 'must be the name of a pool, without / and @')
    .default(fallback)
}

function integer(min: number, max: number, fallback: number) {
  const inRange = (text: string) => /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max
  return z.string().refine(inRange, `must be an integer from ${min} to ${max}`).transform(Number).default(fallback)
}

function boolean(fallback: boolean) {
  return z
    .enum(['1', '0', 'true', 'false'], 'must be 1, 0, true or false')
    .transform(text => text === '1' || text === 'true')
    .default(fallback)
}

function isAddress(text: string): boolean {
  return isIP(text) !== 0
}

function isAmqpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname } = new URL(text)
  return (protocol === 'amqp:' || protocol === 'amqps:') && hostname !== ''
}

function isDashboardUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, username, password, search, hash } = new URL(text)
  const isBare = username === '' && password === '' && search === '' && hash === ''
  return (protocol === 'http:' || protocol === 'https:') && isBare
}

function describeProblem({ path, message }: z.core.$ZodIssue, given: Record<string, string | undefined>): string {
  const setting = String(path[0])
  const isAlias = setting === 'BROKER_URL' && given.BROKER_URL === undefined && given.RMQ_URL !== undefined
  const variable = isAlias ? 'RMQ_URL' : setting
  const value = given[variable]
  return value === undefined || secret.has(variable)
    ? `${variable} ${message}`
    : `${variable} ${message}; got ${JSON.stringify(value)}`
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part)
  return Object.freeze(value)
}
