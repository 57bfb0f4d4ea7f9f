/**
 * Does what is due to images when the jobs that it comes from are over (`due.ts`), a little at a time: it has an image to
 * itself as a job has, and gives it back after a few seconds for jobs that wait. What a process that died has left of it is
 * gone on with by the next one of the same agent.
 */
import { setTimeout as delay } from 'node:timers/promises'
import {
  AbortError,
  type Cluster,
  ImageBusyError,
  ImageHasSnapshotsError,
  ImageNotFoundError,
  type Pool,
} from '../../lib/index.js'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import type { WithImage } from '../jobs/actions.js'
import type { Journal } from '../journal/journal.js'
import type { Logger } from '../log.js'
import { withTimeLimit } from '../time-limit.js'
import { releaseOrigin, removeOrigin } from './chain.js'
import { type Due, type DueList, listDue, removeDue } from './due.js'
import { lookAtId, openWhole } from './find.js'
import { flattenImage } from './flatten.js'
import { readStamp } from './stamp.js'

interface Surroundings {
  config: Config
  cluster: Cluster
  journal: Journal
  log: Logger
}

/** Milliseconds between one look and the next. A look is one read, as long as nothing is due. */
const intervalMs = 10_000

/** How long an image is kept from jobs, in milliseconds, and how long it is then left to them. */
const sliceMs = 5_000
const pauseMs = 2_000

/** What the locks show as the task. */
export const upkeepTask = 'upkeep'

export class Upkeep {
  readonly #surroundings: Surroundings
  readonly #list: DueList
  readonly #stopping = new AbortController()
  #loop: Promise<void> | undefined

  constructor(surroundings: Surroundings) {
    const { cluster, config } = surroundings
    this.#surroundings = surroundings
    this.#list = { cluster, volumePool: config.ceph.volumePool, agent: config.agentId }
  }

  start(): void {
    this.#loop = this.#goOn()
  }

  /** What has begun ends at the next object. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #goOn(): Promise<void> {
    const { journal, log } = this.#surroundings
    const signal = AbortSignal.any([this.#stopping.signal, journal.lost])
    while (!signal.aborted) {
      let isUnfinished = false
      try {
        isUnfinished = await this.look(signal)
      } catch (error) {
        if (!signal.aborted) log.warn({ reason: messageOf(error) }, 'what is due to images cannot be looked at')
      }
      await delay(isUnfinished ? pauseMs : intervalMs, undefined, { signal }).catch(() => {})
    }
  }

  /** Goes on with all that is due. Resolves with true if some of it is begun and not finished. */
  async look(signal: AbortSignal): Promise<boolean> {
    let isUnfinished = false
    const onUnreadable = (key: string) =>
      this.#surroundings.log.warn({ key }, 'an entry that cannot be read is left alone')
    for (const due of await listDue(this.#list, onUnreadable)) {
      if (signal.aborted) break
      try {
        if (await this.#goOnWith(due, signal)) isUnfinished = true
      } catch (error) {
        if (signal.aborted) break
        const what = { work: due.work, image: `${due.poolName}/${due.name}`, reason: messageOf(error) }
        this.#surroundings.log.warn(what, 'not done to an image yet')
      }
    }
    return isUnfinished
  }

  async #goOnWith(due: Due, signal: AbortSignal): Promise<boolean> {
    const withImage: WithImage = (image, work) => this.#surroundings.journal.withImage(image, upkeepTask, work)
    // Undefined: a job has it.
    const state = await withImage(`${due.poolName}/${due.name}`, () => this.#do(due, signal), signal)
    if (state !== 'done') return state === 'begun'
    // With no image in hand, as that is another one.
    if (due.work !== 'release') await releaseOrigin(this.#list, withImage, due.origin)
    await removeDue(this.#list, due)
    this.#surroundings.log.info({ work: due.work, image: `${due.poolName}/${due.name}` }, 'done to an image')
    return false
  }

  async #do(due: Due, signal: AbortSignal): Promise<'done' | 'begun' | 'later'> {
    if (due.work === 'release') {
      if (due.origin !== null) await removeOrigin(this.#list, due.origin)
      return 'done'
    }
    await using pool = await this.#surroundings.cluster.openPool(due.poolName)
    return await (due.work === 'flatten' ? this.#flatten(pool, due, signal) : this.#purge(pool, due, signal))
  }

  async #flatten(pool: Pool, { id }: Due, stop: AbortSignal): Promise<'done' | 'begun'> {
    const owner = await lookAtId(pool, id, async image => (await readStamp(image))?.agent)
    if (owner !== this.#list.agent) return 'done'
    await using image = await openWhole(pool, { id })
    let begunAt: number | undefined
    // The slice counts from the first object on: before that all are looked at, which takes the longer the more there are.
    const onProgress = () => {
      begunAt ??= performance.now()
      if (performance.now() - begunAt > sliceMs) throw new AbortError({ cause: 'others wait for the image' })
    }
    return await unlessAborted(flattenImage(image, { signal: stop, onProgress }))
  }

  /** One that somebody has taken out of the trash is theirs to keep. */
  async #purge(pool: Pool, { id }: Due, stop: AbortSignal): Promise<'done' | 'begun' | 'later'> {
    const entry = await pool.trash.get(id).catch(ifNotThere)
    if (entry === undefined) return 'done'
    if (entry.deferredUntil > new Date()) return 'later'
    const owner = await lookAtId(pool, id, async image => (await readStamp(image))?.agent ?? null)
    // One that cannot be opened is half removed.
    if (owner !== undefined && owner !== this.#list.agent) return 'done'
    try {
      return await unlessAborted(withTimeLimit(sliceMs, stop, signal => pool.trash.remove(id, { signal })))
    } catch (error) {
      if (error instanceof ImageNotFoundError) return 'done'
      if (!(error instanceof ImageBusyError || error instanceof ImageHasSnapshotsError)) throw error
      this.#surroundings.log.warn({ image: `${pool.path}/${entry.name}`, reason: error.message }, 'stays in the trash')
      return 'later'
    }
  }
}

async function unlessAborted(work: Promise<void>): Promise<'done' | 'begun'> {
  try {
    await work
    return 'done'
  } catch (error) {
    if (error instanceof AbortError) return 'begun'
    throw error
  }
}

function ifNotThere(error: unknown): undefined {
  if (!(error instanceof ImageNotFoundError)) throw error
}
