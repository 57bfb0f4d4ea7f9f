/** Jobs without end, and what must have become of them. */
import type { JobResult } from '../../src/agent/index.js'
import type { Job, TestSite } from './broker.js'

interface Volume {
  name: string
  sizeMB: number
  snapshots: Set<string>
  /** A job is under way for it: what it will be like is not known. */
  busy: boolean
}

/** An integer below that. */
export type Random = (below: number) => number

interface Begun {
  job: Job
  /** Says what is there, now that the job has succeeded; or that it has failed, and nothing has changed. */
  end: (result: JobResult) => void
}

const mostVolumes = 12

export class Workload {
  readonly volumes = new Map<string, Volume>()
  readonly #site: TestSite
  readonly #random: Random
  readonly #golden: string
  #names = 0

  constructor(site: TestSite, golden: string, random: Random) {
    this.#site = site
    this.#golden = golden
    this.#random = random
  }

  /** Another job, on a volume that no other job is for. */
  next(): Begun {
    const free = [...this.volumes.values()].filter(({ busy }) => !busy)
    const volume = free[this.#random(free.length)]
    if (volume === undefined) return this.#create()
    if (this.volumes.size >= mostVolumes) return this.#delete(volume)
    const kinds = [
      () => this.#create(),
      () => this.#createTooSmall(),
      () => this.#clone(volume),
      () => this.#resize(volume),
      () => this.#createSnapshot(volume),
      () => this.#deleteSnapshot(volume),
      () => this.#delete(volume),
    ]
    return (kinds[this.#random(kinds.length)] ?? kinds[0])?.() ?? this.#create()
  }

  #job(action: string, data: object): Job {
    return this.#site.job(action, data)
  }

  #newName(): string {
    return `vm-${++this.#names}`
  }

  #add(result: JobResult, sizeMB: number): void {
    if (!result.ok) throw new Error(`a volume was not made: ${result.code}: ${result.error}`)
    const { name } = (result.result as { disk: { name: string } }).disk
    this.volumes.set(name, { name, sizeMB, snapshots: new Set(), busy: false })
  }

  #create(): Begun {
    const sizeMB = 16 + this.#random(16)
    const source = this.#random(2) === 0 ? {} : { imageId: this.#golden }
    const job = this.#job('storage.create', { name: this.#newName(), sizeMB, ...source })
    return { job, end: result => this.#add(result, sizeMB) }
  }

  /** Fails after it has begun. */
  #createTooSmall(): Begun {
    const job = this.#job('storage.create', { name: this.#newName(), sizeMB: 1, imageId: this.#golden })
    return {
      job,
      end: ({ ok, code, rollback }) => {
        if (ok || code !== 'SIZE_TOO_SMALL' || !rollback?.complete)
          throw new Error(`a volume that is too small: ${code}`)
      },
    }
  }

  #clone(volume: Volume): Begun {
    const job = this.#job('storage.clone', { refId: volume.name, name: this.#newName() })
    return this.#on(volume, job, result => this.#add(result, volume.sizeMB))
  }

  #resize(volume: Volume): Begun {
    const sizeMB = volume.sizeMB + 1 + this.#random(8)
    const job = this.#job('storage.resize', { refId: volume.name, sizeMB })
    return this.#on(volume, job, () => {
      volume.sizeMB = sizeMB
    })
  }

  #createSnapshot(volume: Volume): Begun {
    const snapshot = `snap-${++this.#names}`
    const job = this.#job('storage.snapshot.create', { refId: volume.name, snapshot })
    return this.#on(volume, job, () => volume.snapshots.add(snapshot))
  }

  #deleteSnapshot(volume: Volume): Begun {
    const [snapshot] = volume.snapshots
    if (snapshot === undefined) return this.#createSnapshot(volume)
    const job = this.#job('storage.snapshot.delete', { refId: volume.name, snapshot })
    return this.#on(volume, job, () => volume.snapshots.delete(snapshot))
  }

  /** Refused as long as it has clones. */
  #delete(volume: Volume): Begun {
    const job = this.#job('storage.delete', { refId: volume.name })
    return this.#on(volume, job, ({ ok, code, result }) => {
      if (!ok && code === 'IMAGE_HAS_CHILDREN') return
      const { deletedDisks } = (result ?? {}) as { deletedDisks?: { image: string }[] }
      if (deletedDisks?.[0]?.image !== volume.name) throw new Error(`${volume.name} was not deleted: ${code}`)
      this.volumes.delete(volume.name)
    })
  }

  #on(volume: Volume, job: Job, end: (result: JobResult) => void): Begun {
    volume.busy = true
    return {
      job,
      end: result => {
        volume.busy = false
        const isRefusal = result.code === 'IMAGE_HAS_CHILDREN'
        if (!result.ok && !isRefusal)
          throw new Error(`${job.action} of ${volume.name}: ${result.code}: ${result.error}`)
        end(result)
      },
    }
  }
}
