import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { portOf, type StackRecord } from './folder.js'
import { freePort, LOOPBACK } from './ports.js'
import type { Site } from './site.js'

/** How a client reaches the iSCSI target, and how tgtadm reaches its control socket. */
export interface TgtAccess {
  /** Address and port, for initiators. */
  portal: string
  /** For `tgtadm -C`, with `TGT_IPC_SOCKET` set to `controlSocket`. */
  controlPort: number
  controlSocket: string
}

/** Not 0: a tgtadm that was not told the socket finds nothing then, rather than the machine's own tgtd. */
const CONTROL_PORT = 1

export function tgtAccess(record: StackRecord): TgtAccess {
  return {
    portal: `${LOOPBACK}:${portOf(record, 'tgtd')}`,
    controlPort: CONTROL_PORT,
    controlSocket: socketIn(record.root),
  }
}

function socketIn(root: string): string {
  return join(root, 'run', 'tgt')
}

export async function startTgt(site: Site): Promise<void> {
  const port = await freePort()
  const socket = socketIn(site.record.root)
  const env = { TGT_IPC_SOCKET: socket }
  const control = ['-C', String(CONTROL_PORT)]
  const portal = `${LOOPBACK}:${port}`
  await site.start('tgtd', 'tgtd', ['-f', ...control, '--iscsi', `portal=${portal}`], {
    ports: [port],
    env,
    // tgtd takes no notice of SIGTERM.
    endWith: 'SIGKILL',
  })
  // It adds the control port to the name.
  await site.until('tgtd', () => existsSync(`${socket}.${CONTROL_PORT}`))
  const showPortals = [...control, '--lld', 'iscsi', '--mode', 'portal', '--op', 'show']
  const portals = await site.run('tgtd', 'tgtadm', showPortals, env)
  // Where it cannot bind its port it goes on without, and another program may answer there.
  if (!portals.includes(portal)) throw site.failure('tgtd', `does not listen on ${portal}`)
  site.ready('tgtd')
}
