/** What can go wrong with targets, in the words of results. */
import { BlockedError, JobError } from '../errors.js'
import type { Session } from './driver.js'

/** Nothing serves targets here. They live in the memory of what serves them: then there is none, either. */
export class TargetServiceDownError extends JobError {
  constructor(message: string, options?: ErrorOptions) {
    super('ISCSI_DOWN', message, { ...options, retryable: true })
  }
}

/** What serves the targets has not answered. It may do what it was asked all the same. */
export class TargetServiceSilentError extends JobError {
  constructor(message: string, options?: ErrorOptions) {
    super('ISCSI_NO_ANSWER', message, { ...options, retryable: true })
  }
}

/** This process may not ask. */
export class TargetServiceDeniedError extends JobError {
  constructor(message: string, options?: ErrorOptions) {
    super('ISCSI_DENIED', message, options)
  }
}

/** It was asked, and refused. */
export class TargetRefusedError extends JobError {
  constructor(message: string, options?: ErrorOptions & { retryable?: boolean }) {
    super('ISCSI_REFUSED', message, options)
  }
}

/** It has the name that ours is to have, and is somebody else's. */
export class TargetNotOursError extends JobError {
  constructor(message: string) {
    super('TARGET_NOT_OURS', message)
  }
}

/** One name, and two passwords: initiators could not log in to both of their targets. */
export class ChapUserTakenError extends JobError {
  constructor(message: string) {
    super('CHAP_USER_TAKEN', message)
  }
}

/** Initiators are logged in. */
export function attachedBy(iqn: string, sessions: readonly Session[]): BlockedError {
  const blockers = initiatorsOf(sessions).map(name => ({ kind: 'initiator', name }) as const)
  return new BlockedError('TARGET_BUSY', `${iqn} is in use by ${nameUsers(sessions)}`, blockers, { retryable: true })
}

/** For people. */
export function nameUsers(sessions: readonly Session[]): string {
  return initiatorsOf(sessions).join(', ') || 'an initiator whose name is not known'
}

function initiatorsOf(sessions: readonly Session[]): string[] {
  return [...new Set(sessions.flatMap(({ initiator }) => initiator ?? []))]
}
