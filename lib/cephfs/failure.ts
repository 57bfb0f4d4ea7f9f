import { constants } from 'node:os'
import { type CephError, type Resource, toCephError } from '../errors.js'

/** What this library itself finds wrong, as the errors of the addon are. */
export function failure(
  code: 'EBADF' | 'EROFS' | 'EEXIST' | 'ENOTDIR' | 'ELOOP' | 'ETIMEDOUT' | 'ECANCELED' | 'ENODATA' | 'EILSEQ',
  syscall: string,
  resource: Resource,
  message = '',
): CephError {
  return toCephError({ errno: -constants.errno[code], syscall, message }, resource)
}
