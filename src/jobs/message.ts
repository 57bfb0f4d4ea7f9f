/** The messages of a job: what comes in, and what goes out. */
import { z } from 'zod'
import { describeFailure, type Failure, messageOf } from '../errors.js'
import { describeIssues, isWellFormed } from './data.js'
import { type Rollback, StepFailedError } from './saga.js'

export interface JobMessage {
  taskId: string
  tenantId: string | undefined
  agentId: string
  action: string
  data: Record<string, unknown>
}

export interface JobResult extends Partial<Failure> {
  taskId: string
  agentId: string
  ok: boolean
  result?: object
  rollback?: Rollback
  /** As an ISO 8601 date. */
  finishedAt: string
}

/** Of what is repeated from a message, which can be of any length, into a header, which cannot. */
const longestReason = 1_000

/**
 * Many times what a job needs, in bytes. To look through one of some megabytes could take seconds, in which nothing else is
 * done.
 */
const longestContent = 2 ** 20

/** A message that is no job for this agent; the error's message is why. */
export class NotAJobError extends Error {
  constructor(reason: string) {
    super(reason.slice(0, longestReason))
    this.name = 'NotAJobError'
  }
}

const nothingLeft: Rollback = { complete: true, leftovers: [] }

/** AMQP's limit for a correlation id, which the task's id becomes, and for a routing key, which the action is part of. */
const longestId = 255
const longestAction = 200

export const envelopeSchema = z.object({
  taskId: text(longestId),
  agentId: z.string(),
  action: text(longestAction),
  tenantId: text(longestId).or(z.literal('')).nullish(),
  data: z.record(z.string(), z.unknown()).nullish(),
})

const blocker = z.object({
  kind: z.enum(['watcher', 'child', 'snapshot', 'initiator', 'file']),
  name: z.string().meta({
    description: "a watcher's address, a child's path, a snapshot's name, an initiator's name, a file's path",
  }),
  client: z.int().optional(),
})

const leftover = z.object({ kind: z.string(), name: z.string(), reason: z.string() })

export const resultSchema = z.object({
  taskId: z.string(),
  agentId: z.string(),
  ok: z.boolean(),
  result: z.looseObject({}).optional().meta({ description: 'if ok' }),
  error: z.string().optional(),
  code: z.string().optional().meta({ description: 'a stable word, such as INVALID_JOB' }),
  retryable: z
    .boolean()
    .optional()
    .meta({ description: 'whether the same job may succeed later, under another taskId' }),
  blockers: z.array(blocker).optional().meta({ description: 'what is in the way' }),
  rollback: z
    .object({ complete: z.boolean(), leftovers: z.array(leftover) })
    .optional()
    .meta({ description: 'whether all is as it was before a job that has failed, and what is not' }),
  finishedAt: z.iso.datetime(),
})

function text(longest: number) {
  const fits = (value: string) => Buffer.byteLength(value) <= longest
  return z
    .string()
    .min(1, 'must not be empty')
    .refine(fits, `must be at most ${longest} bytes`)
    .refine(isWellFormed, 'must be well-formed Unicode')
}

/** @throws {NotAJobError} */
export function readJob(content: Uint8Array, agentId: string): JobMessage {
  const parsed = envelopeSchema.safeParse(parseJson(content), { reportInput: true })
  if (!parsed.success) throw new NotAJobError(`no job: ${describeIssues(parsed.error).join('; ')}`)
  const { data, tenantId, ...job } = parsed.data
  if (job.agentId !== agentId) throw new NotAJobError(`for agent ${JSON.stringify(job.agentId)}, this is ${agentId}`)
  return { ...job, tenantId: tenantId || undefined, data: data ?? {} }
}

function parseJson(content: Uint8Array): unknown {
  const bytes = content.byteLength
  if (bytes > longestContent) throw new NotAJobError(`no job: ${bytes} bytes, where ${longestContent} are the most`)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content))
  } catch (error) {
    throw new NotAJobError(`no JSON: ${messageOf(error)}`)
  }
}

export function succeeded(job: JobMessage, result: object): JobResult {
  return { taskId: job.taskId, agentId: job.agentId, ok: true, result, finishedAt: new Date().toISOString() }
}

export function failed(job: JobMessage, error: unknown): JobResult {
  // What failed before any step could begin, or has none, has made nothing that would have to be undone.
  const [failure, rollback] =
    error instanceof StepFailedError ? [error.failure, error.rollback] : [describeFailure(error), nothingLeft]
  const { code, retryable, blockers } = failure
  return {
    taskId: job.taskId,
    agentId: job.agentId,
    ok: false,
    error: failure.error,
    code,
    retryable,
    ...(blockers !== undefined && { blockers }),
    rollback,
    finishedAt: new Date().toISOString(),
  }
}
