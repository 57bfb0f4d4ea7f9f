/** The environment, as one frozen object. What is wrong with it is said once, at start, all of it. */
import type { z } from 'zod'
import {
  cephSettings,
  fileSystemSettings,
  type iscsiDrivers,
  type iscsiKeys,
  type logLevels,
  secret,
  settings,
  targetSettings,
  withRules,
} from './settings.js'

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

/** The queue that the control plane declares for an agent. */
export function agentQueue(agentId: string): string {
  return `agent.${agentId}.tasks`
}

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
  const values = parse(withRules(targetSettings), environment)
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
