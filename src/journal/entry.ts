import { JobError } from '../errors.js'
import type { JobResult } from '../jobs/message.js'
import { InterruptedError, type Ledger } from '../jobs/saga.js'
import type { ImageLocks } from './image-locks.js'
import { holderOf } from './layout.js'
import type { Patience } from './patience.js'
import type { JobRecord } from './record.js'
import { RecordChangedError, type Records } from './records.js'

interface Surroundings {
  records: Records
  locks: ImageLocks
  patience: Patience
  /** Takes the job in hand that a process which is gone had the image for. Undefined: there is none, or it is for others. */
  takeOverLeft: (image: string) => Promise<Entry | undefined>
  onFinished: () => void
}

/** A job that this process has in hand. */
export class Entry implements Ledger {
  readonly isNew: boolean
  readonly #surroundings: Surroundings
  readonly #cancelled = new AbortController()
  readonly #record: JobRecord
  /** Who has written the job's entry into the index last, as far as this process knows. */
  readonly #by: string
  #locked: boolean
  #released: Promise<void> | undefined

  /**
   * @param state.isNew - It was made by this process, just now.
   * @param state.locked - It has its image already.
   * @param state.by - Who has written its entry into the index.
   */
  constructor(surroundings: Surroundings, record: JobRecord, state: { isNew: boolean; locked: boolean; by: string }) {
    this.#surroundings = surroundings
    this.#record = record
    this.isNew = state.isNew
    this.#locked = state.locked
    this.#by = state.by
    this.#noteCancel()
  }

  get record(): Readonly<JobRecord> {
    return this.#record
  }

  get progress(): Pick<JobRecord, 'steps' | 'failure'> {
    return this.#record
  }

  /** Aborted when somebody wants the job undone. */
  get cancelled(): AbortSignal {
    return this.#cancelled.signal
  }

  get #holder(): string {
    const { owner, job } = this.#record
    return holderOf(owner, job.agentId, job.taskId)
  }

  /**
   * Waits until the job has its image to itself.
   *
   * @returns Undefined; or another job, in hand by now, that has the image and is to come to its end before this one can have it.
   */
  async lock(): Promise<Entry | undefined> {
    const { image } = this.#record
    if (image === undefined || this.#locked) return undefined
    const { locks, patience, takeOverLeft } = this.#surroundings
    const found = await patience.untilThere(() =>
      patience.untilDone('the lock of an image', async () => {
        return (await locks.tryAcquire(image, this.#holder)) || (await takeOverLeft(image))
      }),
    )
    if (found !== true) return found
    this.#locked = true
    return undefined
  }

  /**
   * Keeps the progress.
   *
   * @throws {InterruptedError} the job is somebody else's by now, or this process is not to go on
   */
  async write(): Promise<void> {
    const { records, patience } = this.#surroundings
    const isChanged = (error: unknown) => error instanceof RecordChangedError
    for (;;) {
      try {
        const write = () => records.write(this.#record)
        // The saga has a hold of this very object.
        Object.assign(this.#record, await patience.untilDone('the record of a job', write, isChanged))
        return
      } catch (error) {
        if (!isChanged(error)) throw error
        await this.refresh()
      }
    }
  }

  /** Takes over what somebody else has written: that the job is to be cancelled. What this process knows is newer. */
  async refresh(): Promise<void> {
    const { records, patience } = this.#surroundings
    const { owner, job } = this.#record
    const found = await patience.untilDone('the record of a job', () => records.read(job.agentId, job.taskId))
    const isFinished = found?.outcome !== undefined && this.#record.outcome === undefined
    if (found?.owner !== owner || isFinished) {
      throw new InterruptedError({ cause: new Error('the job has been taken over') })
    }
    // One that arrives late is older than what has been written since.
    if (found.rev < this.#record.rev) return
    this.#record.rev = found.rev
    if (found.cancelledAt !== undefined) this.#record.cancelledAt = found.cancelledAt
    this.#noteCancel()
  }

  #noteCancel(): void {
    if (this.#record.cancelledAt === undefined) return
    this.#cancelled.abort(new JobError('CANCELLED', 'the job was cancelled'))
  }

  /** What the control plane will be told is certain from now on. The image is free for the next job. */
  async finish(outcome: JobResult): Promise<void> {
    this.#record.outcome = outcome
    await this.write()
    this.#surroundings.onFinished()
    this.#released = this.#release()
    // Whoever settles the job hears of it.
    this.#released.catch(() => {})
  }

  async #release(): Promise<void> {
    const { image } = this.#record
    if (image === undefined) return
    const { locks, patience } = this.#surroundings
    await patience.untilDone('the lock of an image', () => locks.release(image, this.#holder))
  }

  /** The broker has the result: the journal need not look after the job any more. */
  async settle(): Promise<void> {
    const { records, patience } = this.#surroundings
    const { job, outcome } = this.#record
    if (outcome === undefined) throw new Error('a job without an outcome cannot be settled')
    await (this.#released ?? this.#release())
    const done = { task: job.taskId, finishedAt: outcome.finishedAt }
    await patience.untilDone('the index of jobs', () => records.settle(job.agentId, done, this.#by))
  }
}
