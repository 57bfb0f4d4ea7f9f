/**
 * Keeps the targets as the list of exposures says: jobs change an entry and have its target settled; and whatever has come
 * between (a target service that began anew with nothing, a process that died on its way) is settled when it is seen.
 */
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import type { Config } from '../config.js'
import { JobError, messageOf } from '../errors.js'
import { KeyedQueue } from '../jobs/queue.js'
import type { Logger } from '../log.js'
import { imageOf, iqnOf, iqnPrefix } from '../names.js'
import { lookAt } from '../volumes/find.js'
import { clashesOf } from './clashes.js'
import type { Chap, GatewayPortal, Identity, Portal, Session, Target, TargetDriver } from './driver.js'
import { openDriver } from './driver.js'
import { attachedBy, ChapUserTakenError, TargetServiceDownError, TargetServiceSilentError } from './errors.js'
import { type Exposed, type Exposure, ExposureList } from './exposure.js'

interface Surroundings {
  config: Pick<Config, 'agentId' | 'ceph' | 'iscsi'>
  cluster: Cluster
  log: Logger
}

/** Milliseconds between one look whether the target service lives and the next: it is one look at a file. */
const pollMs = 500
/** Between one comparison of all targets and the next, when the last one found them as they should be. */
const intervalMs = 20_000

/** The target service may do one after the other, and to look at the images takes some time, too. */
const settledAtOnce = 4

/** What inventories tell of a volume that is exposed. */
export interface Exposing {
  iqn: string
  portal?: Portal
  /** Absent: it cannot be told. */
  isAttached?: boolean
}

/** A volume that should be exposed. */
export interface Kept {
  exposure: Exposure
  iqn: string
  /** Whether its target is there. */
  isServed: boolean
  /** Undefined: it cannot be told. */
  sessions: readonly Session[] | undefined
  /** None, while nothing serves targets. */
  portals: Portal[]
}

export class TargetKeeper {
  readonly #surroundings: Surroundings
  readonly #driver: TargetDriver
  readonly #list: ExposureList
  /** Whoever settles a target has it to itself, so that what was read of the list still holds. */
  readonly #queue = new KeyedQueue()
  readonly #stopping: AbortController
  #loop: Promise<void> | undefined
  #life: string | undefined
  #nextAt = 0
  /** What was said last: of all, under '', and of targets. */
  readonly #troubles = new Map<string, string>()

  private constructor(surroundings: Surroundings, driver: TargetDriver, stopping: AbortController) {
    const { cluster, config } = surroundings
    this.#stopping = stopping
    this.#surroundings = surroundings
    this.#driver = driver
    this.#list = new ExposureList({ cluster, volumePool: config.ceph.volumePool, agent: config.agentId })
  }

  /** Undefined where volumes are not to be exposed. */
  static of(surroundings: Surroundings): TargetKeeper | undefined {
    const stopping = new AbortController()
    const driver = openDriver({ ...surroundings, iqnPrefix, signal: stopping.signal })
    return driver && new TargetKeeper(surroundings, driver, stopping)
  }

  get agent(): string {
    return this.#surroundings.config.agentId
  }

  get lun(): number {
    return this.#driver.lun
  }

  /** Where initiators find a volume that is exposed so. */
  portals({ portals }: Pick<Exposure, 'portals'>): Promise<Portal[]> {
    return this.#driver.portals(portals)
  }

  /** How many clients of the cluster have an image open that is exposed so. */
  openersOf({ portals }: Pick<Exposure, 'portals'>): number {
    return this.#driver.openersOf({ portals: portals ?? this.#usualPortals })
  }

  get #usualPortals(): readonly GatewayPortal[] {
    return this.#surroundings.config.iscsi.portals
  }

  start(): void {
    this.#loop = this.#goOn()
  }

  /** What is being asked of the target service ends, whoever asks. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  find(exposed: Exposed): Promise<Exposure | undefined> {
    return this.#list.read(exposed)
  }

  /** Nobody, where there is no such target. */
  async sessions({ name }: Exposed): Promise<readonly Session[]> {
    const iqn = iqnOf(name)
    const sessions = await this.#orWhenDown([], () => this.#driver.sessions(iqn))
    if (sessions !== undefined) return sessions
    throw new TargetServiceSilentError(
      `who is logged in to ${iqn} cannot be told, as one of its gateways does not answer`,
    )
  }

  /** @throws {ChapUserTakenError} */
  async expose(exposure: Exposure): Promise<void> {
    const others = (await this.#list.list()).filter(({ poolName, name }) => !isSame(exposure, { poolName, name }))
    const accesses = [...others, exposure].map(each => ({ iqn: iqnOf(each.name), chap: this.#chapOf(each) }))
    const user = clashesOf(accesses).get(iqnOf(exposure.name))
    if (user !== undefined) throw new ChapUserTakenError(`${user} is in use with another password`)
    await this.#list.write(exposure)
    await this.settle(exposure)
  }

  /**
   * Resolves with whether there was anything to hide.
   *
   * @throws {BlockedError} TARGET_BUSY: an initiator is logged in, and `force` is not given; nothing has changed then
   */
  hide(exposed: Exposed, force: boolean): Promise<boolean> {
    const iqn = iqnOf(exposed.name)
    return this.#queue.run(iqn, async () => {
      const sessions = force ? [] : await this.sessions(exposed)
      if (sessions.length > 0) throw attachedBy(iqn, sessions)
      const exposure = await this.#list.read(exposed)
      await this.#list.remove(exposed)
      try {
        const wasThere = await this.#driver.remove(iqn, force)
        return wasThere || exposure !== undefined
      } catch (error) {
        // What may be there still is looked after as before; what is to go in any case, goes when it is seen again.
        if (exposure !== undefined && !force) await this.#list.write(exposure)
        throw error
      }
    })
  }

  /**
   * Does something to the image that needs it closed: its target is away meanwhile.
   *
   * @throws {BlockedError} TARGET_BUSY
   */
  async whileClosed<T>(exposed: Exposed, work: () => Promise<T>): Promise<T> {
    return this.#queue.run(iqnOf(exposed.name), async () => {
      const exposure = await this.#list.read(exposed)
      if (exposure === undefined) return work()
      await this.#driver.remove(iqnOf(exposed.name), false)
      try {
        return await work()
      } finally {
        await this.#orWhenDown(undefined, () => this.#ensure(exposure))
      }
    })
  }

  /** Shows the size that an image has by now, in bytes, if it is exposed. */
  async refreshSize(exposed: Exposed, sizeBytes: number): Promise<void> {
    await this.#queue.run(iqnOf(exposed.name), async () => {
      const exposure = await this.#list.read(exposed)
      if (exposure === undefined) return
      const target = await this.#targetOf(exposure)
      // Whatever comes next opens the image anew.
      await this.#orWhenDown(undefined, () => this.#driver.refreshSize(target, sizeBytes))
    })
  }

  /** Makes the target what the list says of it by now. */
  async settle(exposed: Exposed): Promise<void> {
    const iqn = iqnOf(exposed.name)
    await this.#queue.run(iqn, async () => {
      for (let exposure = await this.#list.read(exposed); ; ) {
        if (exposure === undefined) await this.#driver.remove(iqn, false)
        else await this.#ensure(exposure)
        // Another process of this agent may have changed it meanwhile.
        const now = await this.#list.read(exposed)
        if (JSON.stringify(now) === JSON.stringify(exposure)) return
        exposure = now
      }
    })
  }

  async #ensure(exposure: Exposure): Promise<void> {
    const { poolName, name, id } = exposure
    await using pool = await this.#surroundings.cluster.openPool(poolName)
    const found = await lookAt(pool, name, async image => (await image.stat()).id)
    if (found === undefined)
      throw new JobError('IMAGE_NOT_FOUND', `${poolName}/${name} is to be exposed, and not there`)
    if (found !== id) throw new JobError('IMAGE_NOT_OURS', `${poolName}/${name} is another image than was exposed`)
    await this.#driver.ensure(await this.#targetOf(exposure))
  }

  async #targetOf(exposure: Exposure): Promise<Target> {
    const { poolName, name, id, initiators, addresses, disk, portals = this.#usualPortals } = exposure
    const { cluster } = this.#surroundings
    return {
      iqn: iqnOf(name),
      poolName,
      name,
      identity: identityOf(await cluster.fsid(), poolName, id),
      access: { initiators, addresses },
      chap: this.#chapOf(exposure),
      disk,
      portals,
    }
  }

  #chapOf({ chap }: Exposure): Chap | null {
    return chap === 'settings' ? this.#surroundings.config.iscsi.chap : chap
  }

  /** All that should be exposed, and what is there of it. */
  async look(): Promise<Kept[]> {
    const exposures = await this.#list.list()
    const listed = await this.#orWhenDown([], () => this.#driver.list())
    const sessionsOf = new Map(listed.map(({ iqn, sessions }) => [iqn, sessions]))
    const usual = await this.#orWhenDown([], () => this.#driver.portals())
    const kept: Kept[] = []
    for (const exposure of exposures) {
      const iqn = iqnOf(exposure.name)
      const isServed = sessionsOf.has(iqn)
      const portals = exposure.portals === undefined ? usual : await this.portals(exposure)
      kept.push({ exposure, iqn, isServed, sessions: isServed ? sessionsOf.get(iqn) : [], portals })
    }
    return kept
  }

  /** By the names of the images. */
  async describe(): Promise<Map<string, Exposing>> {
    const kept = await this.look()
    const exposing = kept.map(({ exposure: { name }, iqn, sessions, portals: [portal] }) => {
      const isAttached = sessions && { isAttached: sessions.length > 0 }
      return [name, { iqn, ...(portal && { portal }), ...isAttached }] as const
    })
    return new Map(exposing)
  }

  async #orWhenDown<T>(down: T, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof TargetServiceDownError) return down
      throw error
    }
  }

  async #goOn(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await this.#look()
        this.#troubles.delete('')
      } catch (error) {
        this.#nextAt = Date.now() + this.#driver.retryMs
        this.#tell('', messageOf(error))
      }
      await delay(pollMs, undefined, { signal }).catch(() => {})
    }
  }

  /** Once, and not at each look. */
  #tell(iqn: string, reason: string): void {
    if (this.#troubles.get(iqn) === reason) return
    this.#troubles.set(iqn, reason)
    const { log } = this.#surroundings
    if (iqn === '') log.warn({ reason }, 'targets not looked after')
    else log.warn({ iqn, reason }, 'a target is not as it should be')
  }

  async #look(): Promise<void> {
    const life = await this.#driver.life()
    if (life === this.#life && Date.now() < this.#nextAt) return
    this.#life = life
    this.#nextAt = Date.now() + ((await this.reconcile()) ? intervalMs : this.#driver.retryMs)
  }

  /** Compares all targets with the list. Resolves with whether they are alike by now. */
  async reconcile(): Promise<boolean> {
    const exposures = await this.#list.list()
    const targets = await Promise.all(exposures.map(exposure => this.#targetOf(exposure)))
    const clashes = clashesOf(targets)
    for (const [iqn, user] of clashes) this.#tell(iqn, `${user} has another password elsewhere`)
    const wanted = new Set(targets.map(({ iqn }) => iqn))
    const extra = (await this.#driver.list()).filter(({ iqn }) => !wanted.has(iqn))
    const differing = await this.#driver.differing(targets.filter(({ iqn }) => !clashes.has(iqn)))
    const { volumePool: poolName } = this.#surroundings.config.ceph
    const unlike = [...extra.map(({ iqn }) => ({ poolName, name: imageOf(iqn) })), ...differing]
    let isAlike = clashes.size === 0
    await forEachLimited(unlike, settledAtOnce, async exposed => {
      if (this.#stopping.signal.aborted || !(await this.#settleOrTell(exposed))) isAlike = false
    })
    return isAlike
  }

  async #settleOrTell(exposed: Exposed): Promise<boolean> {
    const iqn = iqnOf(exposed.name)
    try {
      await this.settle(exposed)
      this.#troubles.delete(iqn)
      this.#surroundings.log.info({ iqn }, 'a target was not as it should be, and is')
      return true
    } catch (error) {
      if (error instanceof TargetServiceDownError) throw error
      this.#tell(iqn, messageOf(error))
      return false
    }
  }
}

function isSame(a: Exposed, b: Exposed): boolean {
  return a.poolName === b.poolName && a.name === b.name
}

/**
 * Other images have other ones, in other clusters too: initiators take two disks of one identity for two ways to one disk.
 */
function identityOf(fsid: string, poolName: string, id: string): Identity {
  const hash = createHash('sha256')
    .update(JSON.stringify([fsid, poolName, id]))
    .digest('hex')
  return { serial: id, naa: `6${hash.slice(0, 31)}` }
}
