/**
 * Keeps the targets as the list of exposures says: jobs change an entry and have its target settled; and whatever has come
 * between (a target service that began anew with nothing, a process that died on its way) is settled when it is seen.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { AbortError, type Cluster } from '../../lib/index.js'
import { forEachLimited } from '../concurrency.js'
import type { Config } from '../config.js'
import { JobError, messageOf } from '../errors.js'
import { KeyedQueue } from '../jobs/queue.js'
import type { Logger } from '../log.js'
import { imageOf, iqnOf, prefixOf } from '../names.js'
import { lookAt } from '../volumes/find.js'
import { clashesOf } from './clashes.js'
import type { Chap, ExposedTarget, GatewayPortal, Portal, Session, Target, TargetDriver } from './driver.js'
import { openDriver } from './driver.js'
import { attachedBy, ChapUserTakenError, TargetServiceDownError, TargetServiceSilentError } from './errors.js'
import { type Exposed, type Exposure, ExposureList, type Exposures, keyOf } from './exposure.js'
import { identityOf } from './identity.js'
import { straysAmong } from './strays.js'

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

/** In the queue, for what is done to none of the images. No image is called so. */
const theList = ''

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
  /** Of names that are ours: the one of the settings, and those that the list has from earlier settings. */
  readonly #prefixes: Set<string>
  #knowsPrefixes = false
  /** By image. Whoever settles a target has it to itself, so that what was read of the list still holds. */
  readonly #queue = new KeyedQueue()
  readonly #stopping: AbortController
  #loop: Promise<void> | undefined
  #life: string | undefined
  #nextAt = 0
  /** What was said last: of all, under '', and of targets. */
  readonly #troubles = new Map<string, string>()
  /** Targets that could not be made as they should be: when that is tried again, and how long is waited after that. */
  readonly #retries = new Map<string, { at: number; pauseMs: number }>()

  private constructor(
    surroundings: Surroundings,
    driver: TargetDriver,
    prefixes: Set<string>,
    stopping: AbortController,
  ) {
    const { cluster, config } = surroundings
    this.#stopping = stopping
    this.#surroundings = surroundings
    this.#driver = driver
    this.#prefixes = prefixes
    this.#list = new ExposureList({ cluster, volumePool: config.ceph.volumePool, agent: config.agentId })
  }

  /** Undefined where volumes are not to be exposed. */
  static of(surroundings: Surroundings): TargetKeeper | undefined {
    const stopping = new AbortController()
    const prefixes = new Set([surroundings.config.iscsi.iqnPrefix])
    const driver = openDriver({ ...surroundings, prefixes, signal: stopping.signal })
    return driver && new TargetKeeper(surroundings, driver, prefixes, stopping)
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
  sessions({ iqn }: Exposure): Promise<readonly Session[]> {
    return this.#sessionsAt(iqn)
  }

  /** @throws {TargetServiceSilentError} it cannot be told */
  async #sessionsAt(iqn: string): Promise<readonly Session[]> {
    const sessions = await this.#orWhenDown([], () => this.#driver.sessions(iqn))
    if (sessions !== undefined) return sessions
    throw new TargetServiceSilentError(`who is logged in to ${iqn} cannot be told: one of its gateways does not answer`)
  }

  /** @throws {ChapUserTakenError} */
  async expose(exposure: Exposure): Promise<void> {
    // One after the other: two that come at once would not see that they have one user for two passwords.
    await this.#queue.run(theList, async () => {
      const others = (await this.#readList()).exposures.filter(other => keyOf(other) !== keyOf(exposure))
      const accesses = [...others, exposure].map(each => ({ iqn: each.iqn, chap: this.#chapOf(each) }))
      const user = clashesOf(accesses).get(exposure.iqn)
      if (user !== undefined) throw new ChapUserTakenError(`${user} is in use with another password`)
      await this.#list.write({ ...exposure, isClosed: false })
    })
    await this.settle(exposure)
  }

  /** Has it as it was before; also while nothing serves targets, for then it is so when something does. */
  async putBack(exposure: Exposure): Promise<void> {
    await this.#list.write({ ...exposure, isClosed: false })
    await this.#orWhenDown(undefined, () => this.settle(exposure))
  }

  /**
   * Resolves with whether there was anything to hide.
   *
   * @throws {BlockedError} TARGET_BUSY: an initiator is logged in, and `force` is not given; nothing has changed then
   */
  hide(exposed: Exposed, force: boolean): Promise<boolean> {
    return this.#queue.run(keyOf(exposed), async () => {
      const exposure = await this.#list.read(exposed)
      const iqn = exposure?.iqn ?? iqnOf(this.#surroundings.config.iscsi.iqnPrefix, exposed.name)
      const sessions = force ? [] : await this.#sessionsAt(iqn)
      if (sessions.length > 0) throw attachedBy(iqn, sessions)
      try {
        // The entry goes last, as it says what the target is called.
        if (exposure !== undefined) await this.#list.write({ ...exposure, isClosed: true })
        const wasThere = await this.#driver.remove(iqn, force)
        await this.#list.remove(exposed)
        return wasThere || exposure !== undefined
      } catch (error) {
        // What may be there still is looked after as before; what is to go in any case, goes when it is seen again.
        if (exposure !== undefined && !force) await this.#list.write(exposure)
        throw error
      }
    })
  }

  /**
   * Does something to the image that needs it closed: its target is away meanwhile, also for other processes of this agent. If
   * this one dies, or the work is interrupted, it stays so until that is done again, or the volume exposed: what is half done,
   * nobody is to see.
   *
   * @throws {BlockedError} TARGET_BUSY
   */
  async whileClosed<T>(exposed: Exposed, work: () => Promise<T>): Promise<T> {
    return this.#queue.run(keyOf(exposed), async () => {
      const found = await this.#list.read(exposed)
      if (found === undefined) return work()
      const exposure = { ...found, isClosed: false }
      const open = async () => {
        await this.#list.write(exposure)
        await this.#orWhenDown(undefined, () => this.#ensure(exposure))
      }
      try {
        await this.#list.write({ ...exposure, isClosed: true })
        await this.#driver.remove(exposure.iqn, false)
        const done = await work()
        await open()
        return done
      } catch (error) {
        if (!(error instanceof AbortError)) await open()
        throw error
      }
    })
  }

  /** Shows the size that an image has by now, in bytes, if it is exposed. */
  async refreshSize(exposed: Exposed, sizeBytes: number): Promise<void> {
    await this.#queue.run(keyOf(exposed), async () => {
      const exposure = await this.#list.read(exposed)
      if (exposure === undefined) return
      const target = await this.#targetOf(exposure)
      // Whatever comes next opens the image anew.
      await this.#orWhenDown(undefined, () => this.#driver.refreshSize(target, sizeBytes))
    })
  }

  /** Makes the target what the list says of it by now. */
  async settle(exposed: Exposed): Promise<void> {
    await this.#queue.run(keyOf(exposed), async () => {
      for (let exposure = await this.#list.read(exposed); exposure !== undefined; ) {
        if (exposure.isClosed) await this.#driver.remove(exposure.iqn, false)
        else await this.#ensure(exposure)
        // Another process of this agent may have changed it meanwhile, or taken it away.
        const now: Exposure = (await this.#list.read(exposed)) ?? { ...exposure, isClosed: true }
        if (JSON.stringify(now) === JSON.stringify(exposure)) return
        exposure = now
      }
    })
  }

  async #ensure(exposure: Exposure): Promise<void> {
    const { poolName, name, id } = exposure
    if (!this.#knowsPrefixes) await this.#readList()
    await using pool = await this.#surroundings.cluster.openPool(poolName)
    const found = await lookAt(pool, name, async image => (await image.stat()).id)
    if (found === undefined)
      throw new JobError('IMAGE_NOT_FOUND', `${poolName}/${name} is to be exposed, and not there`)
    if (found !== id) throw new JobError('IMAGE_NOT_OURS', `${poolName}/${name} is another image than was exposed`)
    await this.#driver.ensure(await this.#targetOf(exposure))
  }

  async #targetOf(exposure: Exposure): Promise<Target> {
    const { poolName, name, id, iqn, initiators, addresses, disk, portals = this.#usualPortals } = exposure
    const { cluster } = this.#surroundings
    return {
      iqn,
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

  async #readList(): Promise<Exposures> {
    const list = await this.#list.list()
    for (const { iqn } of list.exposures) {
      const prefix = prefixOf(iqn)
      if (prefix !== undefined) this.#prefixes.add(prefix)
    }
    this.#knowsPrefixes = true
    return list
  }

  /** All that should be exposed, and what is there of it. */
  async look(): Promise<Kept[]> {
    const { exposures } = await this.#readList()
    const listed = await this.#orWhenDown([], () => this.#driver.list())
    const sessionsOf = new Map(listed.map(({ iqn, sessions }) => [iqn, sessions]))
    const usual = await this.#orWhenDown([], () => this.#driver.portals())
    const kept: Kept[] = []
    for (const exposure of exposures) {
      const isServed = sessionsOf.has(exposure.iqn)
      const portals = exposure.portals === undefined ? usual : await this.portals(exposure)
      kept.push({ exposure, isServed, sessions: isServed ? sessionsOf.get(exposure.iqn) : [], portals })
    }
    return kept
  }

  /** By the names of the images. */
  async describe(): Promise<Map<string, Exposing>> {
    const kept = await this.look()
    const exposing = kept.map(({ exposure: { name, iqn }, sessions, portals: [portal] }) => {
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
    if (life !== this.#life) this.#retries.clear()
    this.#life = life
    await this.reconcile()
    this.#nextAt = Math.min(Date.now() + intervalMs, ...[...this.#retries.values()].map(({ at }) => at))
  }

  /**
   * Compares all targets with the list, and mends those whose turn it is: one that cannot be mended is tried less and less
   * often. Resolves with whether they are alike by now.
   */
  async reconcile(): Promise<boolean> {
    const { exposures, unreadable } = await this.#readList()
    const open = exposures.filter(({ isClosed }) => !isClosed)
    const targets = await Promise.all(open.map(exposure => this.#targetOf(exposure)))
    const clashes = clashesOf(targets)
    for (const [iqn, user] of clashes) this.#tell(iqn, `${user} has another password elsewhere`)
    const listed = await this.#driver.list()
    const differing = await this.#driver.differing(targets.filter(({ iqn }) => !clashes.has(iqn)))
    const served = new Set(listed.map(({ iqn }) => iqn))
    const notClosed = exposures.filter(({ isClosed, iqn }) => isClosed && served.has(iqn))
    const own = new Set([...exposures.map(({ iqn }) => iqn), ...this.#tellUnreadable(unreadable)])
    const strays = await this.#straysAmong(listed.filter(({ iqn }) => !own.has(iqn)))
    const work = [
      ...[...differing, ...notClosed].map(each => ({ iqn: each.iqn, mend: () => this.settle(each) })),
      ...strays.map(({ iqn }) => ({ iqn, mend: () => this.#removeStray(iqn) })),
    ]
    const due = work.filter(({ iqn }) => (this.#retries.get(iqn)?.at ?? 0) <= Date.now())
    for (const iqn of this.#retries.keys()) if (!work.some(each => each.iqn === iqn)) this.#retries.delete(iqn)
    let isAlike = clashes.size === 0 && due.length === work.length
    await forEachLimited(due, settledAtOnce, async ({ iqn, mend }) => {
      if (this.#stopping.signal.aborted || !(await this.#mendOrTell(iqn, mend))) isAlike = false
    })
    return isAlike
  }

  /** Gives the names that they may have. */
  #tellUnreadable(unreadable: readonly Exposed[]): string[] {
    const reason = 'how it should be cannot be read: perhaps another version wrote it'
    const { iqnPrefix } = this.#surroundings.config.iscsi
    for (const { name } of unreadable) this.#tell(iqnOf(iqnPrefix, name), reason)
    return unreadable.flatMap(({ name }) => [...this.#prefixes].map(prefix => iqnOf(prefix, name)))
  }

  async #straysAmong(targets: readonly ExposedTarget[]): Promise<ExposedTarget[]> {
    const { cluster, config } = this.#surroundings
    const { strays, others } = await straysAmong(targets, cluster, config.ceph.volumePool)
    for (const { iqn } of others)
      this.#tell(iqn, 'it has our prefix, and is not ours: agents of one host need an IQN_PREFIX each')
    return strays
  }

  async #removeStray(iqn: string): Promise<void> {
    const exposed = { poolName: this.#surroundings.config.ceph.volumePool, name: imageOf(iqn) }
    await this.#queue.run(keyOf(exposed), async () => {
      // Unless it is being exposed just now.
      if ((await this.#list.read(exposed))?.iqn !== iqn) await this.#driver.remove(iqn, false)
    })
  }

  async #mendOrTell(iqn: string, mend: () => Promise<void>): Promise<boolean> {
    try {
      await mend()
      this.#troubles.delete(iqn)
      this.#retries.delete(iqn)
      this.#surroundings.log.info({ iqn }, 'a target was not as it should be, and is')
      return true
    } catch (error) {
      if (error instanceof TargetServiceDownError) throw error
      this.#tell(iqn, messageOf(error))
      const { pauseMs } = this.#retries.get(iqn) ?? { pauseMs: this.#driver.retryMs }
      this.#retries.set(iqn, { at: Date.now() + pauseMs, pauseMs: Math.min(2 * pauseMs, intervalMs) })
      return false
    }
  }
}
