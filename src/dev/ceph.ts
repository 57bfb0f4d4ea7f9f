import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { monitorAddress } from './ceph-conf.js'
import { daemonArgs, FOREGROUND, writeConf, writeKeyring } from './ceph-daemon.js'
import { StackError } from './errors.js'
import { type Caps, keyringEntry, newKey } from './keyring.js'
import { startManager } from './manager.js'
import type { Monitor } from './monitor.js'
import { accepts } from './ports.js'
import type { Site } from './site.js'

/** Where the agent puts volumes and looks for golden images, unless told otherwise. */
const POOLS = ['rbd', 'catalog']

const ALL: Caps = { mon: 'allow *', mgr: 'allow *', osd: 'allow *', mds: 'allow *' }

/** Makes a block cluster: one monitor, one manager, OSDs, and pools. */
export async function startBlock(site: Site, monitor: Monitor): Promise<void> {
  writeConf(site)
  const [stores] = await site.all([makeOsdStores(site), startMonitorAndManager(site, monitor)])
  await startOsds(site, monitor, stores)
  await makePools(site, monitor)
}

/** Waits until the manager has seen every placement group of every pool active and clean. */
export async function untilClean(site: Site, monitor: Monitor): Promise<void> {
  await site.until('placement groups active and clean', async () => {
    const { pools } = (await monitor.command('osd dump')) as { pools: { pg_num: number }[] }
    const { pg_summary: seen } = (await monitor.command('pg stat')) as PgStat
    const groups = pools.reduce((sum, pool) => sum + pool.pg_num, 0)
    const clean = seen.num_pg_by_state.find(({ name }) => name === 'active+clean')
    return seen.num_pgs === groups && clean?.num === groups
  })
  site.ready('placement groups')
}

interface PgStat {
  pg_summary: { num_pgs: number; num_pg_by_state: { name: string; num: number }[] }
}

/** The manager imports Python for longer than all the rest takes, so that nothing is waited for before it. */
async function startMonitorAndManager(site: Site, monitor: Monitor): Promise<void> {
  await makeMonitorStore(site)
  await startMonitor(site)
  await startManager(site, monitor)
}

async function makeMonitorStore(site: Site): Promise<void> {
  // Not in the monitor's own folder: it makes a store only in an empty one.
  const folder = site.folder('initial')
  site.folder('mon.a')
  const admin = keyringEntry('client.admin', newKey(), ALL)
  writeKeyring(site.path('keyring'), admin)
  const keyring = join(folder, 'keyring')
  writeKeyring(keyring, keyringEntry('mon.', newKey(), { mon: 'allow *' }) + admin)
  const map = join(folder, 'monmap')
  const address = monitorAddress(site.record)
  await site.run('mon.a', 'monmaptool', ['--create', '--fsid', site.record.id, '--addv', 'a', address, map])
  await site.run('mon.a', 'ceph-mon', [...daemonArgs(site, 'a'), '--mkfs', '--monmap', map, '--keyring', keyring])
}

async function startMonitor(site: Site): Promise<void> {
  const { v2, v1 } = site.record.monitorPorts
  const ports = [v2, v1]
  await site.start('mon.a', 'ceph-mon', [...daemonArgs(site, 'a'), FOREGROUND], { ports })
  await site.until('monitor', async () => {
    const answers = await Promise.all(ports.map(port => accepts(port, site.settings.address)))
    return answers.every(Boolean)
  })
  site.ready('mon.a')
}

interface OsdStore {
  id: number
  uuid: string
  key: string
}

/** They need no cluster yet, and are made while the monitor's is. */
function makeOsdStores(site: Site): Promise<OsdStore[]> {
  return site.all(Array.from({ length: site.settings.osds }, (_, id) => makeOsdStore(site, id)))
}

async function makeOsdStore(site: Site, id: number): Promise<OsdStore> {
  const store = { id, uuid: randomUUID(), key: newKey() }
  const folder = site.folder(`osd.${id}`)
  writeKeyring(join(folder, 'keyring'), keyringEntry(`osd.${id}`, store.key, {}))
  const make = ['--mkfs', '--osd-uuid', store.uuid, '--no-mon-config']
  await site.run(`osd.${id}`, 'ceph-osd', [...daemonArgs(site, String(id)), ...make])
  return store
}

async function startOsds(site: Site, monitor: Monitor, stores: OsdStore[]): Promise<void> {
  for (const { id, uuid, key } of stores) {
    const secret = JSON.stringify({ cephx_secret: key })
    const { osdid } = (await monitor.command('osd new', { uuid }, { input: secret })) as { osdid: number }
    // The cluster counts by itself, and the store has been made for a certain number.
    if (osdid !== id) throw new StackError('UNEXPECTED_ID', `the cluster made osd.${osdid}, not osd.${id}`)
    await site.start(`osd.${id}`, 'ceph-osd', [...daemonArgs(site, String(id)), FOREGROUND])
  }
  await site.until('OSDs', async () => {
    const { num_up_osds: up } = (await monitor.command('osd stat')) as { num_up_osds: number }
    return up === site.settings.osds
  })
  for (const { id } of stores) site.ready(`osd.${id}`)
}

async function makePools(site: Site, monitor: Monitor): Promise<void> {
  for (const pool of POOLS) await monitor.command('osd pool create', { pool })
  const init = (pool: string) => site.run('pools', 'rbd', ['--conf', site.path('ceph.conf'), 'pool', 'init', pool])
  await site.all(POOLS.map(init))
  site.ready('pools')
}
