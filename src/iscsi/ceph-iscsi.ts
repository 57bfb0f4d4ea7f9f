/**
 * Targets of ceph-iscsi gateways, by way of the Ceph Dashboard, which does everything on all gateways of a target.
 *
 * The gateways have other users, and perhaps other agents, so what is ours is stamped (target-stamps.ts). What they were told
 * to do they may do in part, and the Dashboard goes on by itself when nobody waits: so nothing is changed while something goes on
 * at the same target, and a target that is ours and half of what it should be is completed, or removed.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import type { Cluster } from '../../lib/index.js'
import type { Config, DashboardSettings } from '../config.js'
import { messageOf } from '../errors.js'
import { KeyedQueue } from '../jobs/queue.js'
import { Dashboard, type DashboardCall, parse } from './dashboard.js'
import { DashboardError, isDashboardCode } from './dashboard-errors.js'
import type { ExposedTarget, GatewayPortal, Portal, Session, Target, TargetDriver } from './driver.js'
import { attachedBy, TargetNotOursError, TargetRefusedError } from './errors.js'
import {
  bodyOf,
  bodyWithoutDisk,
  checkPossible,
  differs,
  diskLun,
  type GatewayTarget,
  gatewayTargetSchema,
  sessionsOf,
  type TargetBody,
} from './gateway-target.js'
import { Gateways } from './gateways.js'
import { type TargetStamp, TargetStamps } from './target-stamps.js'

interface CephIscsiOptions {
  cluster: Cluster
  config: Pick<Config, 'agentId' | 'ceph'>
  dashboard: DashboardSettings
  /** Those of the settings. */
  portals: readonly GatewayPortal[]
  /** Ends all that is asked, and not yet answered. */
  signal: AbortSignal
}

/** ceph-iscsi has no setting for it. */
const port = 3260

/** A gateway counts an initiator that has left without a word for up to five seconds. */
const lingerMs = 8_000
const lingerPollMs = 500

/** How long what was listed is as good as what would be listed now. */
const listingMs = 2_000

/** How long a request may still take effect where nobody sees that it is under way: longer than all that waits for gateways. */
const lateMs = 600_000

const resource = '/api/iscsi/target'

/** The gateway looks at this one alone: without it two of them could write at the same time. */
const neededFeature = 'exclusive-lock'

export class CephIscsiDriver implements TargetDriver {
  readonly lun = diskLun
  readonly retryMs = 10_000
  readonly #options: CephIscsiOptions
  readonly #dashboard: Dashboard
  readonly #gateways: Gateways
  readonly #stamps: TargetStamps
  /** Gateways keep all that they know in one object, so they are told one thing after the other. */
  readonly #changes = new KeyedQueue()
  #listed: { at: number; targets: GatewayTarget[] } | undefined

  constructor(options: CephIscsiOptions) {
    const { dashboard, signal, cluster, config } = options
    this.#options = options
    this.#dashboard = new Dashboard(dashboard, signal)
    this.#gateways = new Gateways({ cluster, checksCertificate: dashboard.checksCertificate, signal })
    this.#stamps = new TargetStamps({ cluster, volumePool: config.ceph.volumePool, agent: config.agentId })
  }

  /** Gateways keep their targets in the cluster, and have them again whatever ends. */
  async life(): Promise<string> {
    return 'kept by the gateways'
  }

  async portals(given: readonly GatewayPortal[] = this.#options.portals): Promise<Portal[]> {
    return given.map(({ host, ip }) => ({ host, ip, port }))
  }

  openersOf({ portals }: Pick<Target, 'portals'>): number {
    return new Set(portals.map(({ host }) => host)).size
  }

  async list(): Promise<ExposedTarget[]> {
    const stamped = await this.#stamps.list()
    const targets = (await this.#list()).filter(({ target_iqn }) => stamped.has(target_iqn))
    return targets.map(target => ({ iqn: target.target_iqn, sessions: sessionsOf(target) }))
  }

  /** Those who have just left without a word are waited for: they would keep the target from being removed. */
  async sessions(iqn: string): Promise<readonly Session[] | undefined> {
    if (!(await this.#stamps.has(iqn))) return []
    for (const giveUpAt = Date.now() + lingerMs; ; await delay(lingerPollMs)) {
      const found = await this.#find(iqn)
      const sessions = found && sessionsOf(found)
      if (found === undefined) return []
      if (sessions === undefined || sessions.length === 0 || Date.now() > giveUpAt) return sessions
    }
  }

  async differing(targets: readonly Target[]): Promise<Target[]> {
    const listed = this.#listed && Date.now() - this.#listed.at < listingMs ? this.#listed.targets : await this.#list()
    const found = new Map(listed.map(target => [target.target_iqn, target]))
    await this.#forgetUnanswered(found)
    return targets.filter(target => {
      const there = found.get(target.iqn)
      return there === undefined || differs(there, target)
    })
  }

  ensure(target: Target): Promise<boolean> {
    checkPossible(target)
    return this.#change(target.iqn, async found => {
      if (found === undefined) {
        await this.#create(target)
        return false
      }
      await this.#checkOurs(target.iqn)
      if (found.portals.length === 0) await this.#replaceUnfinished(target)
      else if (differs(found, target)) await this.#edit(target.iqn, bodyOf(target, found))
      return true
    })
  }

  async remove(iqn: string, force: boolean): Promise<boolean> {
    if (!(await this.#stamps.has(iqn))) return false
    if (!force) await this.#checkFree(iqn)
    return this.#change(iqn, async found => {
      if (found !== undefined && !(await this.#removeFound(found, force))) return true
      await this.#unstamp(iqn)
      return found !== undefined
    })
  }

  /** Not as long as something of ours may come yet: it would be taken for a stranger's. */
  async #unstamp(iqn: string): Promise<void> {
    const stamp = await this.#stamps.read(iqn)
    if (stamp !== undefined && !mayComeYet(stamp)) await this.#stamps.remove(iqn)
  }

  /**
   * What has not come in all that time does not come any more. Twice the time: what was made anew since it was listed has a stamp
   * that is younger.
   */
  async #forgetUnanswered(listed: ReadonlyMap<string, GatewayTarget>): Promise<void> {
    for (const [iqn, stamp] of await this.#stamps.list()) {
      const { unansweredSince } = stamp
      const isLate = unansweredSince !== undefined && Date.now() > Date.parse(unansweredSince) + 2 * lateMs
      if (isLate && !listed.has(iqn)) await this.#stamps.removeIfStill(iqn, stamp)
    }
  }

  /**
   * The gateways have the size of an image when they open it. If nobody is logged in the target is made anew; else they have to be
   * told, one by one.
   */
  async refreshSize(target: Target, sizeBytes: number): Promise<void> {
    await this.#change(target.iqn, async found => {
      if (found === undefined || found.disks.length === 0 || !(await this.#stamps.has(target.iqn))) return
      const sessions = sessionsOf(found)
      if (sessions?.length === 0) {
        await this.#removeFound(found, false)
        await this.#create(target)
      } else {
        const gateways = [...new Set(found.portals.map(({ host }) => host))]
        await this.#gateways.showSize(gateways, target.poolName, target.name, sizeBytes)
      }
    })
  }

  /** Nothing else goes on at the target meanwhile, by our doing or by what is left of it. */
  #change<T>(iqn: string, work: (found: GatewayTarget | undefined) => Promise<T>): Promise<T> {
    return this.#changes.run('', async () => {
      await this.#dashboard.untilIdle(iqn)
      try {
        return await work(await this.#find(iqn))
      } finally {
        this.#listed = undefined
      }
    })
  }

  async #list(): Promise<GatewayTarget[]> {
    const call = { what: 'list the targets', method: 'GET', resource } as const
    const targets = parse(z.array(gatewayTargetSchema), call, await this.#dashboard.ask(call))
    this.#listed = { at: Date.now(), targets }
    return targets
  }

  async #find(iqn: string): Promise<GatewayTarget | undefined> {
    const call = { what: `look at the target ${iqn}`, method: 'GET', resource, item: iqn } as const
    try {
      return parse(gatewayTargetSchema, call, await this.#dashboard.ask(call))
    } catch (error) {
      if (!(error instanceof DashboardError && error.status === 404)) throw error
      // So it is, too, where the Dashboard has nothing to do with iSCSI, and then there are no lists either.
      return (await this.#list()).find(({ target_iqn }) => target_iqn === iqn)
    }
  }

  async #checkOurs(iqn: string): Promise<void> {
    if (await this.#stamps.has(iqn)) return
    throw new TargetNotOursError(`the gateways have a target ${iqn} that this agent has not made: it is left alone`)
  }

  async #checkFree(iqn: string): Promise<void> {
    const sessions = await this.sessions(iqn)
    if (sessions !== undefined && sessions.length > 0) throw attachedBy(iqn, sessions)
  }

  async #create(target: Target): Promise<void> {
    const { iqn } = target
    await this.#checkFeatures(target)
    const before = await this.#stamps.read(iqn)
    const earlier = before !== undefined && mayComeYet(before) && { unansweredSince: before.unansweredSince }
    const stamp = { owner: target.portals[0]?.host, ...earlier }
    await this.#stamps.write(iqn, { ...stamp, unansweredSince: new Date().toISOString() })
    const body = { target_iqn: iqn, ...bodyOf(target) }
    try {
      await this.#ask({ what: `create the target ${iqn}`, method: 'POST', resource, body })
    } catch (error) {
      if (!isDashboardCode(error, 'target_already_exists')) throw await this.#afterFailure(iqn, error, stamp)
      if (before === undefined) {
        await this.#stamps.remove(iqn)
        throw new TargetNotOursError(`somebody else has made the target ${iqn} meanwhile: it is left alone`)
      }
      // An earlier request of ours, that had no answer, has taken effect. The next look finds it.
      await this.#stamps.write(iqn, before)
      throw error
    }
    await this.#stamps.write(iqn, stamp)
  }

  /** What is left of a target that could not be made is removed. If that fails, too, the stamp stays for the next look. */
  async #afterFailure(iqn: string, cause: unknown, stamp: TargetStamp): Promise<unknown> {
    // Whether it was done at all is not known of another.
    if (!(cause instanceof DashboardError)) return cause
    try {
      const found = await this.#find(iqn)
      if (found !== undefined) await this.#removeFound(found, false)
      // What the Dashboard has a word for, it has refused by itself. Else it may be that a gateway has not answered it in time.
      if (cause.dashboardCode !== undefined) await this.#stamps.write(iqn, stamp)
      await this.#unstamp(iqn)
      return cause
    } catch (error) {
      const message = `${messageOf(cause)}; and what is there of it is not removed yet: ${messageOf(error)}`
      return new TargetRefusedError(message, { cause, retryable: cause.retryable })
    }
  }

  /** Without portals it can be neither changed nor removed by the Dashboard. */
  async #replaceUnfinished(target: Target): Promise<void> {
    await this.#removeUnfinished(target.iqn)
    await this.#create(target)
  }

  async #removeUnfinished(iqn: string): Promise<void> {
    const { owner = this.#options.portals[0]?.host } = (await this.#stamps.read(iqn)) ?? {}
    await this.#gateways.removeTarget(iqn, owner)
  }

  async #edit(iqn: string, body: TargetBody): Promise<void> {
    const item = { what: `change the target ${iqn}`, method: 'PUT', resource, item: iqn } as const
    await this.#ask({ ...item, body: { new_target_iqn: iqn, ...body } })
  }

  /** False: it stays, with those who are logged in, and without its disk. The next look finds it. */
  async #removeFound(found: GatewayTarget, force: boolean): Promise<boolean> {
    const { target_iqn: iqn, portals } = found
    if (portals.length === 0) {
      await this.#removeUnfinished(iqn)
      return true
    }
    if (force && sessionsOf(found)?.length !== 0) await this.#edit(iqn, bodyWithoutDisk(found))
    try {
      await this.#ask({ what: `remove the target ${iqn}`, method: 'DELETE', resource, item: iqn })
      return true
    } catch (error) {
      if (isDashboardCode(error, 'target_does_not_exist')) return true
      if (!isDashboardCode(error, 'target_has_active_sessions')) throw error
      if (force) return false
      throw attachedBy(iqn, sessionsOf(found) ?? [])
    }
  }

  /** One that is changed under an initiator that stays. */
  async #ask(call: DashboardCall): Promise<void> {
    try {
      await this.#dashboard.ask(call)
    } catch (error) {
      if (call.item === undefined || !isDashboardCode(error, 'client_logged_in')) throw error
      throw attachedBy(call.item, (await this.sessions(call.item)) ?? [])
    }
  }

  async #checkFeatures({ poolName, name }: Target): Promise<void> {
    await using pool = await this.#options.cluster.openPool(poolName)
    await using image = await pool.openImage(name, { readOnly: true })
    const { features } = await image.stat()
    if (features.includes(neededFeature)) return
    const path = `${poolName}/${name}`
    const todo = `rbd feature enable ${path} ${neededFeature}`
    throw new TargetRefusedError(
      `ceph-iscsi exposes no image without ${neededFeature}, and ${path} has it not; ${todo}`,
    )
  }
}

function mayComeYet({ unansweredSince }: TargetStamp): boolean {
  return unansweredSince !== undefined && Date.now() < Date.parse(unansweredSince) + lateMs
}
