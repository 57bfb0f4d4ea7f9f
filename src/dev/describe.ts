import { join } from 'node:path'
import { FILE_SYSTEM } from './cephfs.js'
import type { StackRecord } from './folder.js'
import { DASHBOARD_PASSWORD, DASHBOARD_USER, dashboardUrl } from './manager.js'
import { brokerUrl } from './rabbitmq.js'
import { radosgwUrl } from './radosgw.js'
import { type TgtAccess, tgtAccess } from './tgt.js'

/** A running stack, and how to reach all that is in it. */
export interface Stack {
  dir: string
  fsid: string
  cephConf: string
  keyring: string
  /** Without the `client.`. */
  user: 'admin'
  /** By name of the daemon: `mon.a`, `osd.0` … */
  pids: Record<string, number>
  brokerUrl?: string
  tgt?: TgtAccess
  dashboard?: { url: string; user: string; password: string }
  radosgw?: { url: string }
  cephfs?: { name: string }
  /** For a shell or a child process: Ceph's own programs, tgtadm and cephkit's agent all find the stack with it. */
  env: Record<string, string>
}

const ADMIN = 'admin'

export function describe(dir: string, record: StackRecord): Stack {
  const { id, root, settings, daemons } = record
  const has = (service: (typeof settings.services)[number]) => settings.services.includes(service)
  const services = {
    ...(has('rabbitmq') && { brokerUrl: brokerUrl(record) }),
    ...(has('tgt') && { tgt: tgtAccess(record) }),
    ...(has('dashboard') && {
      dashboard: { url: dashboardUrl(record), user: DASHBOARD_USER, password: DASHBOARD_PASSWORD },
    }),
    ...(has('radosgw') && { radosgw: { url: radosgwUrl(record) } }),
    ...(has('mds') && { cephfs: { name: FILE_SYSTEM } }),
  }
  const cluster = { cephConf: join(root, 'ceph.conf'), keyring: join(root, 'keyring'), user: ADMIN } as const
  const pids = Object.fromEntries(daemons.map(({ name, pid }) => [name, pid]))
  return { dir, fsid: id, ...cluster, pids, ...services, env: environment({ ...cluster, ...services }) }
}

function environment(stack: Omit<Stack, 'dir' | 'fsid' | 'pids' | 'env'>): Record<string, string> {
  return {
    CEPH_CONF: stack.cephConf,
    CEPH_USER: stack.user,
    CEPH_KEYRING: stack.keyring,
    ...(stack.brokerUrl && { BROKER_URL: stack.brokerUrl }),
    ...(stack.dashboard && {
      CEPH_API_URL: stack.dashboard.url,
      CEPH_API_USER: stack.dashboard.user,
      CEPH_API_PASSWORD: stack.dashboard.password,
    }),
    ...(stack.tgt && { TGT_IPC_SOCKET: stack.tgt.controlSocket, TGT_CONTROL_PORT: String(stack.tgt.controlPort) }),
    ISCSI_DRIVER: stack.tgt ? 'tgt' : 'none',
  }
}
