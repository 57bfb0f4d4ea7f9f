/** What the journal knows of a job. */
import type { JobMessage, JobResult } from '../jobs/message.js'
import type { Progress } from '../jobs/saga.js'

export interface JobRecord extends Progress {
  version: typeof recordVersion
  /** Grows by one with each write. */
  rev: number
  /** As the control plane has sent it; its `agentId` is the agent whose job it is. */
  job: JobMessage
  /** What the job came down to when it was begun. Settings that have changed since do not matter to it. */
  plan: object
  /** `pool/image`, which the job has to itself. */
  image?: string
  /** The process that has it in hand; empty when it is for the next that looks. */
  owner: string
  /** As ISO 8601 dates. */
  createdAt: string
  updatedAt: string
  /** Somebody wants it undone, unless it is finished by then. */
  cancelledAt?: string
  /** What the control plane is told, from when it is certain. */
  outcome?: JobResult
}

/** A change that older agents would take wrongly has another number. */
export const recordVersion = 1

export function encodeRecord(record: JobRecord): string {
  return JSON.stringify(record)
}

/** Not a record of this version: it is left alone. */
export class UnknownRecordError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'UnknownRecordError'
  }
}

/** @throws {UnknownRecordError} */
export function decodeRecord(data: Buffer, name: string): JobRecord {
  const record = parse(data, name)
  if (record.version === recordVersion) return record
  throw new UnknownRecordError(
    `${name} is a record of version ${record.version}; this agent knows version ${recordVersion}`,
  )
}

function parse(data: Buffer, name: string): JobRecord {
  try {
    return JSON.parse(data.toString())
  } catch (error) {
    throw new UnknownRecordError(`${name} is no record`, { cause: error })
  }
}
