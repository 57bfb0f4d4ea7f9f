/**
 * What can go wrong, as classes a caller can test for. The one place that decides which errno means what, and what is
 * worth trying again.
 */
import { constants } from 'node:os'

/** What a call was about: decides the class of its error, and stands in its message. */
export interface Resource {
  kind: 'cluster' | 'pool' | 'image' | 'snapshot' | 'object' | 'namespace' | 'key' | 'lock'
  /** Such as `rbd/tenant-a/vm-1@base`. */
  name: string
}

export interface CephErrorFields {
  code: string
  errno: number
  syscall: string
  resource: string
}

/**
 * A call into Ceph failed. Has the fields of Node's own system errors.
 */
export class CephError extends Error {
  /** The errno by name, such as `ENOENT`. */
  readonly code: string
  /** The errno as a negative number, such as -2. */
  readonly errno: number
  /** The C function that failed, such as `rbd_open`. */
  readonly syscall: string
  /** What it was called on, such as `rbd/tenant-a/vm-1@base`. */
  readonly resource: string
  /** Whether the same call may succeed later, with nothing changed by the caller. */
  readonly retryable: boolean

  constructor(message: string, { code, errno, syscall, resource }: CephErrorFields) {
    super(message)
    this.name = new.target.name
    this.code = code
    this.errno = errno
    this.syscall = syscall
    this.resource = resource
    this.retryable = retryableCodes.has(code)
  }
}

/** ENOENT. */
export class NotFoundError extends CephError {}
export class PoolNotFoundError extends NotFoundError {}
export class ImageNotFoundError extends NotFoundError {}
export class SnapshotNotFoundError extends NotFoundError {}
export class ObjectNotFoundError extends NotFoundError {}
/** EEXIST. */
export class ExistsError extends CephError {}
export class PoolExistsError extends ExistsError {}
export class ImageExistsError extends ExistsError {}
export class SnapshotExistsError extends ExistsError {}
export class ObjectExistsError extends ExistsError {}
/** EBUSY. */
export class BusyError extends CephError {}
/** EBUSY: the image is open elsewhere, or has clones. */
export class ImageBusyError extends BusyError {}
/** EBUSY: the snapshot is protected, or has clones. */
export class SnapshotBusyError extends BusyError {}
/** EBUSY: somebody else holds the lock. */
export class LockBusyError extends BusyError {}
/** ENOTEMPTY. */
export class ImageHasSnapshotsError extends CephError {}
/** EINVAL: a smaller size, without `allowShrink`. */
export class ShrinkNotAllowedError extends CephError {}
/** EINVAL, EDOM, ENAMETOOLONG: Ceph refused an argument. */
export class InvalidArgumentError extends CephError {}
/** EROFS: opened read-only, or at a snapshot. */
export class ReadOnlyImageError extends CephError {}
/** EPERM, EACCES: the keyring or its caps. */
export class PermissionError extends CephError {}
/** ETIMEDOUT: the cluster did not answer in time; what was asked may have happened all the same. */
export class TimeoutError extends CephError {}
/** ESHUTDOWN: the cluster has blocklisted this client. Only a new connection helps. */
export class BlocklistedError extends CephError {}
/** ENOTCONN. */
export class NotConnectedError extends CephError {}
/** ENOSPC. */
export class NoSpaceError extends CephError {}
/** EDQUOT. */
export class QuotaExceededError extends CephError {}
/** EOPNOTSUPP, ENOSYS. */
export class NotSupportedError extends CephError {}
/** ECANCELED, ERANGE, EOVERFLOW: the object is not what the operation was to find, and nothing was done. */
export class ConflictError extends CephError {}
/** EIO. */
export class IOError extends CephError {}
/** EBADF: the handle, or what it was opened through, is closed. */
export class ClosedError extends CephError {}

/** The `signal` was aborted. `cause` is its reason. */
export class AbortError extends Error {
  readonly code = 'ABORT_ERR'
  constructor(options: { cause: unknown }) {
    super('The operation was aborted', options)
    this.name = 'AbortError'
  }
}

type ErrorClass = new (message: string, fields: CephErrorFields) => CephError
type Meaning = readonly [ErrorClass, string]

const notFound: Meaning = [NotFoundError, 'not found']
const exists: Meaning = [ExistsError, 'already exists']
const busy: Meaning = [BusyError, 'busy']
const invalid: Meaning = [InvalidArgumentError, 'invalid argument']
const notPermitted: Meaning = [PermissionError, 'not permitted: check the keyring and its caps']
const notSupported: Meaning = [NotSupportedError, 'not supported by this cluster or image']

const meanings: Record<string, Meaning> = {
  ENOENT: notFound,
  EEXIST: exists,
  EBUSY: busy,
  EINVAL: invalid,
  EDOM: invalid,
  ENAMETOOLONG: [InvalidArgumentError, 'name too long'],
  EROFS: [ReadOnlyImageError, 'opened read-only'],
  EPERM: notPermitted,
  EACCES: notPermitted,
  ETIMEDOUT: [TimeoutError, 'no answer in time: is the cluster up?'],
  ESHUTDOWN: [BlocklistedError, 'this client is blocklisted: connect anew'],
  ENOTCONN: [NotConnectedError, 'not connected'],
  ENOSPC: [NoSpaceError, 'no space left'],
  EDQUOT: [QuotaExceededError, 'quota exceeded'],
  EOPNOTSUPP: notSupported,
  ENOSYS: notSupported,
  EIO: [IOError, 'input/output error'],
  EBADF: [ClosedError, 'closed'],
}

const conflict: Meaning = [ConflictError, 'not as expected, nothing was changed']

const meaningsByKind: Partial<Record<Resource['kind'], Record<string, Meaning>>> = {
  pool: { ENOENT: [PoolNotFoundError, 'pool not found'], EEXIST: [PoolExistsError, 'pool already exists'] },
  image: {
    ENOENT: [ImageNotFoundError, 'image not found'],
    EEXIST: [ImageExistsError, 'image already exists'],
    EBUSY: [ImageBusyError, 'image is in use: it is open somewhere, or has clones'],
    ENOTEMPTY: [ImageHasSnapshotsError, 'image has snapshots: remove them first'],
  },
  snapshot: {
    ENOENT: [SnapshotNotFoundError, 'snapshot not found'],
    EEXIST: [SnapshotExistsError, 'snapshot already exists'],
    EBUSY: [SnapshotBusyError, 'snapshot is protected, or has clones'],
  },
  object: {
    ENOENT: [ObjectNotFoundError, 'object not found'],
    EEXIST: [ObjectExistsError, 'object already exists'],
    ECANCELED: conflict,
    ERANGE: conflict,
    EOVERFLOW: conflict,
  },
  lock: {
    ENOENT: [NotFoundError, 'lock not held'],
    EEXIST: [ExistsError, 'lock already held with this cookie'],
    EBUSY: [LockBusyError, 'lock is held by somebody else'],
  },
}

const retryableCodes: ReadonlySet<string> = new Set(['EAGAIN', 'EBUSY', 'ENOTCONN', 'ETIMEDOUT'])

const codes = new Map<number, string>()
for (const [code, errno] of Object.entries(constants.errno)) if (!codes.has(errno)) codes.set(errno, code)

/** The error of a native call, which has `errno` and `syscall`, as the class that says what it means. */
export function toCephError(error: { errno: number; syscall: string; message: string }, resource: Resource): CephError {
  const code = codes.get(-error.errno) ?? `E${-error.errno}`
  const [ErrorClass, text] = meaningsByKind[resource.kind]?.[code] ??
    meanings[code] ?? [CephError, `failed with errno ${-error.errno}`]
  const detail = error.message ? ` (${error.message})` : ''
  return new ErrorClass(`${code}: ${text}${detail}, ${error.syscall} '${resource.name}'`, {
    code,
    errno: error.errno,
    syscall: error.syscall,
    resource: resource.name,
  })
}
