/**
 * What can go wrong, as classes a caller can test for. The one place that decides which errno means what, and what is
 * worth trying again.
 */
import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'

/** What a call was about: decides the class of its error, and stands in its message. */
export interface Resource {
  kind:
    | 'cluster'
    | 'pool'
    | 'image'
    | 'snapshot'
    | 'object'
    | 'namespace'
    | 'key'
    | 'lock'
    | 'exclusiveLock'
    | 'fileSystem'
    | 'file'
    | 'quota'
    | 'fileSnapshot'
    | 'mount'
  /** Such as `rbd/tenant-a/vm-1@base`. */
  name: string
}

export interface CephErrorFields {
  code: string
  errno: number
  syscall: string
  resource: string
  retryable: boolean
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
  /**
   * Whether the same call may succeed later, with nothing changed by the caller; after a NotConnectedError, on a new watch,
   * mount or connection only.
   */
  readonly retryable: boolean

  /** @internal */
  constructor(message: string, { code, errno, syscall, resource, retryable }: CephErrorFields) {
    super(message)
    this.name = new.target.name
    this.code = code
    this.errno = errno
    this.syscall = syscall
    this.resource = resource
    this.retryable = retryable
  }
}

/** ENOENT. */
export class NotFoundError extends CephError {}
/** ENOENT: the pool; or, where an image was to be made, its namespace or its data pool. */
export class PoolNotFoundError extends NotFoundError {}
export class ImageNotFoundError extends NotFoundError {}
export class SnapshotNotFoundError extends NotFoundError {}
export class ObjectNotFoundError extends NotFoundError {}
/** ENOENT: the file or directory, or one above it. */
export class FileNotFoundError extends NotFoundError {}
/** ENODATA: the file has no such attribute, or CephFS has none of that name. */
export class XattrNotFoundError extends NotFoundError {}
/** ENOENT: a library of Ceph's that is opened on first use is not installed. */
export class MissingLibraryError extends NotFoundError {}
/** EEXIST. */
export class ExistsError extends CephError {}
export class FileExistsError extends ExistsError {}
export class PoolExistsError extends ExistsError {}
export class ImageExistsError extends ExistsError {}
export class SnapshotExistsError extends ExistsError {}
export class ObjectExistsError extends ExistsError {}
/** EBUSY, and EPERM for a pool that another application uses. */
export class BusyError extends CephError {}
/** EBUSY: the image is open elsewhere, or has clones; or EROFS: another client keeps its exclusive lock. */
export class ImageBusyError extends BusyError {}
/** EBUSY: the snapshot is protected, or has clones. */
export class SnapshotBusyError extends BusyError {}
/** EBUSY: the snapshot after it has no object map. It is being made; or that was cut short, and it is to be removed first. */
export class IncompleteSnapshotError extends BusyError {
  /** @internal */
  constructor(next: string, resource: Resource) {
    const syscall = 'rbd_snap_remove2'
    const about = `${next}, the snapshot after it, has no object map: remove that one first, unless it is being made`
    super(`EBUSY: ${about}, ${syscall} '${resource.name}'`, {
      code: 'EBUSY',
      errno: -constants.errno.EBUSY,
      syscall,
      resource: resource.name,
      retryable: true,
    })
  }
}
/** EBUSY: somebody else holds the lock. */
export class LockBusyError extends BusyError {}
/** ENOTEMPTY. */
export class ImageHasSnapshotsError extends CephError {}
/** ENOTEMPTY: a directory with entries, or with snapshots. */
export class DirectoryNotEmptyError extends CephError {}
/** ENOTDIR: something on the path, or what it leads to, is no directory. */
export class NotDirectoryError extends CephError {}
/** EISDIR: what the path leads to is a directory. */
export class IsDirectoryError extends CephError {}
/** ELOOP: too many symbolic links, or one that was not to be followed. */
export class SymbolicLinkError extends CephError {}
/** EROFS: a file system mounted with `readOnly`, or a snapshot. */
export class ReadOnlyFileSystemError extends CephError {}
/** ENOENT, ENODEV, ENOTDIR, ENOTCONN: no CephFS is mounted there; or ceph-fuse has ended, and left a mount that is none. */
export class NotMountedError extends CephError {}
/** EPERM: in the trash, and to be kept there for a time that is not over. */
export class ImageDeferredError extends CephError {}
/** EINVAL: a smaller size, without `allowShrink`. */
export class ShrinkNotAllowedError extends CephError {}
/** EINVAL, EDOM, ENAMETOOLONG, EFBIG, EMSGSIZE, EXDEV, and ERANGE for a limit: Ceph refused an argument. */
export class InvalidArgumentError extends CephError {}
/**
 * EROFS: opened read-only, or at a snapshot; a copy that rbd-mirror keeps; or writing without the exclusive lock, which another
 * client keeps.
 */
export class ReadOnlyImageError extends CephError {}
/** EPERM: no key slot of the encrypted image opens with this passphrase. */
export class WrongPassphraseError extends CephError {}
/** EINVAL: the image has no LUKS header, or one of the other format. */
export class NotEncryptedError extends CephError {}
/** ECANCELED: a user of the image could not hold its I/O for the snapshot, which is not made. */
export class QuiesceError extends CephError {}
/** EPERM, EACCES: the keyring or its caps. */
export class PermissionError extends CephError {}
/** ETIMEDOUT: the cluster did not answer in time; what was asked may have happened all the same. */
export class TimeoutError extends CephError {}
/** ESHUTDOWN: the cluster has blocklisted this client. Only a new connection helps. */
export class BlocklistedError extends CephError {}
/** ENOTCONN: a watch, or a mounted file system, has lost the cluster, or the watched object is gone. Watch or mount anew. */
export class NotConnectedError extends CephError {}
/** ENOSPC. */
export class NoSpaceError extends CephError {}
/** EDQUOT. */
export class QuotaExceededError extends CephError {}
/** ENOTSUP, ENOSYS. */
export class NotSupportedError extends CephError {}
/** ECANCELED, ERANGE, EOVERFLOW: the object is not what the operation was to find, and nothing was done. */
export class ConflictError extends CephError {}
/** EILSEQ: the image has something else there than was expected, and nothing was written. */
export class MismatchError extends ConflictError {
  /** Of the first byte that differs, in the image. */
  readonly offset: number

  /** @internal */
  constructor(offset: number, resource: Resource) {
    const syscall = 'rbd_aio_compare_and_write'
    super(`EILSEQ: not as expected at byte ${offset}, nothing was written, ${syscall} '${resource.name}'`, {
      code: 'EILSEQ',
      errno: -constants.errno.EILSEQ,
      syscall,
      resource: resource.name,
      retryable: false,
    })
    this.offset = offset
  }
}
/** EIO. */
export class IOError extends CephError {}
/** EBADF: the handle, or what it was opened through, is closed. */
export class ClosedError extends CephError {}

/** The `signal` was aborted. `cause` is its reason; `name` and `code` are those of Node's own AbortError. */
export class AbortError extends Error {
  readonly code = 'ABORT_ERR'
  constructor(options: { cause: unknown }) {
    super('The operation was aborted', options)
    this.name = 'AbortError'
  }
}

type ErrorClass = new (message: string, fields: CephErrorFields) => CephError
type Meaning = readonly [Class: ErrorClass, text: string, retryable?: 'retryable']

const noOption: Meaning = [NotFoundError, 'Ceph has no such option']
const nowhereToPut: Meaning = [PoolNotFoundError, 'no such pool, namespace or data pool']
const cannotBeClone: Meaning = [InvalidArgumentError, 'the snapshot is not protected, or the layout is not possible']
const noExclusiveLock: Meaning = [InvalidArgumentError, 'opened read-only, or without the feature exclusive-lock']
const otherApplication: Meaning = [BusyError, 'another application uses the pool; force says not to mind']
const noSetting: Meaning = [InvalidArgumentError, 'no such setting, or no value for it']
const conflict: Meaning = [ConflictError, 'not as expected, nothing was changed']
const encryptionLoaded: Meaning = [ExistsError, 'encryption is loaded already']
const cannotEncrypt: Meaning = [NotSupportedError, 'not for images with the feature journaling, nor to format a clone']
const noMds: Meaning = [TimeoutError, 'no answer in time: is an MDS active?', 'retryable']
const notPermittedFile: Meaning = [PermissionError, 'not permitted: check the modes, the user, and the MDS caps']
const notPermittedQuota: Meaning = [PermissionError, 'not permitted: a quota takes MDS caps with p, as in allow rwp']
const notPermittedSnapshot: Meaning = [
  PermissionError,
  'not permitted: a snapshot takes a directory, MDS caps with s (allow rws), and a file system that allows new ones',
]
const readOnlyFiles: Meaning = [ReadOnlyFileSystemError, 'mounted with readOnly, or in a snapshot']
const hangingMount: Meaning = [TimeoutError, 'no answer in time: the mount hangs', 'retryable']
const notMounted: Meaning = [NotMountedError, 'no CephFS is mounted there']
const deadMount: Meaning = [NotMountedError, 'ceph-fuse has ended: unmount, and mount again']
const notPermittedMount: Meaning = [PermissionError, 'not permitted: this user may not use the mount']
const notPermittedProbe: Meaning = [PermissionError, 'not permitted: check the modes, the user, and the caps']
const notPermitted: Meaning = [PermissionError, 'not permitted: check the keyring and its caps']
const notSupported: Meaning = [NotSupportedError, 'not supported by this cluster or image']
const invalid: Meaning = [InvalidArgumentError, 'invalid argument']

/**
 * What an errno means. The first that is here counts: `function ERRNO`, for functions that give it a meaning of their
 * own; `kind ERRNO`, where it depends on what the call was about; `ERRNO`.
 */
const meanings: Record<string, Meaning> = {
  ENOENT: [NotFoundError, 'not found'],
  EEXIST: [ExistsError, 'already exists'],
  EBUSY: [BusyError, 'busy', 'retryable'],
  EAGAIN: [BusyError, 'busy', 'retryable'],
  EINVAL: invalid,
  EDOM: invalid,
  ENAMETOOLONG: [InvalidArgumentError, 'name too long'],
  EFBIG: [InvalidArgumentError, 'larger than it can be'],
  EMSGSIZE: [InvalidArgumentError, 'more data than an OSD takes at once'],
  EROFS: [ReadOnlyImageError, 'opened read-only, or another client keeps the exclusive lock'],
  EPERM: notPermitted,
  EACCES: notPermitted,
  ETIMEDOUT: [TimeoutError, 'no answer in time: is the cluster up?', 'retryable'],
  ESHUTDOWN: [BlocklistedError, 'this client is blocklisted: connect anew'],
  ENOTCONN: [NotConnectedError, 'not connected any more: watch, mount or connect anew', 'retryable'],
  ENOSPC: [NoSpaceError, 'no space left', 'retryable'],
  EDQUOT: [QuotaExceededError, 'quota exceeded', 'retryable'],
  ENOTSUP: notSupported,
  ENOSYS: notSupported,
  EIO: [IOError, 'input/output error'],
  EBADF: [ClosedError, 'closed'],
  ENODATA: [XattrNotFoundError, 'no such attribute'],
  ENOTDIR: [NotDirectoryError, 'not a directory'],
  EISDIR: [IsDirectoryError, 'a directory'],
  ENOTEMPTY: [DirectoryNotEmptyError, 'not empty'],
  ELOOP: [SymbolicLinkError, 'too many symbolic links, or one that is not to be followed'],
  EXDEV: [InvalidArgumentError, 'not across file systems, snapshots or quotas'],

  'rados_conf_read_file ENOENT': [NotFoundError, 'no configuration file: name one, or set CEPH_CONF'],
  'rados_conf_read_file EINVAL': [InvalidArgumentError, 'not a configuration file'],
  'rados_conf_get ENOENT': noOption,
  'rados_conf_set ENOENT': noOption,
  'rados_conf_set EINVAL': [InvalidArgumentError, 'not a value for this option'],
  'rados_conf_set EPERM': [NotSupportedError, 'cannot be changed once connected'],
  'rados_connect ENOENT': [NotFoundError, 'the configuration names no monitors, or no key'],
  'rados_connect EINVAL': [InvalidArgumentError, 'the configuration is not valid: is mon_host right?'],
  'rados_connect EIO': [PermissionError, 'the key or the keyring is malformed'],
  'rados_application_enable EPERM': otherApplication,
  'rbd_pool_init EPERM': otherApplication,

  'pool ENOENT': [PoolNotFoundError, 'pool not found'],
  'pool EEXIST': [PoolExistsError, 'pool already exists'],
  'namespace EBUSY': [BusyError, 'the namespace has images, or trash'],

  'image ENOENT': [ImageNotFoundError, 'image not found'],
  'image EEXIST': [ImageExistsError, 'image already exists'],
  'image EBUSY': [ImageBusyError, 'image is in use: it is open somewhere, or has clones', 'retryable'],
  'image ENOTEMPTY': [ImageHasSnapshotsError, 'image has snapshots: remove them first'],
  'rbd_create4 ENOENT': nowhereToPut,
  'rbd_create4 EINVAL': [InvalidArgumentError, 'settings that do not go together'],
  'rbd_clone3 ENOENT': [ImageNotFoundError, 'no such parent or snapshot; or no such pool, namespace or data pool'],
  'rbd_clone3 EINVAL': cannotBeClone,
  'rbd_clone3 EXDEV': [InvalidArgumentError, 'a clone in another namespace than its parent needs cloneFormat 2'],
  'rbd_clone3 ENOSYS': [NotSupportedError, 'a clone needs the feature layering'],
  'rbd_copy_with_progress4 ENOENT': nowhereToPut,
  'rbd_deep_copy_with_progress ENOENT': nowhereToPut,
  'rbd_deep_copy_with_progress EINVAL': cannotBeClone,
  'rbd_flatten_with_progress EINVAL': [InvalidArgumentError, 'the image is no clone'],
  'rbd_update_features EINVAL': [
    InvalidArgumentError,
    'the feature is already so, cannot be changed later, or needs another',
  ],
  'rbd_rebuild_object_map EINVAL': [InvalidArgumentError, 'the image has no object map'],
  'rbd_metadata_set EINVAL': noSetting,
  'rbd_pool_metadata_set EINVAL': noSetting,
  'rbd_aio_compare_and_write EINVAL': [InvalidArgumentError, 'beyond the end, or across a multiple of 512 bytes'],
  'rbd_aio_compare_and_write ENOTSUP': [NotSupportedError, 'more than 256 bytes, and the image has stripes of 512'],
  'rbd_diff_iterate2 EINVAL': [InvalidArgumentError, 'the snapshot to begin at is younger than the end'],
  'rbd_diff_iterate2 ENOENT': [SnapshotNotFoundError, 'snapshot not found'],
  'rbd_encryption_format EEXIST': encryptionLoaded,
  'rbd_encryption_format ENOSPC': [NoSpaceError, 'no space left, or the image is too small for a LUKS header'],
  'rbd_encryption_format ENOTSUP': cannotEncrypt,
  'rbd_encryption_load EPERM': [WrongPassphraseError, 'no key slot opens with this passphrase'],
  'rbd_encryption_load EINVAL': [NotEncryptedError, 'the image is not encrypted, or in another format'],
  'rbd_encryption_load EEXIST': encryptionLoaded,
  'rbd_encryption_load ENOTSUP': cannotEncrypt,
  'rbd_trash_restore EBUSY': [ImageBusyError, 'its removal has begun, and some of its data is gone: remove it'],
  'rbd_trash_purge_with_progress ENOTEMPTY': [ImageHasSnapshotsError, 'some have snapshots, and are still there'],

  'snapshot ENOENT': [SnapshotNotFoundError, 'snapshot not found'],
  'snapshot EEXIST': [SnapshotExistsError, 'snapshot already exists'],
  'snapshot EBUSY': [SnapshotBusyError, 'snapshot is protected, or has clones'],
  'rbd_snap_protect EBUSY': [SnapshotBusyError, 'snapshot is protected already'],
  'rbd_snap_unprotect EINVAL': [InvalidArgumentError, 'snapshot is not protected'],
  'rbd_snap_create2 EDQUOT': [QuotaExceededError, 'the image has as many snapshots as its limit allows'],
  'rbd_quiesce_complete ETIMEDOUT': [TimeoutError, 'the snapshot is not made'],
  'rbd_snap_create2 ECANCELED': [QuiesceError, 'a user of the image could not hold its I/O', 'retryable'],
  'rbd_snap_create2 ETIMEDOUT': [TimeoutError, 'no answer in time, of the cluster or a user of the image', 'retryable'],
  'rbd_snap_set_limit ERANGE': [InvalidArgumentError, 'the image has more snapshots than that'],

  'object ENOENT': [ObjectNotFoundError, 'object not found'],
  'object EEXIST': [ObjectExistsError, 'object already exists'],
  'object ECANCELED': conflict,
  'object ERANGE': conflict,
  'object EOVERFLOW': conflict,

  'lock ENOENT': [NotFoundError, 'lock not held'],
  'lock EEXIST': [ExistsError, 'lock already held with this cookie'],
  'lock EBUSY': [LockBusyError, 'lock is held by somebody else', 'retryable'],
  'exclusiveLock ENOENT': [NotFoundError, 'nobody holds the exclusive lock'],
  'exclusiveLock EBUSY': [ImageBusyError, 'somebody else holds the exclusive lock', 'retryable'],
  'exclusiveLock EINVAL': noExclusiveLock,
  'rbd_lock_acquire EROFS': [ImageBusyError, 'another client keeps the exclusive lock', 'retryable'],
  'rbd_lock_release EINVAL': [InvalidArgumentError, 'the exclusive lock is not held'],

  'dlopen ENOENT': [MissingLibraryError, 'libcephfs cannot be loaded: install it (Debian: apt-get install libcephfs2)'],
  'fileSystem ENOENT': [NotFoundError, 'no such file system, or no such root in it'],
  'fileSystem EPERM': [PermissionError, 'not permitted: check the MDS caps, and the path they are for'],
  'fileSystem EACCES': [PermissionError, 'not permitted: check the MDS caps, and the path they are for'],
  'fileSystem ETIMEDOUT': noMds,
  'file ENOENT': [FileNotFoundError, 'no such file or directory'],
  'file EEXIST': [FileExistsError, 'already exists'],
  'file EPERM': notPermittedFile,
  'file EACCES': notPermittedFile,
  'file EROFS': readOnlyFiles,
  'file EILSEQ': [CephError, "a name that is no UTF-8: ask with encoding 'buffer'"],
  'file ETIMEDOUT': noMds,
  'ceph_read EBADF': [InvalidArgumentError, 'not opened for reading'],
  'ceph_write EBADF': [InvalidArgumentError, 'not opened for writing'],
  'ceph_ftruncate EBADF': [InvalidArgumentError, 'not opened for writing'],
  'ceph_symlink ENOENT': [FileNotFoundError, 'no such directory'],
  'ceph_setxattr ENOTSUP': [NotSupportedError, 'attributes begin with user., trusted., security. or ceph.'],
  'quota ENOENT': [FileNotFoundError, 'no such directory'],
  'quota EPERM': notPermittedQuota,
  'quota EACCES': notPermittedQuota,
  'quota EROFS': readOnlyFiles,
  'quota ETIMEDOUT': noMds,
  'quota ECANCELED': [ConflictError, 'reads back with another value', 'retryable'],
  'fileSnapshot ENOENT': [SnapshotNotFoundError, 'no such snapshot, or no such directory'],
  'fileSnapshot EEXIST': [SnapshotExistsError, 'snapshot already exists'],
  'fileSnapshot EPERM': notPermittedSnapshot,
  'fileSnapshot EACCES': notPermittedSnapshot,
  'fileSnapshot EROFS': readOnlyFiles,
  'fileSnapshot ETIMEDOUT': noMds,
  'statfs ENOENT': notMounted,
  'statfs ENOTDIR': notMounted,
  'statfs ENODEV': notMounted,
  'statfs ENOTCONN': deadMount,
  'statfs EPERM': notPermittedMount,
  'statfs EACCES': notPermittedMount,
  'openat2 EACCES': notPermittedFile,
  'openat2 ENOTCONN': deadMount,
  'openat2 ENOSYS': [NotSupportedError, 'the kernel is older than 5.8'],
  'mount ENOTCONN': deadMount,
  'mount EROFS': [ReadOnlyFileSystemError, 'mounted read-only'],
  'mount EPERM': notPermittedProbe,
  'mount EACCES': notPermittedProbe,
  'mount ETIMEDOUT': hangingMount,
}

/** Names of errnos, as Node has them; neither of its two lists has all that Ceph uses. */
const codes = new Map([...getSystemErrorMap()].map(([errno, [code]]) => [errno, code]))
for (const [code, errno] of Object.entries(constants.errno)) if (!codes.has(-errno)) codes.set(-errno, code)

/** The error of a native call, which has `errno` and `syscall`, as the class that says what it means. */
export function toCephError(error: { errno: number; syscall: string; message: string }, resource: Resource): CephError {
  const { errno, syscall } = error
  const code = codes.get(errno) ?? `E${-errno}`
  const [Class, text, retryable] = meanings[`${syscall} ${code}`] ??
    meanings[`${resource.kind} ${code}`] ??
    meanings[code] ?? [CephError, `failed with errno ${-errno}`]
  const detail = error.message ? ` (${error.message})` : ''
  return new Class(`${code}: ${text}${detail}, ${syscall} '${resource.name}'`, {
    code,
    errno,
    syscall,
    resource: resource.name,
    retryable: retryable === 'retryable',
  })
}
