/**
 * The REST API of the Ceph Dashboard: who asks is logged in, in the version that the Dashboard has, at the ceph-mgr that is
 * active, and hears of the end of what takes longer than one request.
 *
 * The addresses are those of the settings, one for each ceph-mgr. One that is on standby redirects to the active one, and
 * says so unchecked, so that is not followed: passwords and tokens go to no address that an operator has not named.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { DashboardSettings } from '../config.js'
import { messageOf } from '../errors.js'
import { DashboardError, deniedBy, refusalOf } from './dashboard-errors.js'
import { TargetRefusedError, TargetServiceDeniedError, TargetServiceSilentError } from './errors.js'
import { exchange, type HttpAnswer, type HttpRequest, isUntrusted, wasNotSent } from './http-exchange.js'

export interface DashboardCall {
  /** For people, as in `create the target iqn…`. */
  what: string
  method: HttpRequest['method']
  /** Such as `/api/iscsi/target`: all calls of one resource are of one version. */
  resource: string
  /** Which one of the resource. */
  item?: string
  query?: Record<string, string>
  body?: unknown
}

/** How long the Dashboard may take: it asks the gateways in turn, and waits 45 seconds for one that does not answer. */
const answerMs = 60_000
/** And for what it goes on with after its answer. */
const taskMs = 180_000
const taskPollMs = 300

/** After a login that was refused: eight times as long after each. Ten of them lock the account. */
const firstLoginDelayMs = 60_000
const loginDelayFactor = 8

const loggedIn = z.object({ token: z.string() })

const taskSchema = z.object({ name: z.string(), metadata: z.unknown() })
const executingTask = taskSchema
const finishedTask = taskSchema.extend({
  success: z.boolean(),
  exception: z.object({ status: z.int().optional() }).loose().nullish(),
})
const tasksSchema = z.object({ executing_tasks: z.array(executingTask), finished_tasks: z.array(finishedTask) })

type Task = z.output<typeof taskSchema>

export class Dashboard {
  readonly #settings: DashboardSettings
  readonly #signal: AbortSignal
  /** Where the active ceph-mgr was last, by its place in the addresses. */
  #active = 0
  readonly #versions = new Map<string, string>()
  #login: Promise<string> | undefined
  #token: string | undefined
  #refused: { count: number; until: number; error: Error } | undefined

  /** @param signal - Ends all that is asked, and not yet answered. */
  constructor(settings: DashboardSettings, signal: AbortSignal) {
    this.#settings = settings
    this.#signal = signal
  }

  /**
   * Asks, and resolves with what the answer has, when all is done that was asked for.
   *
   * @throws {DashboardError} it was refused, or has failed
   * @throws {TargetServiceSilentError} no answer, or none in time: it may be done all the same
   * @throws {TargetServiceDeniedError} the user is not known or may not, or the certificate is not trusted
   */
  async ask(call: DashboardCall): Promise<unknown> {
    const answer = await this.#askAuthorized(call)
    if (answer.status !== 202) return bodyOf(call, answer)
    await this.#untilOver(call, parse(taskSchema, call, bodyOf(call, answer)))
    return undefined
  }

  /** Waits until nothing goes on that was begun on that target, by whomever. */
  async untilIdle(iqn: string): Promise<void> {
    const isOfTarget = ({ metadata }: Task) => isDeepStrictEqual(metadata, { target_iqn: iqn })
    const call = tasksCall(`tell what goes on at the target ${iqn}`, 'iscsi/target/*')
    await this.#poll(call, ({ executing_tasks }) => (executing_tasks.some(isOfTarget) ? undefined : true))
  }

  async #untilOver(call: DashboardCall, task: Task): Promise<void> {
    const isIt = ({ name, metadata }: Task) => name === task.name && isDeepStrictEqual(metadata, task.metadata)
    await this.#poll(tasksCall(call.what, task.name), ({ executing_tasks, finished_tasks }) => {
      if (executing_tasks.some(isIt)) return undefined
      // The latest is first.
      const finished = finished_tasks.find(isIt)
      if (finished?.success) return true
      if (finished === undefined) {
        // Only the ceph-mgr that has begun it knows it.
        throw new TargetServiceSilentError(`the Dashboard does not know any more whether it did ${call.what}`)
      }
      throw new DashboardError(call.what, refusalOf(finished.exception?.status ?? 400, finished.exception))
    })
  }

  async #poll(call: DashboardCall, look: (tasks: z.output<typeof tasksSchema>) => true | undefined): Promise<void> {
    const giveUpAt = Date.now() + taskMs
    while (look(parse(tasksSchema, call, bodyOf(call, await this.#askAuthorized(call)))) === undefined) {
      if (Date.now() > giveUpAt) {
        throw new TargetServiceSilentError(`the Dashboard is not done after ${taskMs / 1000} s: ${call.what}`)
      }
      await this.#pause(call)
    }
  }

  async #pause({ what }: DashboardCall): Promise<void> {
    try {
      await delay(taskPollMs, undefined, { signal: this.#signal })
    } catch (cause) {
      throw new TargetServiceSilentError(`the Dashboard is not waited for any more: ${what}`, { cause })
    }
  }

  /** A token that is not valid any more is replaced, once. */
  async #askAuthorized(call: DashboardCall): Promise<HttpAnswer> {
    const token = await this.#logIn()
    const answer = await this.#askInItsVersion(call, token)
    if (answer.status !== 401) return answer
    this.#forget(token)
    const second = await this.#askInItsVersion(call, await this.#logIn())
    if (second.status !== 401) return second
    throw new TargetServiceDeniedError(`the Dashboard refuses the token that it has just given ${this.#settings.user}`)
  }

  /** Others may have replaced it by now, or be about to. */
  #forget(token: string): void {
    if (this.#token !== token) return
    this.#token = undefined
    this.#login = undefined
  }

  /** Those who ask at the same time log in once. */
  #logIn(): Promise<string> {
    this.#login ??= this.#newToken().catch(error => {
      this.#login = undefined
      throw error
    })
    return this.#login
  }

  async #newToken(): Promise<string> {
    if (this.#refused !== undefined && Date.now() < this.#refused.until) throw this.#refused.error
    const { user, password } = this.#settings
    const body = { username: user, password }
    const call = { what: `log ${user} in`, method: 'POST', resource: '/api/auth', body } as const
    const answer = await this.#askInItsVersion(call, undefined)
    if (answer.status === 400 || answer.status === 401) throw this.#refusedLogin(call, answer)
    const { token } = parse(loggedIn, call, bodyOf(call, answer))
    this.#refused = undefined
    this.#token = token
    return token
  }

  #refusedLogin(call: DashboardCall, answer: HttpAnswer): Error {
    const { detail } = refusalOf(answer.status, jsonOf(answer.body))
    const count = (this.#refused?.count ?? 0) + 1
    const todo =
      'see CEPH_API_USER and CEPH_API_PASSWORD; it locks an account after some attempts, so the next is not at once'
    const error = new TargetServiceDeniedError(`the Dashboard did not ${call.what}: ${detail}; ${todo}`)
    this.#refused = { count, until: Date.now() + firstLoginDelayMs * loginDelayFactor ** (count - 1), error }
    return error
  }

  /** Where the Dashboard wants another version, it names it, and that is kept to. */
  async #askInItsVersion(call: DashboardCall, token: string | undefined): Promise<HttpAnswer> {
    const key = `${call.method} ${call.resource}`
    const answer = await this.#askActive(call, this.#versions.get(key) ?? this.#settings.accept, token)
    if (answer.status !== 415) return answer
    const [, version] = /endpoint is '(\d+\.\d+)'/.exec(refusalOf(415, jsonOf(answer.body)).detail) ?? []
    if (version === undefined) return answer
    const accept = `application/vnd.ceph.api.v${version}+json`
    this.#versions.set(key, accept)
    return this.#askActive(call, accept, token)
  }

  /** Asks one ceph-mgr after the other, until one has taken it. What was sent to an active one is not sent again. */
  async #askActive(call: DashboardCall, accept: string, token: string | undefined): Promise<HttpAnswer> {
    const { urls } = this.#settings
    const reasons: string[] = []
    for (const offset of urls.keys()) {
      const index = (this.#active + offset) % urls.length
      const url = urls[index]
      if (url === undefined) break
      const taken = await this.#send(url, call, accept, token)
      if (typeof taken === 'string') reasons.push(taken)
      else {
        this.#active = index
        return taken
      }
    }
    throw new TargetServiceSilentError(`the Dashboard did not ${call.what}: ${reasons.join('; ')}`)
  }

  /** Gives the answer; or, if this one certainly has not done it, why not. */
  async #send(base: string, call: DashboardCall, accept: string, token: string | undefined) {
    const { method, body } = call
    const headers = {
      accept,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    }
    const text = body === undefined ? undefined : JSON.stringify(body)
    const { checksCertificate } = this.#settings
    try {
      const answer = await exchange({
        method,
        url: urlOf(base, call),
        headers,
        body: text,
        checksCertificate,
        limitMs: answerMs,
        signal: this.#signal,
      })
      return standbyAt(base, answer) ?? answer
    } catch (error) {
      if (isUntrusted(error)) throw untrusted(base, error)
      if (wasNotSent(error)) return `${base} cannot be reached: ${messageOf(error)}`
      throw this.#silent(base, call, error)
    }
  }

  #silent(base: string, { what }: DashboardCall, cause: unknown): TargetServiceSilentError {
    const why = this.#signal.aborted ? 'it is not waited for any more' : messageOf(cause)
    return new TargetServiceSilentError(`whether the Dashboard at ${base} did ${what} is not known: ${why}`, { cause })
  }
}

function tasksCall(what: string, name: string): DashboardCall {
  return { what, method: 'GET', resource: '/api/task', query: { name } }
}

function urlOf(base: string, { resource, item, query = {} }: DashboardCall): URL {
  const path = item === undefined ? resource : `${resource}/${encodeURIComponent(item)}`
  const url = new URL(`${base.replace(/\/$/, '')}${path}`)
  url.search = new URLSearchParams(query).toString()
  return url
}

/** Undefined: it is active. */
function standbyAt(base: string, { status, headers, body }: HttpAnswer): string | undefined {
  const { location } = headers
  if (status >= 300 && status < 400) {
    return `${base} is on standby for ${location ?? 'another'}: CEPH_API_URL has to name the active one, too`
  }
  // What one says that is configured to give an error, and one that knows of no other.
  const standsBy = (status >= 400 && body.includes('Keep on looking')) || (status === 200 && isPage(headers))
  return standsBy ? `${base} is on standby` : undefined
}

function isPage(headers: HttpAnswer['headers']): boolean {
  return headers['content-type']?.startsWith('text/html') ?? false
}

function untrusted(base: string, cause: unknown): TargetServiceDeniedError {
  const todo = 'name its authority in NODE_EXTRA_CA_CERTS, or set CEPH_INSECURE_TLS=1 if the network is to be trusted'
  return new TargetServiceDeniedError(`the certificate of ${base} is not trusted: ${messageOf(cause)}; ${todo}`, {
    cause,
  })
}

function bodyOf(call: DashboardCall, { status, body }: HttpAnswer): unknown {
  if (status === 403) throw deniedBy(call.what)
  if (status >= 400) throw new DashboardError(call.what, refusalOf(status, jsonOf(body)))
  return jsonOf(body)
}

/** Undefined: it is none. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** @throws {TargetRefusedError} it is no such thing */
export function parse<T>(schema: z.ZodType<T>, { what }: Pick<DashboardCall, 'what'>, body: unknown): T {
  const { success, data, error } = schema.safeParse(body)
  if (success) return data
  const problems = error.issues.slice(0, 3).map(({ path, message }) => `${path.join('.')}: ${message}`)
  throw new TargetRefusedError(`asked to ${what}, the Dashboard answered what it should not: ${problems.join('; ')}`)
}
