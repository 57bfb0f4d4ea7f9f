import { addUser, daemonArgs, FOREGROUND } from './ceph-daemon.js'
import type { Caps } from './keyring.js'
import type { Monitor } from './monitor.js'
import type { Site } from './site.js'

export const FILE_SYSTEM = 'cephfs'

/** Named as `ceph fs volume create` would name them. */
const METADATA_POOL = `cephfs.${FILE_SYSTEM}.meta`
const DATA_POOL = `cephfs.${FILE_SYSTEM}.data`

const CAPS: Caps = {
  mon: 'allow profile mds',
  mgr: 'allow profile mds',
  osd: 'allow rw tag cephfs *=*',
  mds: 'allow',
}

export async function startMds(site: Site, monitor: Monitor): Promise<void> {
  await addUser(site, monitor, 'mds.a', 'mds.a', CAPS)
  await site.start('mds.a', 'ceph-mds', [...daemonArgs(site, 'a'), FOREGROUND], {
    // It would take its leave of a monitor that ends at the same time.
    endWith: 'SIGKILL',
  })
  for (const pool of [METADATA_POOL, DATA_POOL]) await monitor.command('osd pool create', { pool })
  await monitor.command('fs new', { fs_name: FILE_SYSTEM, metadata: METADATA_POOL, data: DATA_POOL })
  await site.until('file system', async () => {
    const { filesystems } = (await monitor.command('fs dump')) as FsDump
    return filesystems.every(({ mdsmap }) => Object.values(mdsmap.info).some(({ state }) => state === 'up:active'))
  })
  site.ready('mds.a')
}

interface FsDump {
  filesystems: { mdsmap: { info: Record<string, { state: string }> } }[]
}
