/** The cluster, as the agent's user has it. Whatever is tried leaves nothing behind. */
import { randomUUID } from 'node:crypto'
import {
  Cluster,
  Image,
  InvalidArgumentError,
  NoSpaceError,
  NotFoundError,
  PermissionError,
  type Pool,
  PoolNotFoundError,
  QuotaExceededError,
  TimeoutError,
  WriteOperation,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import { journalNamespace } from '../journal/layout.js'
import { type Examination, Trouble, Unknown } from './examination.js'

/** Seconds that any one answer of the cluster may take. */
const answerSeconds = '5'

/** Seconds by which clocks may differ. The monitors mind 0.05 among themselves, and cephx some minutes. */
const tolerableSkew = 2

export async function checkCluster(examination: Examination, config: Config): Promise<void> {
  let cluster: Cluster | undefined
  await examination.check('connection', async () => {
    cluster = await connect(config)
    return `client.${cluster.user} of ${await cluster.fsid()}`
  })
  if (cluster === undefined) {
    return examination.skip(['versions', 'pools', 'journal', 'blocklist', 'time-outs', 'clocks'], 'no connection')
  }
  try {
    await checkAll(examination, cluster, config)
  } finally {
    await cluster.close()
  }
}

async function checkAll(examination: Examination, cluster: Cluster, config: Config): Promise<void> {
  const { volumePool, catalogPool } = config.ceph
  // First, as what it reads is changed for the others.
  await examination.check('time-outs', () => checkTimeouts(cluster, config))
  await examination.check('versions', () => checkVersions(cluster))
  for (const name of new Set([volumePool, catalogPool])) {
    await examination.check(`pool ${name}`, () => checkPool(cluster, config, name))
  }
  await examination.check('journal', () => checkAccess(cluster, config, volumePool, journalNamespace))
  await examination.check('blocklist', () => checkBlocklist(cluster, config))
  await examination.check('clocks', () => checkClocks(cluster))
}

async function connect({ ceph }: Config): Promise<Cluster> {
  const { configFile, user, keyring } = ceph
  try {
    const options = { client_mount_timeout: answerSeconds }
    // As the agent does.
    return await Cluster.connect({ configFile, user, keyring, options, whenFull: 'try' })
  } catch (error) {
    if (error instanceof TimeoutError) {
      const todo =
        'is a monitor up (ceph -s on its host)? Is mon_host right, and no firewall before ports 3300 and 6789?'
      throw new Trouble(`no monitor has answered in ${answerSeconds} s`, todo)
    }
    if (error instanceof PermissionError) {
      const todo = `put the key there that this prints: ceph auth get client.${user ?? 'admin'}`
      throw new Trouble(`${error.message}; or the key is not the one that the cluster has`, todo, { cause: error })
    }
    if (error instanceof NotFoundError) {
      throw new Trouble(error.message, 'have in ceph.conf what this prints: ceph config generate-minimal-conf')
    }
    throw error
  }
}

async function checkTimeouts(cluster: Cluster, { createTimeoutMs }: Config): Promise<string> {
  const names = ['rados_mon_op_timeout', 'rados_osd_op_timeout']
  const values = await Promise.all(names.map(async name => Number(await cluster.getOption(name))))
  // From here on nothing waits for longer than the doctor has time.
  for (const name of names) await cluster.setOption(name, answerSeconds)
  for (const [index, name] of names.entries()) {
    const seconds = values[index] ?? 0
    if (seconds !== 0 && seconds * 1000 <= createTimeoutMs) continue
    const says = `${name} is ${seconds} s${seconds === 0 ? ': calls wait for ever' : ''}; a create may take ${createTimeoutMs / 1000} s`
    throw new Trouble(says, `take ${name} out of the configuration, for 30 s; or set less than a create may take`)
  }
  return names.map((name, index) => `${name} ${values[index]} s`).join(', ')
}

async function checkVersions(cluster: Cluster): Promise<string> {
  const { overall } = await cluster.monCommand<{ overall: Record<string, number> }>({ prefix: 'versions' })
  const releases = Object.keys(overall).map(text => /^ceph version (\S+)/.exec(text)?.[1] ?? text)
  return `librados ${Cluster.libraryVersion}, librbd ${Image.libraryVersion}; the cluster runs Ceph ${releases.join(' and ')}`
}

async function checkPool(cluster: Cluster, config: Config, name: string): Promise<string> {
  await using pool = await open(cluster, name)
  if (!(await pool.listApplications()).includes('rbd')) {
    throw new Trouble('it is not made for RBD', `rbd pool init ${shellWord(name)}`)
  }
  const says = await checkAccess(cluster, config, name, '')
  await checkRoom(pool)
  return says
}

/** By an object that takes some, and is not there for long. The journal needs none. */
async function checkRoom(pool: Pool): Promise<void> {
  const object = pool.object(`cephkit.doctor.${randomUUID()}`)
  try {
    await object.append('?')
    await object.remove()
  } catch (error) {
    const todo = 'delete volumes, or '
    if (error instanceof QuotaExceededError) {
      const raise = `raise what this prints: ceph osd pool get-quota ${shellWord(pool.name)}`
      throw new Trouble('it has reached its quota: only what frees room is done', todo + raise, { cause: error })
    }
    if (error instanceof NoSpaceError) {
      throw new Trouble('its OSDs are full: only what frees room is done', `${todo}add OSDs`, { cause: error })
    }
    throw error
  }
}

async function open(cluster: Cluster, name: string, namespace = ''): Promise<Pool> {
  try {
    return await cluster.openPool(name, { namespace })
  } catch (error) {
    if (!(error instanceof PoolNotFoundError)) throw error
    const word = shellWord(name)
    throw new Trouble('there is no such pool', `ceph osd pool create ${word} && rbd pool init ${word}`, {
      cause: error,
    })
  }
}

/**
 * Asks for what an agent does with objects, of one that does not exist: that there is none is the answer of an OSD that would
 * have allowed it.
 */
async function checkAccess(cluster: Cluster, config: Config, name: string, namespace: string): Promise<string> {
  await using pool = await open(cluster, name, namespace)
  const object = pool.object(`cephkit.doctor.${randomUUID()}`)
  const ways: [string, () => Promise<unknown>][] = [
    ['read', () => object.stat()],
    // In one operation: it has come to be and gone when the OSD says that it is done.
    ['write', () => object.operate(new WriteOperation().create({ exclusive: true }).remove())],
    ['lock', () => object.unlock('doctor')],
  ]
  const refused: string[] = []
  for (const [way, ask] of ways) if (await isDenied(ask, NotFoundError)) refused.push(way)
  if (refused.length > 0) {
    throw new Trouble(`client.${cluster.user} may not ${refused.join(', ')} in ${pool.path}`, capsLine(cluster, config))
  }
  return 'may be read, written and locked in'
}

/** With an address that is none: whoever may shut clients out is told so, and nobody else comes that far. */
async function checkBlocklist(cluster: Cluster, config: Config): Promise<string> {
  const command = { prefix: 'osd blocklist', blocklistop: 'add', addr: 'cephkit-doctor/0' }
  if (await isDenied(() => cluster.monCommand(command), InvalidArgumentError)) {
    throw new Trouble(`client.${cluster.user} may not shut out an agent that has died`, capsLine(cluster, config))
  }
  return 'an agent that has died can be shut out'
}

/** @param expected - What is answered if it is not denied. */
async function isDenied(
  ask: () => Promise<unknown>,
  expected: abstract new (...fields: never[]) => Error,
): Promise<boolean> {
  try {
    await ask()
  } catch (error) {
    if (error instanceof PermissionError) return true
    if (!(error instanceof expected)) throw error
  }
  return false
}

function capsLine({ user }: Cluster, { ceph }: Config): string {
  const pools = [...new Set([ceph.volumePool, ceph.catalogPool])].map(name => `profile rbd pool=${name}`)
  return `ceph auth caps client.${user} mon 'profile rbd' mgr 'profile rbd' osd ${shellWord(pools.join(', '))}`
}

interface TimeSyncStatus {
  time_skew_status?: Record<string, { skew: number }>
}

/** The monitors compare their clocks, and a report of theirs has the time. */
async function checkClocks(cluster: Cluster): Promise<string> {
  const { time_skew_status: skews = {} } = await cluster.monCommand<TimeSyncStatus>({ prefix: 'time-sync-status' })
  for (const [name, { skew }] of Object.entries(skews)) {
    if (Math.abs(skew) > tolerableSkew) throw skewed(`mon.${name}`, skew, 'the leader of the monitors')
  }
  const askedAt = Date.now()
  const { timestamp } = await cluster.monCommand<{ timestamp?: string }>({ prefix: 'report' })
  const toldAt = Date.parse(timestamp ?? '')
  if (Number.isNaN(toldAt)) throw new Unknown('the monitors do not tell the time')
  // It was taken at some moment in between.
  const skew = toldAt < askedAt ? toldAt - askedAt : Math.max(0, toldAt - Date.now())
  if (Math.abs(skew) > tolerableSkew * 1000) throw skewed('the monitors', skew / 1000, 'this host')
  return `this host and the monitors agree, within ${tolerableSkew} s`
}

function skewed(who: string, seconds: number, whom: string): Trouble {
  const how = `${Math.abs(seconds).toFixed(1)} s ${seconds < 0 ? 'behind' : 'ahead of'}`
  return new Trouble(`${who} are ${how} ${whom}`, 'have all hosts keep their time with NTP (chronyd)')
}

export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
