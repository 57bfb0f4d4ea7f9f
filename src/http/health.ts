/** What an agent cannot do without, and since when it is there or not. */

export interface PartState {
  ok: boolean
  /** As an ISO 8601 date: since when it is so. */
  since: string
  /** Why it is not ok. */
  reason?: string
}

/** One thing that the agent depends on. */
export class Part {
  #trouble: string | undefined = 'not reached yet'
  #since = new Date()

  /** @param trouble - What is wrong with it; undefined: nothing. */
  set(trouble: string | undefined): void {
    if ((trouble === undefined) !== (this.#trouble === undefined)) this.#since = new Date()
    this.#trouble = trouble
  }

  get ok(): boolean {
    return this.#trouble === undefined
  }

  get state(): PartState {
    const since = this.#since.toISOString()
    return this.#trouble === undefined ? { ok: true, since } : { ok: false, since, reason: this.#trouble }
  }
}

export class Health {
  readonly broker = new Part()
  /** Its monitors. */
  readonly cluster = new Part()
  /** Its objects: that is, the pool of the volumes. */
  readonly journal = new Part()
  /** Then it takes no further jobs. */
  stopping = false

  get parts(): Record<string, Part> {
    return { broker: this.broker, cluster: this.cluster, journal: this.journal }
  }

  get ready(): boolean {
    return !this.stopping && Object.values(this.parts).every(({ ok }) => ok)
  }
}
