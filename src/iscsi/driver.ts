/** Exposing volumes over iSCSI: what it takes, whatever does it, and the one place where that is chosen. */
import type { Cluster } from '../../lib/index.js'
import type { Config } from '../config.js'
import { CephIscsiDriver } from './ceph-iscsi.js'
import { TgtDriver } from './tgt.js'
import { TgtControl } from './tgt-control.js'

/** One image, as initiators are to see it. */
export interface Target {
  iqn: string
  poolName: string
  /** The image's name. */
  name: string
  /** What tells the disk from all others, for as long as its image is there. */
  identity: Identity
  access: Access
  /** Null: initiators need no password. */
  chap: Chap | null
  disk: Disk
  /** The gateways that are to show it, for a driver that has some. */
  portals: readonly GatewayPortal[]
}

export interface Identity {
  /** The unit serial number, VPD page 0x80: at most 36 characters. */
  serial: string
  /** The device identification, VPD page 0x83: 32 hexadecimal digits, an NAA identifier of 128 bits. */
  naa: string
}

/** Who may log in: who is named in either list. If both are empty, everybody. */
export interface Access {
  /** Names, such as `iqn.1993-08.org.debian:01:abc`. */
  initiators: readonly string[]
  /** IP addresses, or networks such as `10.0.0.0/24`. */
  addresses: readonly string[]
}

export interface Credentials {
  user: string
  password: string
}

/** What an initiator shows that it knows; and, in `mutual`, what the target shows to the initiator. */
export interface Chap extends Credentials {
  mutual?: Credentials | undefined
}

/** What cannot change while the disk is in use, so it is as it was when the volume was exposed. */
export interface Disk {
  /** Bytes in a logical block: 512 or 4096. */
  blockSize: number
  /** Whether initiators are told that a write may be in a cache until they flush. */
  writeCache: boolean
  /** Whether initiators can give blocks back. */
  discard: boolean
}

export interface Session {
  /** The initiator's name. Absent: not told, of a target that everybody may log in to. */
  initiator?: string
  /** Its IP addresses, one for each connection. */
  addresses: readonly string[]
}

export interface ExposedTarget {
  iqn: string
  /** Undefined: it cannot be told. */
  sessions: readonly Session[] | undefined
  /** What it shows, where that is known. */
  disk?: {
    /** `pool/image` */
    image: string
    identity: Identity
  }
}

/** A gateway, by the name that it has for itself, and one of its addresses. */
export type GatewayPortal = Omit<Portal, 'port'>

/** Where initiators find the targets. */
export interface Portal {
  host?: string | undefined
  ip: string
  port: number
}

/**
 * Does what is asked for the targets of our prefixes; others it neither lists nor touches. All of it can be done again.
 *
 * What it throws is of errors.ts: in particular {@link TargetServiceDownError}, when there are no targets at all.
 */
export interface TargetDriver {
  /** The logical unit number that each disk has in its target. */
  readonly lun: number
  /** How soon it is worthwhile to look again at what could not be made as it should be, in milliseconds. */
  readonly retryMs: number
  /** A word for as long as the targets live; another one when they are gone, undefined while nothing serves any. */
  life(): Promise<string | undefined>
  /** @param given - Where a target is to be found, if it is not as the settings say. */
  portals(given?: readonly GatewayPortal[]): Promise<Portal[]>
  /** How many clients of the cluster have the image of such a target open. */
  openersOf(target: Pick<Target, 'portals'>): number
  list(): Promise<ExposedTarget[]>
  /** Undefined: it cannot be told. */
  sessions(iqn: string): Promise<readonly Session[] | undefined>
  /** Those of them that `ensure` would change something for. */
  differing(targets: readonly Target[]): Promise<Target[]>
  /** Looks, and changes what differs. Whoever is logged in stays so. Resolves with whether the target was there. */
  ensure(target: Target): Promise<boolean>
  /**
   * Resolves with whether the target was there.
   *
   * @param force - Whoever is logged in loses the disk. Without it, that is a BlockedError.
   */
  remove(iqn: string, force: boolean): Promise<boolean>
  /**
   * Shows the size that the image has by now, in bytes, to initiators; does nothing where there is no such target. Those
   * of this target may have to log in again, which they do by themselves; those of others notice nothing.
   */
  refreshSize(target: Target, sizeBytes: number): Promise<void>
}

interface DriverOptions {
  config: Pick<Config, 'agentId' | 'iscsi' | 'ceph'>
  cluster: Cluster
  /** Of the names that are ours, up to the colon; there can be more of them later. */
  prefixes: ReadonlySet<string>
  /** Ends all that is asked of it, and not yet answered. */
  signal: AbortSignal
}

/** Undefined: volumes are not exposed. */
export function openDriver({ config, cluster, prefixes, signal }: DriverOptions): TargetDriver | undefined {
  const { driver, dashboard, portals } = config.iscsi
  switch (driver) {
    case 'none':
      return undefined
    case 'tgt':
      return openTgt(config, prefixes, signal)
    case 'ceph-iscsi':
      return new CephIscsiDriver({ cluster, config, dashboard, portals, signal })
  }
}

export function openTgt(
  { iscsi, ceph }: Pick<Config, 'iscsi' | 'ceph'>,
  prefixes: ReadonlySet<string>,
  signal: AbortSignal,
): TgtDriver {
  const [portal] = iscsi.portals
  return new TgtDriver({ control: new TgtControl(iscsi.tgt, signal), portal, ceph, prefixes })
}
