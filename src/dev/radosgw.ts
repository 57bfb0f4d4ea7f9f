import { addUser, FOREGROUND } from './ceph-daemon.js'
import { portOf, type StackRecord } from './folder.js'
import type { Monitor } from './monitor.js'
import { accepts, freePort } from './ports.js'
import type { Site } from './site.js'

const USER = 'client.rgw'

export function radosgwUrl(record: StackRecord): string {
  return `http://${record.settings.address}:${portOf(record, 'radosgw')}`
}

export async function startRadosgw(site: Site, monitor: Monitor): Promise<void> {
  const { address } = site.settings
  const port = await freePort(address)
  await addUser(site, monitor, USER, 'rgw', { mon: 'allow rw', mgr: 'allow rw', osd: 'allow rwx' })
  const frontend = `beast endpoint=${address}:${port}`
  const args = ['--conf', site.path('ceph.conf'), '--name', USER, '--rgw-frontends', frontend, FOREGROUND]
  await site.start('radosgw', 'radosgw', args, {
    ports: [port],
    // It would take its leave of OSDs that end at the same time.
    endWith: 'SIGKILL',
  })
  await site.until('radosgw', () => accepts(port, address))
  site.ready('radosgw')
}
