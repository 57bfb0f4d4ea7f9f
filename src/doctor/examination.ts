import { messageOf } from '../errors.js'
import { redactor } from '../log.js'

export interface Finding {
  /** What was looked at. */
  check: string
  /** Unknown: it could not be looked at, because of something that is wrong, or cannot be told. */
  state: 'ok' | 'wrong' | 'unknown'
  says: string
  /** What to do about it. */
  todo?: string
}

/** Something is wrong, and this is what to do about it. */
export class Trouble extends Error {
  readonly todo: string

  constructor(says: string, todo: string, options?: ErrorOptions) {
    super(says, options)
    this.name = 'Trouble'
    this.todo = todo
  }
}

/** It cannot be told whether something is wrong. */
export class Unknown extends Error {}

/** Milliseconds that one check may take. Longer than anything that it calls waits by itself. */
const limitMs = 10_000

export class Examination {
  readonly findings: Finding[] = []

  /**
   * Looks at one thing, for 10 seconds at most.
   *
   * @param look - Gives what is to be said of it.
   * @returns Whether it is as it should be.
   */
  async check(check: string, look: () => string | Promise<string>): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${limitMs / 1000} s`)), limitMs)
    })
    try {
      const looking = (async () => look())()
      this.findings.push({ check, state: 'ok', says: await Promise.race([looking, tooLong]) })
      return true
    } catch (error) {
      this.findings.push(describe(check, error))
      return false
    } finally {
      clearTimeout(timer)
    }
  }

  /** Says that something was not looked at. */
  skip(checks: readonly string[], why: string): void {
    for (const check of checks) this.findings.push({ check, state: 'unknown', says: why })
  }

  get ok(): boolean {
    return this.findings.every(({ state }) => state !== 'wrong')
  }
}

/** Much of it is what others have said. */
const redact = redactor([])

function describe(check: string, error: unknown): Finding {
  const says = redact(messageOf(error))
  if (error instanceof Unknown) return { check, state: 'unknown', says }
  return { check, state: 'wrong', says, ...(error instanceof Trouble && { todo: error.todo }) }
}
