/** What the Ceph Dashboard says when something cannot be done, in words that say what to do about it. */
import { z } from 'zod'
import { redactor } from '../log.js'
import { TargetRefusedError, TargetServiceDeniedError } from './errors.js'

/** What was asked for and not done, by what the Dashboard says of it. */
export interface Refusal {
  /** An HTTP status. Of a task that went on by itself, and does not tell one: 400. */
  status: number
  /** The Dashboard's own word, such as `portals_required`. It has none for what a gateway says. */
  code?: string | undefined
  detail: string
}

export class DashboardError extends TargetRefusedError {
  readonly status: number
  /** The Dashboard's own word, such as `portals_required`. */
  readonly dashboardCode: string | undefined

  /** @param what - Such as `create the target iqn…`. */
  constructor(what: string, { status, code, detail }: Refusal) {
    const { todo, retryable = false } = code === undefined ? adviceOn(status) : (advices[code] ?? {})
    const reason = `${withoutSecrets(detail)} (${code ?? `HTTP ${status}`})`
    super(`the Dashboard did not ${what}: ${reason}${todo === undefined ? '' : `; ${todo}`}`, { retryable })
    this.status = status
    this.dashboardCode = code
  }
}

interface Advice {
  todo?: string
  retryable?: boolean
}

const advices: Record<string, Advice> = {
  no_gateways_defined: { todo: 'tell it where they are: ceph dashboard iscsi-gateway-add -i FILE NAME' },
  no_gateways_available: {
    todo: 'is rbd-target-api up on them, and the address of the active ceph-mgr in their trusted_ip_list?',
    retryable: true,
  },
  ceph_iscsi_rest_api_not_available_for_gateway: { todo: 'is rbd-target-api up there?', retryable: true },
  portals_required: {
    todo: 'name more gateways in CEPH_GW_ISCSI_HOST and CEPH_GW_ISCSI_IP, or lower minimum_gateways on the gateways',
  },
  target_has_active_sessions: { retryable: true },
  client_logged_in: { retryable: true },
}

/** What it has no word for: it has failed itself, often for a gateway that it does not know, or a gateway has. */
function adviceOn(status: number): Advice {
  const isGateways = status === 400
  const todo = 'the log of ceph-mgr says more; are all portals of ceph dashboard iscsi-gateway-list?'
  return { retryable: status >= 500 || isGateways, ...(status === 500 && { todo }) }
}

const errorBody = z.object({ detail: z.string(), code: z.string().optional() })

/** Of an answer whose status says that it is one. */
export function refusalOf(status: number, body: unknown): Refusal {
  const said = errorBody.safeParse(body)
  return { status, ...(said.success ? said.data : { detail: 'it does not say why' }) }
}

export function deniedBy(what: string): TargetServiceDeniedError {
  const todo = 'give the user of CEPH_API_USER one: ceph dashboard ac-user-set-roles USER block-manager'
  return new TargetServiceDeniedError(`the Dashboard may not ${what} for a user without a role for it; ${todo}`)
}

export function isDashboardCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof DashboardError && error.dashboardCode !== undefined && codes.includes(error.dashboardCode)
}

const longestDetail = 500
const redact = redactor([])

/** It may quote the address of a gateway, which has a password in it. */
function withoutSecrets(detail: string): string {
  return redact(detail.trim()).slice(0, longestDetail).replace(/\.$/, '')
}
