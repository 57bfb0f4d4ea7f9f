/**
 * Targets of tgtd, the user-space iSCSI target, whose backing store `rbd` opens images by librbd.
 *
 * Some of what tgtd can be asked ends it, and with it the sessions of everybody. So a target is never destroyed by force
 * (tgtd exits if a session is left by then): its connections are closed, and it goes when they are gone. And each target
 * has at most one account that initiators log in with (tgtd reads through a null pointer when it shows a target that has
 * lost the first of two).
 */
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../config.js'
import { KeyedQueue } from '../jobs/queue.js'
import { prefixOf } from '../names.js'
import type { Access, Chap, ExposedTarget, Portal, Session, Target, TargetDriver } from './driver.js'
import { attachedBy, ChapUserTakenError, TargetRefusedError, TargetServiceDownError } from './errors.js'
import { isRefusal, type TgtControl, type TgtRequest } from './tgt-control.js'
import { megabytesOf, parsePortals, parseTargets, type TgtTarget, type TgtUnit } from './tgt-show.js'

interface TgtOptions {
  control: TgtControl
  portal: Config['iscsi']['portals'][0]
  ceph: Config['ceph']
  prefixes: ReadonlySet<string>
}

/** Number 0 is tgtd's own, which it keeps. */
const diskLun = 1

/** To open an image takes as long as the cluster takes, and tgtd does nothing else meanwhile. */
const openMs = 60_000

/** How long connections that are closed may have commands under way, in milliseconds. */
const drainMs = 20_000
const drainPollMs = 20

/** Of the numbers that a target may have. */
const tidBits = 28

/** Whoever has an address that is allowed, or a name. */
const everybody = 'ALL'

/** A caching page as tgtd has it, without the bit WCE: then it flushes after each write. */
const writeThrough = '8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0'

export class TgtDriver implements TargetDriver {
  readonly lun = diskLun
  readonly retryMs = 1_000
  readonly #control: TgtControl
  readonly #options: TgtOptions
  /**
   * tgtd has one list of accounts for all targets. Whoever replaces one takes it from all of them for a moment, and a target
   * without an account lets everybody in: so accounts and rules, of whichever target, are changed one after the other.
   */
  readonly #accountQueue = new KeyedQueue()
  /** Passwords that tgtd has by our own doing: it shows none. */
  #known: { life: string | undefined; passwords: Map<string, string> } = { life: undefined, passwords: new Map() }

  constructor(options: TgtOptions) {
    this.#control = options.control
    this.#options = options
  }

  life(): Promise<string | undefined> {
    return this.#control.life()
  }

  /** The configured address, with the port that tgtd has for it. */
  async portals(): Promise<Portal[]> {
    const { portal } = this.#options
    const listening = parsePortals(await this.#ask({ mode: 'portal', operation: 'show' }))
    const own = listening.find(({ ip }) => ip === portal.ip) ?? listening[0]
    return own === undefined ? [] : [{ ...portal, port: own.port }]
  }

  /** tgtd itself. */
  openersOf(): number {
    return 1
  }

  async list(): Promise<ExposedTarget[]> {
    return (await this.#targets()).filter(({ iqn }) => this.#isOurs(iqn)).map(exposedOf)
  }

  async sessions(iqn: string): Promise<readonly Session[]> {
    return (await this.#find(iqn))?.sessions ?? []
  }

  async differing(targets: readonly Target[]): Promise<Target[]> {
    const there = new Map((await this.#targets()).map(target => [target.iqn, target]))
    await this.#readLife()
    return targets.filter(target => {
      const found = there.get(target.iqn)
      return found === undefined || this.#changes(found, target).length > 0
    })
  }

  async ensure(target: Target): Promise<boolean> {
    return this.#inOneLife(() => this.#ensure(target))
  }

  async #ensure(target: Target): Promise<boolean> {
    const found = await this.#find(target.iqn)
    if (found === undefined) {
      if (await this.#create(target)) return false
      // Somebody was quicker.
      return this.#ensure(target)
    }
    for (const change of this.#changes(found, target)) await change()
    return true
  }

  async remove(iqn: string, force: boolean): Promise<boolean> {
    try {
      return await this.#inOneLife(() => this.#remove(iqn, force))
    } catch (error) {
      if (error instanceof TargetServiceDownError) return false
      throw error
    }
  }

  async #remove(iqn: string, force: boolean): Promise<boolean> {
    const found = await this.#find(iqn)
    if (found === undefined) return false
    if (found.sessions.length > 0 && !force) throw attachedBy(iqn, found.sessions)
    await (force ? this.#destroyAnyway(found) : this.#destroy(found))
    return true
  }

  refreshSize(target: Target, sizeBytes: number): Promise<void> {
    return this.#inOneLife(() => this.#refreshSize(target, sizeBytes))
  }

  /** tgtd reads an image's size when it opens it, so the unit is made anew. Its target is closed meanwhile: no command fails. */
  async #refreshSize(target: Target, sizeBytes: number): Promise<void> {
    const found = await this.#find(target.iqn)
    const unit = found && diskOf(found)
    if (found === undefined || unit?.megabytes === megabytesOf(sizeBytes)) return
    await this.#remakeUnit(found, target)
  }

  #isOurs(iqn: string): boolean {
    const prefix = prefixOf(iqn)
    return prefix !== undefined && this.#options.prefixes.has(prefix)
  }

  #ask(request: TgtRequest): Promise<string> {
    return this.#control.ask(request)
  }

  async #targets(): Promise<TgtTarget[]> {
    return parseTargets(await this.#ask({ mode: 'target', operation: 'show' }))
  }

  async #find(iqn: string): Promise<TgtTarget | undefined> {
    return (await this.#targets()).find(target => target.iqn === iqn)
  }

  /** What has to be done for a target that is there to be as it should. */
  #changes(found: TgtTarget, target: Target): (() => Promise<void>)[] {
    const { tid } = found
    const changes: (() => Promise<void>)[] = []
    if (!this.#hasAccess(found, target)) changes.push(() => this.#changeAccess(target))
    if (!isUnitOf(diskOf(found), target)) changes.push(() => this.#remakeUnit(found, target))
    // Whoever closed it has died since.
    else if (!found.isReady) changes.push(() => this.#setState(tid, 'ready'))
    return changes
  }

  /**
   * Returns false if there is one of that name by now. Nobody can log in before its rules are there, and they come last.
   */
  async #create(target: Target): Promise<boolean> {
    const tid = await this.#newTarget(target)
    if (tid === undefined) return false
    try {
      await this.#newUnit(tid, target)
      await this.#accountQueue.run('', () => this.#openTo(tid, target))
      return true
    } catch (error) {
      // What is left of it all the same is found the next time, and made what it should be.
      await this.#ask({ mode: 'target', operation: 'delete', tid }).catch(() => {})
      throw error
    }
  }

  /** Its number follows from its disk, whatever that is called: tgtd makes a part of the device's identification of it. */
  async #newTarget({ iqn, identity }: Target): Promise<number | undefined> {
    let tid = createHash('sha256').update(identity.naa).digest().readUInt32BE() % 2 ** tidBits
    for (;;) {
      tid = Math.max(1, tid % 2 ** tidBits)
      try {
        await this.#ask({ mode: 'target', operation: 'new', tid, parameters: `targetname=${iqn}` })
        return tid
      } catch (error) {
        if (isRefusal(error, 'invalid')) throw new TargetRefusedError(`tgtd takes no target of the name ${iqn}`)
        if (!isRefusal(error, 'target exists')) throw error
      }
      if ((await this.#find(iqn)) !== undefined) return undefined
      tid++
    }
  }

  async #newUnit(tid: number, target: Target): Promise<void> {
    const { poolName, name, identity, disk } = target
    const parameters = join({
      path: `${poolName}/${name}`,
      bstype: 'rbd',
      bsopts: this.#storeOptions(),
      blocksize: disk.blockSize,
    })
    try {
      await this.#ask({ mode: 'device', operation: 'new', tid, lun: diskLun, parameters, limitMs: openMs })
    } catch (error) {
      if (isRefusal(error, 'invalid', 'unknown')) throw await this.#whyNotOpened(target, error)
      // Somebody was quicker, and has opened it since it was not there.
      if (!isRefusal(error, 'unit exists')) throw error
    }
    await this.#ask({
      mode: 'device',
      operation: 'update',
      tid,
      lun: diskLun,
      parameters: join({
        scsi_id: identity.naa,
        scsi_sn: identity.serial,
        thin_provisioning: disk.discard ? 1 : 0,
        ...(!disk.writeCache && { mode_page: writeThrough }),
      }),
    })
  }

  /** A keyring of its own cannot be named there: tgtd finds the user's as Ceph's programs do. */
  #storeOptions(): string {
    const { configFile, user } = this.#options.ceph
    return [
      ...(configFile === undefined ? [] : [`conf=${configFile}`]),
      ...(user === undefined ? [] : [`id=${user}`]),
    ].join(';')
  }

  async #whyNotOpened({ poolName, name }: Target, cause: unknown): Promise<TargetRefusedError> {
    const system = await this.#ask({ mode: 'system', operation: 'show' })
    if (!/^ +rbd\b/m.test(system)) {
      return new TargetRefusedError('tgtd has no backing store rbd: the package tgt-rbd has it', { cause })
    }
    const message = `tgtd cannot open ${poolName}/${name}; its log says why, with the number of the error`
    return new TargetRefusedError(message, { cause, retryable: true })
  }

  /** Those who are logged in reconnect when it is there again, by themselves, and repeat what was under way. */
  async #remakeUnit(found: TgtTarget, target: Target): Promise<void> {
    const { tid } = found
    await this.#whileClosed(found, async () => {
      if (diskOf(found) !== undefined) await this.#removeUnit(tid)
      await this.#newUnit(tid, target)
    })
  }

  async #removeUnit(tid: number): Promise<void> {
    await untilIdle(() => this.#ask({ mode: 'device', operation: 'delete', tid, lun: diskLun }), 'unit active')
  }

  /**
   * Nobody is logged in meanwhile, and nobody can. A login is refused in a way that has initiators try again; where the work
   * fails it stays so until the next look, for to those who came in without a disk tgtd would tell errors that last.
   */
  async #whileClosed(found: TgtTarget, work: () => Promise<void>): Promise<void> {
    await this.#close(found)
    await work()
    await this.#setState(found.tid, 'ready')
  }

  async #setState(tid: number, state: 'ready' | 'offline'): Promise<void> {
    await this.#ask({ mode: 'target', operation: 'update', tid, parameters: `state=${state}` })
  }

  /** Nobody can log in any more; ends the connections, and waits until the commands are over that were under way. */
  async #close({ tid, iqn }: TgtTarget): Promise<void> {
    await this.#setState(tid, 'offline')
    const closed = new Set<number>()
    for (const giveUpAt = Date.now() + drainMs; ; await delay(drainPollMs)) {
      const sessions = (await this.#find(iqn))?.sessions ?? []
      if (sessions.length === 0) return
      if (Date.now() > giveUpAt) {
        await this.#setState(tid, 'ready')
        throw attachedBy(iqn, sessions)
      }
      for (const { id, connections } of sessions) {
        if (closed.has(id)) continue
        closed.add(id)
        for (const connection of connections) await this.#closeConnection(tid, id, connection)
      }
    }
  }

  async #closeConnection(tid: number, session: number, connection: number): Promise<void> {
    try {
      await this.#ask({ mode: 'connection', operation: 'delete', tid, session, connection })
    } catch (error) {
      // It has ended by itself.
      if (!isRefusal(error, 'no session', 'no connection')) throw error
    }
  }

  async #destroyAnyway(found: TgtTarget): Promise<void> {
    await this.#close(found)
    try {
      await this.#destroy(found)
    } catch (error) {
      await this.#setState(found.tid, 'ready')
      throw error
    }
  }

  async #destroy({ tid, iqn }: TgtTarget): Promise<void> {
    try {
      await untilIdle(() => this.#ask({ mode: 'target', operation: 'delete', tid }), 'unit active')
    } catch (error) {
      if (isRefusal(error, 'no target')) return
      if (isRefusal(error, 'target active')) throw attachedBy(iqn, await this.sessions(iqn))
      throw error
    }
  }

  /** What is allowed comes before what is not any more goes. */
  #ruleChanges(tid: number, has: readonly string[], wanted: readonly string[]): (() => Promise<void>)[] {
    const change = (operation: 'bind' | 'unbind', rule: string, unless: 'rule exists' | 'no rule') => async () => {
      try {
        const kind = isInitiatorName(rule) ? 'initiator-name' : 'initiator-address'
        await this.#ask({ mode: 'target', operation, tid, parameters: `${kind}=${rule}` })
      } catch (error) {
        if (!isRefusal(error, unless)) throw error
      }
    }
    return [
      ...wanted.filter(rule => !has.includes(rule)).map(rule => change('bind', rule, 'rule exists')),
      ...has.filter(rule => !wanted.includes(rule)).map(rule => change('unbind', rule, 'no rule')),
    ]
  }

  #hasAccounts({ incoming, outgoing }: TgtTarget, chap: Chap | null): boolean {
    const [user, ...others] = incoming
    if (user !== chap?.user || others.length > 0 || outgoing !== chap?.mutual?.user) return false
    return credentialsOf(chap).every(({ user, password }) => this.#known.passwords.get(user) === password)
  }

  #hasAccess(found: TgtTarget, { access, chap }: Target): boolean {
    return this.#hasAccounts(found, chap) && this.#ruleChanges(found.tid, found.allowed, rulesOf(access)).length === 0
  }

  #changeAccess(target: Target): Promise<void> {
    return this.#accountQueue.run('', async () => {
      // Those who were first may have changed it.
      const found = await this.#find(target.iqn)
      if (found === undefined) throw new TargetRefusedError(`${target.iqn} has gone meanwhile`, { retryable: true })
      if (!this.#hasAccounts(found, target.chap)) await this.#changeAccounts(found, target)
      else for (const change of this.#ruleChanges(found.tid, found.allowed, rulesOf(target.access))) await change()
    })
  }

  /** It has no rules meanwhile, so nobody can log in. */
  async #changeAccounts({ tid, incoming, outgoing, allowed }: TgtTarget, target: Target): Promise<void> {
    for (const unbind of this.#ruleChanges(tid, allowed, [])) await unbind()
    for (const user of incoming) await this.#bind('unbind', tid, user, false)
    if (outgoing !== undefined) await this.#bind('unbind', tid, outgoing, true)
    await this.#openTo(tid, target)
  }

  /** Of one that has neither accounts nor rules. */
  async #openTo(tid: number, { access, chap }: Target): Promise<void> {
    await this.#bindAccounts(tid, chap)
    for (const bind of this.#ruleChanges(tid, [], rulesOf(access))) await bind()
  }

  async #bindAccounts(tid: number, chap: Chap | null): Promise<void> {
    if (chap === null) return
    for (const { user, password } of credentialsOf(chap)) await this.#setPassword(user, password)
    await this.#bind('bind', tid, chap.user, false)
    if (chap.mutual !== undefined) await this.#bind('bind', tid, chap.mutual.user, true)
  }

  async #bind(operation: 'bind' | 'unbind', tid: number, user: string, outgoing: boolean): Promise<void> {
    try {
      await this.#ask({ mode: 'account', operation, tid, outgoing, parameters: `user=${user}` })
    } catch (error) {
      if (!isRefusal(error, operation === 'bind' ? 'account exists' : 'no account')) throw error
    }
  }

  async #setPassword(user: string, password: string): Promise<void> {
    if (this.#known.passwords.get(user) === password) return
    try {
      await this.#newAccount(user, password)
    } catch (error) {
      if (!isRefusal(error, 'account exists')) throw error
      await this.#replaceAccount(user, password)
    }
    this.#known.passwords.set(user, password)
  }

  async #newAccount(user: string, password: string): Promise<void> {
    await this.#ask({ mode: 'account', operation: 'new', parameters: join({ user, password }) })
  }

  /** An account's password cannot be changed, nor seen. Targets that have it are closed to logins while there is none. */
  async #replaceAccount(user: string, password: string): Promise<void> {
    const users = (await this.#targets()).filter(
      ({ incoming, outgoing }) => incoming.includes(user) || outgoing === user,
    )
    const foreign = users.find(({ iqn }) => !this.#isOurs(iqn))
    if (foreign) throw new ChapUserTakenError(`${user} is an account of ${foreign.iqn}, which is not ours`)
    for (const { tid, allowed } of users) for (const unbind of this.#ruleChanges(tid, allowed, [])) await unbind()
    await this.#ask({ mode: 'account', operation: 'delete', parameters: `user=${user}` })
    await this.#newAccount(user, password)
    for (const { tid, incoming, outgoing, allowed } of users) {
      if (incoming.includes(user)) await this.#bind('bind', tid, user, false)
      if (outgoing === user) await this.#bind('bind', tid, user, true)
      for (const bind of this.#ruleChanges(tid, [], allowed)) await bind()
    }
  }

  /** What another tgtd has not heard of, it refuses: then the one that was asked has gone, and its targets with it. */
  async #inOneLife<T>(work: () => Promise<T>): Promise<T> {
    const life = await this.#readLife()
    try {
      return await work()
    } catch (error) {
      if ((await this.life()) === life) throw error
      throw new TargetServiceDownError('tgtd ended meanwhile, and has begun anew', { cause: error })
    }
  }

  /** Another tgtd knows no passwords. */
  async #readLife(): Promise<string | undefined> {
    const life = await this.life()
    if (life !== this.#known.life) this.#known = { life, passwords: new Map() }
    return life
  }
}

function exposedOf(target: TgtTarget): ExposedTarget {
  const { iqn, sessions } = target
  const unit = diskOf(target)
  if (unit === undefined) return { iqn, sessions }
  return { iqn, sessions, disk: { image: unit.path, identity: { serial: unit.serial, naa: unit.naa } } }
}

function diskOf({ units }: TgtTarget): TgtUnit | undefined {
  return units.find(({ lun }) => lun === diskLun)
}

function isUnitOf(unit: TgtUnit | undefined, { poolName, name, identity }: Target): boolean {
  return unit?.path === `${poolName}/${name}` && unit.serial === identity.serial && unit.naa === identity.naa
}

function credentialsOf(chap: Chap | null): { user: string; password: string }[] {
  if (chap === null) return []
  return chap.mutual === undefined ? [chap] : [chap, chap.mutual]
}

function rulesOf({ initiators, addresses }: Access): string[] {
  const rules = [...new Set([...initiators, ...addresses])]
  return rules.length > 0 ? rules : [everybody]
}

function isInitiatorName(rule: string): boolean {
  return /^(iqn|eui|naa)\./.test(rule)
}

/** `a=1,b=2`, as tgtd takes it: it knows no way to write a comma. */
function join(parameters: Record<string, string | number>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== '')
  const odd = given.find(([, value]) => /[,\0]/.test(String(value)))
  if (odd) throw new TargetRefusedError(`tgtd takes no comma, and there is one in the ${odd[0]}`)
  return given.map(([key, value]) => `${key}=${value}`).join(',')
}

/** Does what tgtd refuses as long as commands are under way. */
async function untilIdle(work: () => Promise<unknown>, busy: 'unit active'): Promise<void> {
  for (const giveUpAt = Date.now() + drainMs; ; await delay(drainPollMs)) {
    try {
      await work()
      return
    } catch (error) {
      if (!isRefusal(error, busy) || Date.now() > giveUpAt) throw error
    }
  }
}
