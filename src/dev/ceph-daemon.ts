import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cephConf } from './ceph-conf.js'
import { type Caps, keyringEntry, newKey } from './keyring.js'
import type { Monitor } from './monitor.js'
import type { Site } from './site.js'

/** In the foreground, logging to standard error. */
export const FOREGROUND = '-d'

export function daemonArgs(site: Site, id: string): string[] {
  return ['--conf', site.path('ceph.conf'), '--id', id]
}

/** The settings file holds ports and services, and is written anew when those change. */
export function writeConf(site: Site): void {
  writeFileSync(site.path('ceph.conf'), cephConf(site.record))
}

/** Makes a user known to the cluster, and writes the keyring where its daemon looks for it. */
export async function addUser(site: Site, monitor: Monitor, user: string, folder: string, caps: Caps): Promise<void> {
  const keyring = keyringEntry(user, newKey(), caps)
  await monitor.command('auth import', {}, { input: keyring })
  writeKeyring(join(site.folder(folder), 'keyring'), keyring)
}

export function writeKeyring(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 })
}
