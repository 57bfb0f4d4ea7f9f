/** Calls that must fail, as a table. */
import type { Test } from 'tap'

/** What an error must have; it may have more. */
export type Failure = {
  name: string
  code?: string
  syscall?: string
  resource?: string
  message?: RegExp
  retryable?: boolean
}

/** By the reason: the call, and how it fails. In order, for a call may rely on those before it. */
export type Failures = Record<string, [call: () => Promise<unknown>, failure: Failure]>

export async function fails(t: Test, failures: Failures): Promise<void> {
  for (const [reason, [call, failure]] of Object.entries(failures)) await t.rejects(call(), failure, reason)
}
