/** Jobs without end, and what must have become of them. */
import type { JobResult } from '../../src/agent/index.js'
import type { Job, TestSite } from './broker.js'
import type { Golden } from './golden.js'
import { initiator } from './tgt.js'

interface Volume {
  name: string
  sizeMB: number
  snapshots: Set<string>
  isExposed: boolean
  /** What it begins with; behind that there are zeroes. */
  content: Buffer
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
const nothing = Buffer.alloc(0)

/** While tgtd is away, a job fails and changes nothing. */
const tgtdIsAway = ['ISCSI_DOWN', 'ISCSI_NO_ANSWER']

interface WorkloadOptions {
  /** Whether volumes are exposed, by a tgtd that may be away. */
  exposes?: boolean
}

export class Workload {
  readonly volumes = new Map<string, Volume>()
  readonly #site: TestSite
  readonly #random: Random
  readonly #golden: Golden
  readonly #exposes: boolean
  #names = 0

  constructor(site: TestSite, golden: Golden, random: Random, { exposes = false }: WorkloadOptions = {}) {
    this.#exposes = exposes
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
      () => this.#flatten(volume),
      () => this.#createSnapshot(volume),
      () => this.#deleteSnapshot(volume),
      () => this.#delete(volume),
      ...(this.#exposes ? [() => this.#expose(volume), () => this.#unexpose(volume)] : []),
    ]
    return (kinds[this.#random(kinds.length)] ?? kinds[0])?.() ?? this.#create()
  }

  #job(action: string, data: object): Job {
    return this.#site.job(action, data)
  }

  #newName(): string {
    return `vm-${++this.#names}`
  }

  #add(result: JobResult, sizeMB: number, content: Buffer): void {
    if (this.#isUndone(result)) return
    if (!result.ok) throw new Error(`a volume was not made: ${result.code}: ${result.error}`)
    const { name } = (result.result as { disk: { name: string } }).disk
    const isExposed = this.#exposes
    this.volumes.set(name, { name, sizeMB, snapshots: new Set(), isExposed, content, busy: false })
  }

  /** Ceph counts a tgtd that was killed as somebody who has its images open, for a while. */
  #isRefused({ ok, code = '' }: JobResult): boolean {
    return !ok && (code === 'IMAGE_HAS_CHILDREN' || (this.#exposes && code === 'IMAGE_BUSY'))
  }

  #isUndone({ ok, code = '', rollback }: JobResult): boolean {
    return this.#exposes && !ok && tgtdIsAway.includes(code) && rollback?.complete === true
  }

  #create(): Begun {
    const sizeMB = 16 + this.#random(16)
    const isEmpty = this.#random(2) === 0
    const source = isEmpty ? {} : { imageId: this.#golden.name }
    const job = this.#job('storage.create', { name: this.#newName(), sizeMB, ...source })
    return { job, end: result => this.#add(result, sizeMB, isEmpty ? nothing : this.#golden.content) }
  }

  /** Fails after it has begun. */
  #createTooSmall(): Begun {
    const job = this.#job('storage.create', { name: this.#newName(), sizeMB: 1, imageId: this.#golden.name })
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
    return this.#on(volume, job, result => this.#add(result, volume.sizeMB, volume.content))
  }

  #resize(volume: Volume): Begun {
    const sizeMB = volume.sizeMB + 1 + this.#random(8)
    const job = this.#job('storage.resize', { refId: volume.name, sizeMB })
    return this.#on(volume, job, () => {
      volume.sizeMB = sizeMB
    })
  }

  #flatten(volume: Volume): Begun {
    const job = this.#job('storage.flatten', { refId: volume.name })
    return this.#on(volume, job, () => {})
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

  #expose(volume: Volume): Begun {
    const access = this.#random(2) === 0 ? {} : { initiators: [initiator] }
    const job = this.#job('storage.expose', { refId: volume.name, ...access })
    return this.#on(volume, job, () => {
      volume.isExposed = true
    })
  }

  #unexpose(volume: Volume): Begun {
    const job = this.#job('storage.unexpose', { refId: volume.name })
    return this.#on(volume, job, () => {
      volume.isExposed = false
    })
  }

  /** Refused as long as it has clones, or somebody has it open. */
  #delete(volume: Volume): Begun {
    const job = this.#job('storage.delete', { refId: volume.name })
    return this.#on(volume, job, ({ code, result }) => {
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
        if (this.#isUndone(result)) return
        if (job.action === 'storage.delete' && this.#isRefused(result)) return
        if (!result.ok) throw new Error(`${job.action} of ${volume.name}: ${result.code}: ${result.error}`)
        end(result)
      },
    }
  }
}
