import type { CallOptions } from '../call.js'
import { checkOneOf, checkOptions } from '../check.js'

export interface SetXattrOptions extends CallOptions {
  /** `create` where it must not be there, `replace` where it must. Default: either. */
  only?: 'create' | 'replace' | undefined
}

/** XATTR_CREATE and XATTR_REPLACE of setxattr(2). */
const flagsByName = { create: 1, replace: 2 }

/** @internal */
export function setXattrArguments(options: SetXattrOptions): { flags: number; callOptions: CallOptions } {
  checkOptions(options, ['only'])
  const { only, ...callOptions } = options
  return { flags: only === undefined ? 0 : flagsByName[checkOneOf('only', only, ['create', 'replace'])], callOptions }
}
