/** What a failure is called in a result: the one table of the stable words, and what is worth sending again. */
import {
  BlocklistedError,
  BusyError,
  CephError,
  ClosedError,
  ConflictError,
  ExistsError,
  ImageBusyError,
  ImageDeferredError,
  ImageExistsError,
  ImageHasSnapshotsError,
  ImageNotFoundError,
  InvalidArgumentError,
  IOError,
  LockBusyError,
  NoSpaceError,
  NotConnectedError,
  NotFoundError,
  NotSupportedError,
  ObjectNotFoundError,
  PermissionError,
  PoolNotFoundError,
  QuotaExceededError,
  ReadOnlyImageError,
  ShrinkNotAllowedError,
  SnapshotBusyError,
  SnapshotExistsError,
  SnapshotNotFoundError,
  TimeoutError,
} from '../lib/index.js'

/** A job cannot be done, for a reason of the service's own. */
export class JobError extends Error {
  readonly code: string
  /** Whether the same job may succeed later. */
  readonly retryable: boolean

  constructor(code: string, message: string, options: ErrorOptions & { retryable?: boolean } = {}) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.retryable = options.retryable ?? false
  }
}

/** As many as a person would read. A message of some megabytes can have some 100,000. */
const mostProblems = 50
const longestProblem = 300

/** The job says what cannot be done, or says it wrongly. The message names every problem. */
export class InvalidJobError extends JobError {
  constructor(problems: readonly string[]) {
    const named = problems.slice(0, mostProblems).map(problem => problem.slice(0, longestProblem))
    const rest = problems.length > mostProblems ? [`and ${problems.length - mostProblems} more`] : []
    super('INVALID_JOB', [...named, ...rest].join('; '))
  }
}

/** What keeps something from being done. */
export interface Blocker {
  kind: 'watcher' | 'child' | 'snapshot' | 'initiator' | 'file'
  /** A watcher's address, a child's path, a snapshot's name, an initiator's name, a file's path. */
  name: string
  /** A watcher's id, as in `client.4123`. */
  client?: number
}

/** The job can be done once these are out of the way. */
export class BlockedError extends JobError {
  readonly blockers: readonly Blocker[]

  constructor(code: string, message: string, blockers: readonly Blocker[], options: { retryable?: boolean } = {}) {
    super(code, message, options)
    this.blockers = blockers
  }
}

/** The image is not this agent's, or not this tenant's: it is left alone. */
export class ImageNotOursError extends JobError {
  constructor(message: string) {
    super('IMAGE_NOT_OURS', message)
  }
}

/** How a failure is told to the control plane. */
export interface Failure {
  error: string
  /** A stable word. docs/agent.md has all of them. */
  code: string
  /** Whether the same job may succeed later, under a new task id. */
  retryable: boolean
  blockers?: readonly Blocker[]
}

type ErrorClass = abstract new (...fields: never[]) => CephError

/** A class before those it extends. */
const codes: readonly (readonly [ErrorClass, string])[] = [
  [ImageNotFoundError, 'IMAGE_NOT_FOUND'],
  [SnapshotNotFoundError, 'SNAPSHOT_NOT_FOUND'],
  [PoolNotFoundError, 'POOL_NOT_FOUND'],
  [ObjectNotFoundError, 'OBJECT_NOT_FOUND'],
  [NotFoundError, 'NOT_FOUND'],
  [ImageExistsError, 'IMAGE_EXISTS'],
  [SnapshotExistsError, 'SNAPSHOT_EXISTS'],
  [ExistsError, 'ALREADY_EXISTS'],
  [ImageBusyError, 'IMAGE_BUSY'],
  [SnapshotBusyError, 'SNAPSHOT_BUSY'],
  [LockBusyError, 'LOCK_BUSY'],
  [BusyError, 'BUSY'],
  [ImageHasSnapshotsError, 'IMAGE_HAS_SNAPSHOTS'],
  [ImageDeferredError, 'IMAGE_DEFERRED'],
  [ShrinkNotAllowedError, 'SIZE_TOO_SMALL'],
  [InvalidArgumentError, 'INVALID_ARGUMENT'],
  [ReadOnlyImageError, 'IMAGE_READ_ONLY'],
  [PermissionError, 'PERMISSION_DENIED'],
  [TimeoutError, 'CLUSTER_TIMEOUT'],
  [BlocklistedError, 'CLIENT_BLOCKLISTED'],
  [NotConnectedError, 'CLUSTER_NOT_CONNECTED'],
  [NoSpaceError, 'NO_SPACE'],
  [QuotaExceededError, 'QUOTA_EXCEEDED'],
  [NotSupportedError, 'NOT_SUPPORTED'],
  [ConflictError, 'CONFLICT'],
  [IOError, 'CLUSTER_IO_ERROR'],
  [ClosedError, 'CLOSED'],
  [CephError, 'CLUSTER_ERROR'],
]

export function describeFailure(error: unknown): Failure {
  if (error instanceof JobError) {
    const blockers = error instanceof BlockedError ? { blockers: error.blockers } : {}
    return { error: error.message, code: error.code, retryable: error.retryable, ...blockers }
  }
  if (isTimeout(error)) return { error: 'the job took longer than it may', code: 'JOB_TIMEOUT', retryable: true }
  for (const [Class, code] of codes) {
    if (error instanceof Class) return { error: error.message, code, retryable: error.retryable }
  }
  return { error: messageOf(error), code: 'INTERNAL_ERROR', retryable: false }
}

/** What the signal of AbortSignal.timeout() gives as its reason. */
function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError'
}

export function isRetryable(error: unknown): boolean {
  return describeFailure(error).retryable
}

export function messageOf(error: unknown): string {
  // Node gives one without a message when none of a host's addresses could be reached.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}
