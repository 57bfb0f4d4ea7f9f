/**
 * The addon's runtime, and what the declarations of its bindings share.
 *
 * Calls that answer a promise take one argument more than declared here, an abort token. They check their arguments,
 * but in the words of a maintainer: the callers in this folder have checked before, in the words of a user.
 *
 * Sizes and offsets are bytes; `null` stands for "absent".
 */
declare const kind: unique symbol
export interface Handle<Kind extends string = string> {
  readonly [kind]: Kind
}
export type AbortToken = Handle<'abortToken'>
export type Token = AbortToken | undefined

export type OnProgress = (done: number, total: number) => void

export interface NativeVersion {
  major: number
  minor: number
  extra: number
}

/** Of the threads that do what Ceph has only blocking calls for, in this thread of JavaScript. */
export interface WorkerLoad {
  threads: number
  /** Threads that are in a call. */
  busy: number
  /** Calls that wait for a thread. */
  queued: number
}

export interface RuntimeBindings {
  /**
   * Closes all that is open, and waits for it; but not for ever when the process exits, which it does with that status.
   * Nothing can be called after it.
   */
  end(exitStatus: number | null): void
  close(handle: Handle): Promise<void>
  isOpen(handle: Handle): boolean
  workerLoad(): WorkerLoad
  newAbortToken(): AbortToken
  abort(token: AbortToken): void
}
