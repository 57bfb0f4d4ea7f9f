import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../config.js'
import { messageOf } from '../errors.js'
import type { Journal } from '../journal/journal.js'
import { type JobRecord, UnknownRecordError } from '../journal/record.js'
import type { OpenEntry } from '../journal/records.js'
import type { Logger } from '../log.js'
import type { JobMessage, JobResult } from './message.js'
import type { JobRunner } from './runner.js'

interface Surroundings {
  config: Config
  journal: Journal
  runner: JobRunner
  log: Logger
  /** Has the broker take a result. Returns false if it is away. */
  publish: (action: string, result: JobResult) => Promise<boolean>
}

/** Milliseconds between one look at the journal and the next. A look reads the index alone, as long as all is well. */
const intervalMs = 3_000

/** Milliseconds between removals of old records, at most. */
const collectIntervalMs = 3_600_000

/**
 * Looks after jobs that nobody has in hand: those of a process that is gone are gone on with, whether or not their message
 * comes again; and a result that no message has come for is published. What is old enough is removed. It does all this for its
 * own agent, and for others that are gone, if it may take over from them.
 */
export class Recovery {
  readonly #surroundings: Surroundings
  readonly #stopping = new AbortController()
  readonly #publishing = new Set<string>()
  readonly #settling = new Set<Promise<void>>()
  /** Results that had no message at the last look: it may just be on its way. And what is left alone. */
  #waiting = new Set<string>()
  #nextCollection = 0
  #loop: Promise<void> | undefined

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings
  }

  /** Resolves after the first look. */
  async start(): Promise<void> {
    await this.#lookUnlessAway()
    this.#loop = this.#goOn()
  }

  /** The broker is back, and with it the messages that were not answered. */
  connected(): void {
    this.#waiting.clear()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
    // Not for those that are being published: the broker may take nothing. The next process publishes them again.
    await Promise.allSettled(this.#settling)
  }

  async #goOn(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await delay(intervalMs, undefined, { signal }).catch(() => {})
      if (!signal.aborted) await this.#lookUnlessAway()
    }
  }

  async #lookUnlessAway(): Promise<void> {
    const { journal, log } = this.#surroundings
    try {
      await this.#look()
      await this.#collect()
    } catch (error) {
      if (!journal.lost.aborted && !this.#stopping.signal.aborted) {
        log.warn({ reason: messageOf(error) }, 'the journal cannot be looked at')
      }
    }
  }

  async #look(): Promise<void> {
    const before = this.#waiting
    this.#waiting = new Set()
    for (const agent of await this.#agents()) {
      await this.#shutOut(agent)
      // Those that are gone have been shut out by now.
      const isLeft = await this.#surroundings.journal.goesOnWith(agent)
      for await (const entry of this.#surroundings.journal.records.listOpen(agent)) {
        if (this.#stopping.signal.aborted) return
        await this.#lookAt(agent, entry, { isLeft, before }).catch(error =>
          this.#leaveAlone(agent, entry, before, error),
        )
      }
    }
  }

  async #agents(): Promise<Iterable<string>> {
    const { config, journal } = this.#surroundings
    if (!config.journal.takeover) return [config.agentId]
    return new Set([config.agentId, ...(await journal.records.listAgents())])
  }

  /** Before anything is taken over from them. */
  async #shutOut(agent: string): Promise<void> {
    const { journal } = this.#surroundings
    for (const about of await journal.records.listInstances(agent)) {
      if (about.id !== journal.instance.id) await journal.clearAfter(about)
    }
  }

  /** @param isLeft - Whether it is for this process if it is nobody's. */
  async #lookAt(
    agentId: string,
    entry: OpenEntry,
    { isLeft, before }: { isLeft: boolean; before: ReadonlySet<string> },
  ): Promise<void> {
    const { journal, runner } = this.#surroundings
    const { records, instance } = journal
    const { task, by } = entry
    const key = JSON.stringify([agentId, task])
    if (runner.has({ agentId, taskId: task }) || this.#publishing.has(key)) return
    const isOurs = async (id: string) => id === instance.id || (isLeft && (await instance.ensureGone(id)))
    if (!(await isOurs(by))) return
    const record = await records.read(agentId, task)
    if (record === undefined) {
      // Nothing was begun. Unless it was just now.
      if (!runner.has({ agentId, taskId: task })) await records.withdraw(agentId, entry)
    } else if (record.outcome === undefined) {
      if (await isOurs(record.owner)) runner.resume(record)
    } else if (before.has(key)) {
      this.#publish(key, record, record.outcome, by)
    } else {
      this.#waiting.add(key)
    }
  }

  /** What is another version's job keeps nobody from looking at the others. */
  #leaveAlone(agent: string, { task }: OpenEntry, before: ReadonlySet<string>, error: unknown): void {
    if (!(error instanceof UnknownRecordError)) throw error
    const key = JSON.stringify([agent, task])
    this.#waiting.add(key)
    if (!before.has(key)) this.#surroundings.log.warn({ job: task, reason: error.message }, 'left alone')
  }

  #publish(key: string, record: JobRecord, outcome: JobResult, by: string): void {
    const { journal, log } = this.#surroundings
    this.#publishing.add(key)
    void this.#publishAndSettle(record, outcome, by)
      .catch(error => {
        if (!journal.lost.aborted) log.warn({ job: record.job.taskId, reason: messageOf(error) }, 'not published yet')
      })
      .finally(() => this.#publishing.delete(key))
  }

  async #publishAndSettle(record: JobRecord, outcome: JobResult, by: string): Promise<void> {
    const { journal, publish, log } = this.#surroundings
    const { action, taskId }: JobMessage = record.job
    if (!(await publish(action, outcome)) || this.#stopping.signal.aborted) return
    const settling = journal.finished(record, by).settle()
    this.#settling.add(settling)
    try {
      await settling
    } finally {
      this.#settling.delete(settling)
    }
    log.info({ job: taskId, action }, 'a result that no message has come for is published')
  }

  async #keepMsOf(agent: string): Promise<number> {
    const { config, journal } = this.#surroundings
    if (agent === config.agentId) return config.journal.keepMs
    return (await journal.records.keepMsOf(agent)) ?? config.journal.keepMs
  }

  async #collect(): Promise<void> {
    const { config, journal, log } = this.#surroundings
    if (Date.now() < this.#nextCollection) return
    this.#nextCollection = Date.now() + Math.min(config.journal.keepMs, collectIntervalMs)
    let collected = 0
    for (const agent of await this.#agents()) {
      if (!(await journal.goesOnWith(agent))) continue
      collected += await journal.collect(agent, new Date(Date.now() - (await this.#keepMsOf(agent))))
    }
    if (collected > 0) log.info({ records: collected }, 'old records are removed from the journal')
  }
}
