import { constants } from 'node:os'
import { addUser, daemonArgs, FOREGROUND, writeConf } from './ceph-daemon.js'
import { CommandFailedError } from './errors.js'
import { portOf, type StackRecord } from './folder.js'
import type { Caps } from './keyring.js'
import type { Monitor } from './monitor.js'
import { freePort } from './ports.js'
import type { Site } from './site.js'

const CAPS: Caps = { mon: 'allow profile mgr', osd: 'allow *', mds: 'allow *' }

export const DASHBOARD_USER = 'admin'

/** No secret: only this machine reaches it, and who can read the state folder has the keys of the cluster anyway. */
export const DASHBOARD_PASSWORD = 'cephkit-dev'

export function dashboardUrl(record: StackRecord): string {
  return `http://${record.settings.address}:${portOf(record, 'mgr.x')}`
}

export async function startManager(site: Site, monitor: Monitor): Promise<void> {
  // It would make a pool of its own, at some time after the start, for what it cannot know of disks that are none.
  await configure(monitor, 'devicehealth/enable_monitoring', 'false')
  const ports = site.settings.services.includes('dashboard') ? [await configureDashboard(site, monitor)] : []
  await addUser(site, monitor, 'mgr.x', 'mgr.x', CAPS)
  await site.start('mgr.x', 'ceph-mgr', [...daemonArgs(site, 'x'), FOREGROUND], { ports })
}

/** A manager that was started without the dashboard is started anew: it reads only then which modules to load. */
export async function startDashboard(site: Site, monitor: Monitor): Promise<void> {
  if (portOf(site.record, 'mgr.x') === undefined) {
    writeConf(site)
    await site.stop('mgr.x')
    await startManager(site, monitor)
  }
  await site.until('dashboard', () => createUser(monitor))
  await site.until('dashboard', () => logsIn(site.record))
  site.ready('dashboard')
}

/** Starts the manager as it was before `startDashboard` ended it. */
export async function startFormerManager(site: Site, monitor: Monitor): Promise<void> {
  writeConf(site)
  await monitor.command('mgr module disable', { module: 'dashboard' })
  await startManager(site, monitor)
}

async function configureDashboard({ settings: { address } }: Site, monitor: Monitor): Promise<number> {
  const port = await freePort(address)
  await configure(monitor, 'dashboard/ssl', 'false')
  await configure(monitor, 'dashboard/server_addr', address)
  await configure(monitor, 'dashboard/server_port', String(port))
  await monitor.command('mgr module enable', { module: 'dashboard', force: '--force' })
  return port
}

/** By force, as the monitor learns the names of the modules' settings only from a running manager. */
async function configure(monitor: Monitor, setting: string, value: string): Promise<void> {
  await monitor.command('config set', { who: 'mgr', name: `mgr/${setting}`, value, force: true })
}

/** False as long as the manager has not loaded the dashboard and so does not know its commands. */
async function createUser(monitor: Monitor): Promise<boolean> {
  const user = { username: DASHBOARD_USER, rolename: 'administrator', force_password: true }
  try {
    await monitor.command('dashboard ac-user-create', user, { to: 'mgr', input: DASHBOARD_PASSWORD })
    return true
  } catch (error) {
    if (!(error instanceof CommandFailedError)) throw error
    return error.errno === -constants.errno.EEXIST
  }
}

/** Logging in tells our dashboard from another program that may have taken the port. */
async function logsIn(record: StackRecord): Promise<boolean> {
  try {
    const answer = await fetch(`${dashboardUrl(record)}/api/auth`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/vnd.ceph.api.v1.0+json' },
      body: JSON.stringify({ username: DASHBOARD_USER, password: DASHBOARD_PASSWORD }),
      signal: AbortSignal.timeout(5_000),
    })
    return answer.status === 201
  } catch {
    return false
  }
}
