/** The environment's variables: what each may be, what it is when it is not set, and which go together. */
import { isIP } from 'node:net'
import { isAbsolute } from 'node:path'
import { z } from 'zod'

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

export const iscsiDrivers = ['tgt', 'ceph-iscsi', 'none'] as const

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

export const settings = z.object({
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

export const cephSettings = settings.pick(cephKeys)

export const fileSystemSettings = settings.pick({ CEPHFS_NAME: true, CEPHFS_TENANT_BASE: true })

export const iscsiKeys = {
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

export const targetSettings = settings.pick({ ...cephKeys, ...iscsiKeys, STORAGE_CONTROLLER_AGENT_ID: true })

/** Their wrong values are not shown. */
export const secret = new Set(['BROKER_URL', 'RMQ_URL', 'CEPH_TARGET_PASSWORD', 'CEPH_API_URL', 'CEPH_API_PASSWORD'])

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
export function withRules<T extends z.ZodType<TogetherSettings>>(schema: T): T {
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
