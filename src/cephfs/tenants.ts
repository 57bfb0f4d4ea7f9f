/**
 * Tenants of a CephFS: a directory each, in one that is the base of all.
 *
 * The base is the root of the mount, and a tenant's name is one name in it. What is below is a tenant's, who may put a symbolic
 * link wherever a directory is expected, at any moment: so no path leads there, but each directory is opened in the one above
 * it, and no link is followed.
 */
import {
  type DirectoryUsage,
  type EnsuredDirectory,
  FileExistsError,
  FileNotFoundError,
  type FileSystem,
  type KeptEntry,
  NotDirectoryError,
  type OpenDirectory,
  type Quota,
  type QuotaChange,
  SymbolicLinkError,
  type WantedDirectory,
} from '../../lib/index.js'
import type { Blocker } from '../errors.js'
import {
  NotTenantError,
  TenantBeingDeletedError,
  TenantBlockedError,
  TenantHasSnapshotsError,
  TenantNotEmptyError,
  TenantNotFoundError,
} from './errors.js'
import { createMark, type Mark, markXattr, parseMark, readMark, replaceMark } from './mark.js'
import { checkTenant, checkTenantName, directoriesOf, newTenantMode, type Tenant } from './spec.js'

/** For which job, and by whom. @internal */
export interface TenantMaker {
  agent: string
  task: string
}

/** What a directory was, or is. */
export interface DirectoryState {
  uid?: number
  gid?: number
  /** As in `0755`. */
  mode?: string
  quota?: Quota
}

/** Something that was not as it is to be, and is now. */
export interface Mended {
  /** In the tenant's directory, which is `.` itself. */
  path: string
  /** Absent: it was not there. */
  was?: DirectoryState
  now: DirectoryState
}

export interface EnsuredTenant {
  name: string
  path: string
  /** It was not there. */
  made: boolean
  /** Nothing, where all was as it is to be, or the tenant has just been made. */
  mended: Mended[]
  /** Absent where none was asked for. */
  quota?: Quota
}

export interface TenantUsage {
  name: string
  path: string
  /** Without what has no limit. */
  quota: Quota
  /** Without `changedAt` in a list. */
  usage: DirectoryUsage
  /** Its removal has begun, and is to be gone on with. */
  deleting: boolean
}

export interface DeleteTenantOptions {
  /** Remove the snapshots in it too. Default: false, and it is refused if there are any. */
  snapshots?: boolean | undefined
  /** Stops the removal where it is, to be gone on with. */
  signal?: AbortSignal | undefined
}

/** Only root goes in; others that have it open, or a mount of their own of it, stay. */
const closedToOthers: WantedDirectory = { path: '.', uid: 0, gid: 0, mode: 0o700 }

export class Tenants {
  readonly files: FileSystem

  /** @param files - Mounted at the base, on behalf of root. */
  constructor(files: FileSystem) {
    this.files = files
  }

  /** In the whole file system. */
  pathOf(name: string): string {
    return this.files.root === '/' ? `/${name}` : `${this.files.root}/${name}`
  }

  /**
   * Makes the tenant's directories, or gives those that are there the owners and modes that they are to have, and the quota. What
   * is in them stays as it is. Done twice, or on two nodes at once, it comes to the same.
   *
   * @throws {InvalidTenantError} before anything is touched
   * @throws {NotTenantError} there is something of that name that is no tenant
   * @throws {TenantBlockedError} something is in the way that is no directory
   * @throws {TenantBeingDeletedError}
   * @throws {PermissionError} the MDS caps have no `p`: then there is no quota
   */
  async ensure(tenant: Tenant): Promise<EnsuredTenant> {
    const checked = checkTenant(tenant)
    const isNew = await this.#mkdir(checked.name)
    await using directory = await this.#open(checked.name)
    const made = await this.#claim(directory, checked.name, isNew)
    return await this.#furnish(directory, checked, made)
  }

  /**
   * The first half of `ensure()`: the tenant's own directory, with its mark.
   *
   * @returns Whether it was not there, or was made for the same job.
   *
   * @internal
   */
  async claim(givenName: string, maker?: TenantMaker): Promise<boolean> {
    const name = checkTenantName(givenName)
    const isNew = await this.#mkdir(name)
    await using directory = await this.#open(name)
    return await this.#claim(directory, name, isNew, maker)
  }

  async #claim(directory: OpenDirectory, name: string, isNew: boolean, maker?: TenantMaker): Promise<boolean> {
    let mark = isNew ? undefined : await readMark(directory, name)
    if (mark === undefined && (isNew || (await isEmpty(directory)))) {
      if (await createMark(directory, { tenant: name, ...maker })) return true
    }
    // Whoever is at it at the same time has marked it before there was anything in it.
    mark ??= await readMark(directory, name)
    this.#checkMark(mark, name)
    if (maker !== undefined && isOf(mark, maker)) return true
    // Whoever has made it is not to take it away any more, should that job fail.
    if (mark.task !== undefined) await replaceMark(directory, { tenant: name })
    return false
  }

  /** Whether the tenant was made for that job, and nobody else has asked for it since. @internal */
  async isOf(name: string, maker: TenantMaker): Promise<boolean> {
    await using directory = await this.#find(name)
    const mark = directory && (await readMark(directory, name))
    return mark !== undefined && isOf(mark, maker)
  }

  /** The second half: all that is in it, and the quota. @internal */
  async furnish(tenant: Tenant, made: boolean): Promise<EnsuredTenant> {
    await using directory = await this.#open(tenant.name)
    this.#checkMark(await readMark(directory, tenant.name), tenant.name)
    return await this.#furnish(directory, tenant, made)
  }

  async #furnish(directory: OpenDirectory, tenant: Tenant, made: boolean): Promise<EnsuredTenant> {
    const { name, quota } = tenant
    const wanted = directoriesOf(tenant, made)
    const ensured = await this.#ensureDirectories(directory, wanted, name)
    const limited = quota && (await limit(directory, quota, made))
    return {
      name,
      path: this.pathOf(name),
      made,
      mended: made ? [] : [...mendedDirectories(wanted, ensured), ...(limited?.mended ?? [])],
      ...(limited && { quota: limited.now }),
    }
  }

  /** @throws {TenantNotFoundError} @throws {NotTenantError} */
  async usage(givenName: string): Promise<TenantUsage> {
    const name = checkTenantName(givenName)
    await using directory = await this.openTenant(name)
    const mark = await readMark(directory, name)
    const [quota, usage] = await Promise.all([directory.getQuota(), directory.usage()])
    return { name, path: this.pathOf(name), quota, usage, deleting: mark?.deleting ?? false }
  }

  /** All tenants, in no order. What has no mark is none. */
  async *list(options: { signal?: AbortSignal | undefined } = {}): AsyncGenerator<TenantUsage, void, undefined> {
    const reports = this.files.listUsage('/', { xattrs: [markXattr], ...options })
    for await (const { name: bytes, quota, usage, xattrs } of reports) {
      const name = bytes.toString()
      const mark = parseMark(xattrs.get(markXattr), name)
      if (mark) yield { name, path: this.pathOf(name), quota, usage, deleting: mark.deleting ?? false }
    }
  }

  /**
   * Removes the tenant and all that is in it. One that was cut short is gone on with by the next.
   *
   * @returns How many files and directories were removed; undefined if there is no such tenant.
   * @throws {NotTenantError} it is left alone
   * @throws {TenantHasSnapshotsError} nothing has been removed
   * @throws {TenantNotEmptyError} names what could not be removed
   * @throws {AbortError} it is to be gone on with
   */
  async delete(name: string, options: DeleteTenantOptions = {}): Promise<number | undefined> {
    if (!(await this.beginDelete(name, options))) return undefined
    return this.finishDelete(name, options)
  }

  /** The first half of `delete()`: from then on it is nothing else. False if there is no such tenant. @internal */
  async beginDelete(givenName: string, { snapshots = false }: DeleteTenantOptions): Promise<boolean> {
    const name = checkTenantName(givenName)
    await using directory = await this.#find(name)
    if (directory === undefined) return false
    const mark = await readMark(directory, name)
    if (mark === undefined) throw new NotTenantError(this.pathOf(name))
    if (!snapshots) await this.#checkNoSnapshots(directory, name)
    if (!mark.deleting) await replaceMark(directory, { ...mark, deleting: true })
    await directory.ensureDirectories([closedToOthers])
    return true
  }

  /** The second half. Somebody else may have been faster, and even have made it anew: that one stays. @internal */
  async finishDelete(givenName: string, { snapshots = false, signal }: DeleteTenantOptions): Promise<number> {
    const name = checkTenantName(givenName)
    if (!(await this.#isBeingDeleted(name))) return 0
    try {
      const { removed, kept } = await this.files.removeTree(`/${name}`, { snapshots, signal })
      if (kept.length > 0) throw notEmpty(this.pathOf(name), kept)
      return removed
    } catch (error) {
      if (error instanceof FileNotFoundError && !(await this.#isBeingDeleted(name))) return 0
      throw error
    }
  }

  async #isBeingDeleted(name: string): Promise<boolean> {
    await using directory = await this.#find(name)
    const mark = directory && (await readMark(directory, name))
    return mark?.deleting ?? false
  }

  /** The tenant's directory. @throws {TenantNotFoundError} @throws {NotTenantError} */
  async openTenant(givenName: string): Promise<OpenDirectory> {
    const name = checkTenantName(givenName)
    const directory = await this.#find(name)
    if (directory === undefined) throw new TenantNotFoundError(this.pathOf(name))
    if (await readMark(directory, name)) return directory
    await directory.close()
    throw new NotTenantError(this.pathOf(name))
  }

  /** False if there is something. */
  async #mkdir(name: string): Promise<boolean> {
    try {
      await this.files.mkdir(`/${name}`, { mode: newTenantMode })
      return true
    } catch (error) {
      if (error instanceof FileExistsError) return false
      throw error
    }
  }

  async #open(name: string): Promise<OpenDirectory> {
    try {
      return await this.files.openDirectory(`/${name}`)
    } catch (error) {
      if (error instanceof NotDirectoryError || error instanceof SymbolicLinkError)
        throw new NotTenantError(this.pathOf(name))
      throw error
    }
  }

  async #find(name: string): Promise<OpenDirectory | undefined> {
    try {
      return await this.#open(name)
    } catch (error) {
      if (error instanceof FileNotFoundError) return undefined
      throw error
    }
  }

  #checkMark(mark: Mark | undefined, name: string): asserts mark is Mark {
    if (mark === undefined) throw new NotTenantError(this.pathOf(name))
    if (mark.deleting) throw new TenantBeingDeletedError(this.pathOf(name))
  }

  async #ensureDirectories(directory: OpenDirectory, wanted: WantedDirectory[], name: string) {
    try {
      return await directory.ensureDirectories(wanted)
    } catch (error) {
      if (error instanceof NotDirectoryError || error instanceof SymbolicLinkError)
        throw new TenantBlockedError(`in ${this.pathOf(name)}: ${error.message}`, { cause: error })
      // There was everything a moment ago.
      if (error instanceof FileNotFoundError) throw new TenantBeingDeletedError(this.pathOf(name))
      throw error
    }
  }

  async #checkNoSnapshots(directory: OpenDirectory, name: string): Promise<void> {
    const count = Number(await directory.getXattr('ceph.dir.rsnaps'))
    if (count === 0) return
    const own = await this.files.listSnapshots(`/${name}`)
    const blockers = own.map(
      (snapshot): Blocker => ({ kind: 'snapshot', name: printable(`${this.pathOf(name)}@${snapshot.name}`) }),
    )
    throw new TenantHasSnapshotsError(this.pathOf(name), count, blockers)
  }
}

function isOf({ agent, task }: Mark, maker: TenantMaker): boolean {
  return agent === maker.agent && task === maker.task
}

/** Of what is in it directly. */
async function isEmpty(directory: OpenDirectory): Promise<boolean> {
  return Number(await directory.getXattr('ceph.dir.entries')) === 0
}

/** Sets it where it is another one. */
async function limit(
  directory: OpenDirectory,
  quota: QuotaChange,
  made: boolean,
): Promise<{ now: Quota; mended: Mended[] }> {
  const was = made ? {} : await directory.getQuota()
  if (isAsWanted(was, quota)) return { now: was, mended: [] }
  const now = await directory.setQuota(quota)
  return { now, mended: [{ path: '.', was: { quota: was }, now: { quota: now } }] }
}

function isAsWanted(quota: Quota, { maxBytes, maxFiles }: QuotaChange): boolean {
  const isSame = (now: number | undefined, wanted: number | null | undefined) =>
    wanted === undefined || wanted === (now ?? null)
  return isSame(quota.maxBytes, maxBytes) && isSame(quota.maxFiles, maxFiles)
}

function mendedDirectories(wanted: readonly WantedDirectory[], ensured: readonly EnsuredDirectory[]): Mended[] {
  return wanted.flatMap(({ path, ...now }, i): Mended[] => {
    const { made = false, was } = ensured[i] ?? {}
    if (!made && was === undefined) return []
    return [{ path, ...(was && { was: shown(was) }), now: shown(now) }]
  })
}

function shown({ uid, gid, mode }: { uid: number; gid: number; mode: number }): DirectoryState {
  return { uid, gid, mode: mode.toString(8).padStart(4, '0') }
}

/** As many as a person would read. */
const mostNamed = 20
const longestPath = 300

function notEmpty(path: string, kept: readonly KeptEntry[]): TenantNotEmptyError {
  const blockers = kept.flatMap((entry): Blocker[] => {
    const name = entry.path.slice(0, longestPath)
    if (entry.snapshots.length === 0) return [{ kind: 'file', name: printable(name) }]
    return entry.snapshots.map(snapshot => ({ kind: 'snapshot', name: printable(`${name}@${snapshot}`) }))
  })
  const reason = printable(kept[0]?.error.message.slice(0, 2 * longestPath) ?? '')
  return new TenantNotEmptyError(path, reason, blockers.slice(0, mostNamed))
}

/** Names are the tenant's, and come to terminals, which obey some characters. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, character => `\\u{${character.codePointAt(0)?.toString(16)}}`)
}
