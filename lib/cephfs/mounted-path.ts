import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { isAbsolute, resolve } from 'node:path'
import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkCallOptions, checkInteger, checkKey, checkOptions, wrongValue } from '../check.js'
import { CephError, type Resource } from '../errors.js'
import { native } from '../native.js'
import type { MountClient } from './bindings.js'
import { inTurn, type Limit, limitFrom, Turns } from './calls.js'
import { failure } from './failure.js'
import { checkPath, type FilePath, joined, shownPath } from './path.js'
import {
  changeQuota,
  checkQuota,
  type DirectoryUsage,
  parseQuota,
  parseUsage,
  type Quota,
  type QuotaChange,
  quotaXattr,
  usageXattrs,
} from './quota.js'

export interface MountedPathOptions {
  /** How long a call may take, in milliseconds. Default: 5000. */
  timeout?: number | undefined
}

/** What a probe has found of a mount. */
export interface MountState {
  /** A CephFS is mounted there, and answers. */
  mounted: boolean
  /** What was written was in the cluster, and read back from there. */
  writable: boolean
  /** When the probe ended. */
  lastProbeAt: Date
  /** How long it took to write, sync, read and remove, in milliseconds. Null where that failed. */
  latencyMs: number | null
  /** What is wrong, where something is. */
  lastError?: string
}

const defaultTimeoutMs = 5_000
/** As long as a timer can wait. */
const longestTimeoutMs = 2 ** 31 - 1

/** A mount that hangs keeps as many threads at most. */
const callsAtOnce = 4

interface MountTurns {
  mountId: string | undefined
  turns: Turns
}

/** By path: whoever asks, and however often, a mount has no more calls under way. */
const turnsByPath = new Map<string, MountTurns>()

/** Those of what is mounted there now: what hangs on a mount that was there before keeps nobody from this one. */
function turnsOf(path: string): Turns {
  const mountId = mountIdAt(path)
  const known = turnsByPath.get(path)
  if (known?.mountId === mountId && known) return known.turns
  const turns = new Turns(callsAtOnce)
  turnsByPath.set(path, { mountId, turns })
  return turns
}

/**
 * By the table of mounts, which does not ask the mount. The last one there lies over the others. Not by a thread of Node.js's pool:
 * those may all hang on the very mount.
 */
function mountIdAt(path: string): string | undefined {
  const table = readFileSync('/proc/self/mountinfo', 'utf8')
  const shown = path.replace(/[ \t\n\\]/g, character => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
  const mounts = table.split('\n').map(line => line.split(' ', 5))
  return mounts.findLast(([, , , , at]) => at === shown)?.[0]
}

/** A block of O_DIRECT, whatever the file system takes for one. */
const probeBytes = 4096

/** Of this host's probes. One that was killed leaves it, and the next one takes it away. */
function probeName(): string {
  return `.cephkit-probe-${hostname()}`
}

type Start<T> = (token: AbortToken) => Promise<T>

/**
 * A CephFS that the kernel or ceph-fuse has mounted on this host: for a process that has no keyring.
 *
 * Every call first looks whether a CephFS is mounted there, and then goes on at what it has looked at: nothing is done in an
 * ordinary directory, such as the one that is below the mount. Each is made by a process of its own, which shares this one's
 * memory, and is given up when it has not come back in time, or when the `signal` is aborted; what was asked may happen all the
 * same. What hangs keeps neither the event loop nor the end of this process waiting, and four of the library's threads at most.
 * While a call that was given up has not come back, further ones fail at once; but `check()` and `probe()` look anew, each for as
 * long as its time-out, until all four hang. A file system that is mounted there anew is not kept waiting by them.
 */
export class MountedPath {
  /** Where it is mounted: an absolute path. */
  readonly path: string
  /** How long a call may take, in milliseconds. */
  readonly timeout: number
  readonly #resource: Resource

  /** @param path - The mount point: absolute, and not a directory within the mount. Nothing is looked at yet. */
  constructor(path: string, options: MountedPathOptions = {}) {
    if (!isAbsolute(checkKey('path', path))) throw wrongValue('path', 'an absolute path', path)
    checkOptions(options, ['timeout'])
    const { timeout = defaultTimeoutMs } = options
    this.path = resolve(path)
    this.timeout = checkInteger('timeout', timeout, 1, longestTimeoutMs)
    this.#resource = { kind: 'mount', name: this.path }
  }

  /**
   * Looks whether a CephFS is mounted there, and answers: what every other call does first. That the MDS answers, too, is for
   * `probe()` to say.
   *
   * @returns What has mounted it.
   * @throws {NotMountedError} @throws {TimeoutError} the mount hangs
   */
  async check(options: CallOptions = {}): Promise<MountClient> {
    return this.#check(options, limitFrom(this.timeout))
  }

  async #check(options: CallOptions, limit: Limit): Promise<MountClient> {
    checkCallOptions(options)
    const turns = turnsOf(this.path)
    return this.#inTurn(turns, this.#resource, options, limit, token => native.mountedCheck(this.path, token))
  }

  /**
   * Looks whether the mount is of use: after `check()`, writes a file to its root, syncs it, reads it back from the cluster, and
   * removes it. All of it within one `timeout`. The file is called `.cephkit-probe-HOSTNAME`; one that is there is replaced.
   *
   * @returns What it has found; that something is wrong with the mount is no error.
   * @throws {AbortError}
   */
  async probe(options: CallOptions = {}): Promise<MountState> {
    const limit = limitFrom(this.timeout)
    let mounted = false
    try {
      await this.#check(options, limit)
      mounted = true
      const content = randomBytes(probeBytes)
      const microseconds = await this.#call(this.#resource, options, limit, token =>
        native.mountedProbe(this.path, probeName(), content, token),
      )
      return { mounted, writable: true, lastProbeAt: new Date(), latencyMs: microseconds / 1000 }
    } catch (error) {
      if (!(error instanceof CephError)) throw error
      return { mounted, writable: false, lastProbeAt: new Date(), latencyMs: null, lastError: error.message }
    }
  }

  /**
   * The quota of a directory itself, as `FileSystem` has it. Paths are from the mount point; a symbolic link is not followed, and
   * one above it not out of the mount.
   *
   * @returns Without what has no limit: an empty object is no quota.
   * @throws {FileNotFoundError} @throws {NotMountedError} @throws {TimeoutError}
   */
  async getQuota(path: FilePath, options: CallOptions = {}): Promise<Quota> {
    const at = checkPath('path', path)
    const limit = limitFrom(this.timeout)
    const [value = null] = await this.#call(this.#at(at, 'quota'), options, limit, token =>
      native.mountedGetXattrs(this.path, at, [quotaXattr], false, token),
    )
    return parseQuota(value)
  }

  /**
   * Sets the quota of a directory, and reads it back before it counts as set, as `FileSystem` does.
   *
   * @returns The quota as it is now.
   * @throws {PermissionError} the MDS caps of the user that it is mounted with have no `p` (`allow rwp`), or the directory's mode
   *   does not allow it to this process
   * @throws {ConflictError} it reads back with another value: somebody else has set it meanwhile
   * @throws {FileNotFoundError} @throws {NotDirectoryError} @throws {NotMountedError} @throws {TimeoutError}
   */
  async setQuota(path: FilePath, quota: QuotaChange, options: CallOptions = {}): Promise<Quota> {
    const at = checkPath('path', path)
    checkQuota(quota)
    const resource = this.#at(at, 'quota')
    const set = (xattr: string, value: Buffer) =>
      this.#call(resource, options, limitFrom(this.timeout), token =>
        native.mountedSetXattr(this.path, at, xattr, value, token),
      )
    return changeQuota(quota, { resource, syscall: 'setxattr', set, get: () => this.getQuota(at, options) })
  }

  /** Takes the quota of a directory away, as `setQuota()` sets it. */
  async clearQuota(path: FilePath, options: CallOptions = {}): Promise<void> {
    await this.setQuota(path, { maxBytes: null, maxFiles: null }, options)
  }

  /**
   * What is in a directory and below it. A symbolic link is followed, and not out of the mount.
   *
   * @throws {FileNotFoundError} @throws {NotDirectoryError} @throws {NotMountedError} @throws {TimeoutError}
   */
  async usage(path: FilePath, options: CallOptions = {}): Promise<DirectoryUsage> {
    const at = checkPath('path', path)
    const resource = this.#at(at, 'file')
    const values = await this.#call(resource, options, limitFrom(this.timeout), token =>
      native.mountedGetXattrs(this.path, at, usageXattrs, true, token),
    )
    // A file has none of them.
    if (values.includes(null)) throw failure('ENOTDIR', 'getxattr', resource)
    return parseUsage(values)
  }

  #at(path: FilePath, kind: Resource['kind']): Resource {
    const shown = shownPath(path)
    return { kind, name: shown === '/' ? this.path : joined(this.path, shown.slice(1)) }
  }

  async #call<T>(resource: Resource, options: CallOptions, limit: Limit, start: Start<T>): Promise<T> {
    checkCallOptions(options)
    const turns = turnsOf(this.path)
    // A thread more would find out the same, and not come back either.
    if (turns.late > 0) await this.#refuse(resource)
    return this.#inTurn(turns, resource, options, limit, start)
  }

  async #inTurn<T>(turns: Turns, resource: Resource, options: CallOptions, limit: Limit, start: Start<T>): Promise<T> {
    if (!turns.take()) {
      if (turns.late > 0) await this.#refuse(resource)
      await turns.wait(resource, options.signal, limit.limitMs)
    }
    return inTurn(turns, limit, resource, options, start)
  }

  /** As a call of its own, so that whoever counts failures hears of it. */
  async #refuse(resource: Resource): Promise<never> {
    return call(resource, undefined, async () => {
      throw failure('ETIMEDOUT', 'wait', resource, 'a call before this one has not come back')
    })
  }
}
