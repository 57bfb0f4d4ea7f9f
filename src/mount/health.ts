import type { MountedPath, MountState } from '../../lib/index.js'

/** As it is told over HTTP and in events. */
export interface MountReport {
  mounted: boolean
  writable: boolean
  /** As an ISO 8601 date; null before the first probe. */
  lastProbeAt: string | null
  /** How long it took to write, sync, read and remove a file. Null where that failed. */
  latencyMs: number | null
  lastError?: string
}

const notProbed: MountReport = {
  mounted: false,
  writable: false,
  lastProbeAt: null,
  latencyMs: null,
  lastError: 'not probed yet',
}

/**
 * What is known of a mount, by probing it again and again. Who asks is told at once; what is told is as old as an interval and a
 * probe's limit of time at most.
 */
export class MountHealth {
  readonly path: string
  readonly #mount: MountedPath
  readonly #intervalMs: number
  readonly #listeners = new Set<(report: MountReport, hasChanged: boolean) => void>()
  readonly #stopped = new AbortController()
  #report = notProbed
  #timer: NodeJS.Timeout | undefined

  constructor(mount: MountedPath, intervalMs: number) {
    this.path = mount.path
    this.#mount = mount
    this.#intervalMs = intervalMs
  }

  get report(): MountReport {
    return this.#report
  }

  get ok(): boolean {
    return this.#report.mounted && this.#report.writable
  }

  /** Has each probe told, and whether it has found something else than the one before. */
  onProbe(listener: (report: MountReport, hasChanged: boolean) => void): void {
    this.#listeners.add(listener)
  }

  start(): void {
    void this.#probe()
  }

  stop(): void {
    this.#stopped.abort()
    clearTimeout(this.#timer)
  }

  async #probe(): Promise<void> {
    const { signal } = this.#stopped
    try {
      this.#tell(await this.#mount.probe({ signal }))
    } catch (error) {
      if (!signal.aborted) throw error
    }
    if (!signal.aborted) this.#timer = setTimeout(() => void this.#probe(), this.#intervalMs)
  }

  #tell({ lastProbeAt, ...state }: MountState): void {
    const before = this.#report
    this.#report = { ...state, lastProbeAt: lastProbeAt.toISOString() }
    const hasChanged =
      before.lastProbeAt === null || before.mounted !== state.mounted || before.writable !== state.writable
    for (const listener of this.#listeners) listener(this.#report, hasChanged)
  }
}
