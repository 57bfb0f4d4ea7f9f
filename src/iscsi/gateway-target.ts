/** Targets as the Dashboard has them, and as it is to make them. */
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { Chap, Identity, Session, Target } from './driver.js'
import { TargetRefusedError } from './errors.js'

/** Of what is not set, there have been both. */
const text = z
  .string()
  .nullish()
  .transform(value => value ?? '')

const authSchema = z.object({ user: text, password: text, mutual_user: text, mutual_password: text })

const imageSchema = z.object({ pool: z.string(), image: z.string() })

const diskSchema = imageSchema.extend({
  backstore: z.string(),
  controls: z.record(z.string(), z.unknown()),
  wwn: z.string(),
  lun: z.int().optional(),
})

const clientSchema = z.object({
  client_iqn: z.string(),
  luns: z.array(imageSchema),
  auth: authSchema,
  /** By the state of its sessions, the gateways. */
  info: z.object({ state: z.record(z.string(), z.array(z.string())), ip_address: z.array(z.string()) }).optional(),
})

export const gatewayTargetSchema = z.object({
  target_iqn: z.string(),
  target_controls: z.record(z.string(), z.unknown()),
  acl_enabled: z.boolean(),
  /** Gateways before 3.4 have none. */
  auth: authSchema.optional(),
  portals: z.array(z.object({ host: z.string(), ip: z.string() })),
  disks: z.array(diskSchema),
  clients: z.array(clientSchema),
  groups: z.array(z.unknown()),
  /** Absent while it is being changed, and when one of its gateways does not answer. */
  info: z.object({ num_sessions: z.int() }).optional(),
})

export type GatewayTarget = z.output<typeof gatewayTargetSchema>
type Auth = z.output<typeof authSchema>
type GatewayDisk = z.output<typeof diskSchema>

/** What the Dashboard takes; the name is beside it. */
export type TargetBody = Required<
  Pick<GatewayTarget, 'target_controls' | 'acl_enabled' | 'auth' | 'portals' | 'groups'>
> & {
  disks: GatewayDisk[]
  clients: Pick<GatewayTarget['clients'][number], 'client_iqn' | 'luns' | 'auth'>[]
}

/** The logical unit number that a disk has in its target. */
export const diskLun = 0

/** What tcmu-runner opens by librbd. There is no other. */
const backstore = 'user:rbd'

const noAuth: Auth = { user: '', password: '', mutual_user: '', mutual_password: '' }

/**
 * What makes the target what it should be. Of a target that is there it keeps what is not ours to choose: the Dashboard makes a
 * disk anew, under whoever uses it, when so much as its number differs.
 */
export function bodyOf(target: Target, found?: GatewayTarget): TargetBody {
  const { poolName, name, access, chap } = target
  const isOpen = access.initiators.length === 0
  const luns = [{ pool: poolName, image: name }]
  const auth = authOf(chap)
  return {
    target_controls: found?.target_controls ?? {},
    acl_enabled: !isOpen,
    auth: isOpen ? auth : noAuth,
    portals: target.portals.map(({ host = '', ip }) => ({ host, ip })),
    disks: [found?.disks.find(disk => isDiskOf(disk, target)) ?? newDisk(target)],
    clients: isOpen ? [] : clientNames(access.initiators).map(client_iqn => ({ client_iqn, luns, auth })),
    groups: [],
  }
}

function newDisk({ poolName, name, identity }: Target): GatewayDisk {
  return { pool: poolName, image: name, backstore, controls: {}, wwn: serialOf(identity), lun: diskLun }
}

/** Nobody can reach the disk in it any more, and whoever is logged in stays so: those cannot be sent away. */
export function bodyWithoutDisk({ target_controls, acl_enabled, auth, portals, clients }: GatewayTarget): TargetBody {
  return {
    target_controls,
    acl_enabled,
    auth: auth ?? noAuth,
    portals,
    disks: [],
    clients: clients.map(({ client_iqn, auth }) => ({ client_iqn, luns: [], auth })),
    groups: [],
  }
}

export function differs(found: GatewayTarget, target: Target): boolean {
  const wanted = bodyOf(target, found)
  return !isDeepStrictEqual(essenceOf({ ...found, auth: found.auth ?? noAuth }), essenceOf(wanted))
}

/** In one order, without what is only told. */
function essenceOf({ acl_enabled, auth, portals, disks, clients, groups }: TargetBody): unknown {
  return {
    acl_enabled,
    auth,
    portals: portals.map(({ host, ip }) => `${host} ${ip}`).sort(),
    disks: disks.map(({ pool, image }) => `${pool}/${image}`).sort(),
    clients: clients
      .map(({ client_iqn, luns, auth }) => ({
        client_iqn,
        luns: luns.map(({ pool, image }) => `${pool}/${image}`),
        auth,
      }))
      .sort((a, b) => (a.client_iqn < b.client_iqn ? -1 : 1)),
    groups,
  }
}

function isDiskOf({ pool, image }: GatewayDisk, { poolName, name }: Target): boolean {
  return pool === poolName && image === name
}

function authOf(chap: Chap | null): Auth {
  if (chap === null) return noAuth
  const { user, password, mutual } = chap
  return { user, password, mutual_user: mutual?.user ?? '', mutual_password: mutual?.password ?? '' }
}

/** Gateways have names in lower case alone, as RFC 3722 has them. */
function clientNames(initiators: readonly string[]): string[] {
  return [...new Set(initiators.map(name => name.toLowerCase()))]
}

/** A UUID, which LIO gives as the serial number, and makes the identification of page 0x83 of. */
export function serialOf({ naa }: Identity): string {
  return naa.toLowerCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** Undefined: it cannot be told. */
export function sessionsOf({ portals, clients, info }: GatewayTarget): Session[] | undefined {
  if (portals.length === 0) return []
  if (info === undefined) return undefined
  const loggedIn = clients.flatMap(({ client_iqn, info }) => {
    const count = info?.state.LOGGED_IN?.length ?? 0
    return count === 0 ? [] : [{ initiator: client_iqn, addresses: info?.ip_address ?? [], count }]
  })
  const named = loggedIn.reduce((sum, { count }) => sum + count, 0)
  const unnamed = Math.max(0, info.num_sessions - named)
  return [
    ...loggedIn.map(({ initiator, addresses }) => ({ initiator, addresses })),
    ...Array.from({ length: unnamed }, () => ({ addresses: [] })),
  ]
}

/** @throws {TargetRefusedError} gateways cannot do that */
export function checkPossible({ iqn, poolName, name, access, disk, portals }: Target): void {
  const refuse = (why: string): never => {
    throw new TargetRefusedError(`ceph-iscsi cannot expose ${poolName}/${name}: ${why}`)
  }
  if (iqn !== iqn.toLowerCase()) refuse(`it has targets in lower case alone, and ${iqn} has capitals`)
  if (access.addresses.length > 0) refuse('it tells initiators by their names, not by their addresses')
  const odd = access.initiators.find(initiator => !/^iqn\./i.test(initiator))
  if (odd !== undefined) refuse(`it knows initiators by names that begin with iqn, not ${odd}`)
  if (disk.blockSize !== 512) refuse(`its blocks have 512 bytes, not ${disk.blockSize}`)
  const nameless = portals.find(({ host }) => host === undefined)
  if (nameless !== undefined) refuse(`the portal ${nameless.ip} needs the name of its gateway`)
}
