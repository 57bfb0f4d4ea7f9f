import type { StackRecord } from './folder.js'

/** Below Ceph's default of 32: a pool is ready in a fraction of the time, and one OSD serves it no slower. */
const PLACEMENT_GROUPS = 8

/** The least that Ceph takes: this is for BlueStore's caches, memstore has none. */
const OSD_MEMORY_TARGET = 939_524_096

const COMMIT_SECONDS = 0.02

/**
 * Times `osd heartbeat grace`, 20 s: 231 days. A lease runs out when the OSD is stopped, or its machine stands still. An operation
 * that comes before it is renewed then makes Ceph 16.2 hold back its placement group; one with a single copy it holds back for
 * ever, and calls the cluster healthy.
 */
const ENDLESS_LEASE_RATIO = 1_000_000

/** Subsystems that write much at their default levels. */
const QUIET = ['asok', 'auth', 'bdev', 'bluefs', 'bluestore', 'mds', 'mgr', 'mgrc', 'mon', 'monc', 'ms', 'objecter']
  .concat(['osd', 'paxos', 'rgw', 'rocksdb'])
  .map(subsystem => `debug ${subsystem} = 0/0`)

/**
 * Modules that the manager would import at every start, for a second or two of one core, and that need something a
 * development stack has not: other sites, other monitoring systems, many hosts. `restful` has another reason:
 * with Debian 12's libraries, the second of it and `dashboard` to be imported fails.
 */
const UNUSED_MODULES = [
  'alerts',
  'diskprediction_local',
  'influx',
  'insights',
  'localpool',
  'mirroring',
  'nfs',
  'osd_perf_query',
  'osd_support',
  'prometheus',
  'restful',
  'selftest',
  'snap_schedule',
  'stats',
  'telegraf',
  'test_orchestrator',
  'zabbix',
]

/** One file for the daemons and for every client. */
export function cephConf(record: StackRecord): string {
  const { id, root, settings } = record
  const daemon = [`admin socket = ${root}/run/$name.asok`, ...QUIET]
  const dashboard = settings.services.includes('dashboard')
  const unused = dashboard ? UNUSED_MODULES : [...UNUSED_MODULES, 'dashboard']
  return sections({
    global: [
      `fsid = ${id}`,
      `mon host = ${monitorAddress(record)}`,
      `public addr = ${settings.address}`,
      `cluster addr = ${settings.address}`,
      `run dir = ${root}/run`,
      `osd pool default size = 1`,
      `osd pool default min size = 1`,
      `osd pool default pg num = ${PLACEMENT_GROUPS}`,
      `osd pool default pgp num = ${PLACEMENT_GROUPS}`,
      `osd pool default pg autoscale mode = off`,
      // With more OSDs, a group whose OSD has died waits for as long as its lease.
      ...(settings.osds === 1 ? [`osd pool default read lease ratio = ${ENDLESS_LEASE_RATIO}`] : []),
      ...(settings.fastCommits ? [`paxos propose interval = ${COMMIT_SECONDS}`] : []),
    ],
    client: [`keyring = ${root}/keyring`],
    mon: [
      ...daemon,
      `mon data = ${root}/mon.$id`,
      'mon cluster log to file = false',
      'mon allow pool size one = true',
      'mon allow pool delete = true',
      'mon warn on pool no redundancy = false',
      // A port that another program has taken is not waited for: the stack is tried again with others.
      'ms bind retry count = 1',
      'ms bind retry delay = 0',
      // The disk is the developer's, and may well be full.
      'mon data avail crit = 1',
      'mon data avail warn = 1',
      'auth allow insecure global id reclaim = false',
      // Read when the monitor is made. Empty: only those that are always on.
      'mgr initial modules =',
      'mon mgr digest period = 1',
    ],
    mgr: [
      ...daemon,
      `mgr data = ${root}/mgr.$id`,
      `mgr disabled modules = ${unused.join(',')}`,
      // What `ceph df` and `ceph pg stat` tell is no older than a second.
      'mgr stats period = 1',
      'mgr tick period = 1',
    ],
    osd: [
      ...daemon,
      `osd data = ${root}/osd.$id`,
      `osd objectstore = ${settings.store}`,
      // All OSDs are on this machine.
      'osd crush chooseleaf type = 0',
      `osd memory target = ${OSD_MEMORY_TARGET}`,
      `memstore device bytes = ${settings.osdBytes}`,
      // Otherwise an object is a list of the pieces that were written, and gets slower with each small write.
      'memstore page set = true',
      'memstore page size = 16384',
      `bluestore block size = ${settings.osdBytes}`,
      'bluestore fsck on mkfs = false',
      // It would wait for the answer of a monitor that ends at the same time.
      'osd fast shutdown notify mon = false',
    ],
    mds: [...daemon, `mds data = ${root}/mds.$id`],
    'client.rgw': [...daemon, `rgw data = ${root}/rgw`, `keyring = ${root}/rgw/keyring`],
  })
}

/** Both versions of the protocol: a stack is also for kernel clients, and some of those speak the first one only. */
export function monitorAddress({ settings: { address }, monitorPorts: { v2, v1 } }: StackRecord): string {
  return `[v2:${address}:${v2},v1:${address}:${v1}]`
}

function sections(contents: Record<string, string[]>): string {
  return Object.entries(contents)
    .map(([name, lines]) => `[${name}]\n${lines.join('\n')}\n`)
    .join('\n')
}
