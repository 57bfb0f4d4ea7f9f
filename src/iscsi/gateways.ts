/**
 * The gateways' own REST API (rbd-target-api), for the two things that the Dashboard cannot do: to take away a target that was
 * left without portals, and to show a new size to those who are logged in.
 *
 * Where they are, and their passwords, the Dashboard tells those who may ask ceph-mgr for it. They take orders from the addresses
 * in `trusted_ip_list` of their configuration.
 */

import { z } from 'zod'
import { type Cluster, PermissionError } from '../../lib/index.js'
import { messageOf } from '../errors.js'
import { TargetRefusedError, TargetServiceDeniedError, TargetServiceSilentError } from './errors.js'
import { exchange, type HttpAnswer, isUntrusted } from './http-exchange.js'

interface GatewaysOptions {
  cluster: Cluster
  checksCertificate: boolean
  /** Ends all that is asked, and not yet answered. */
  signal: AbortSignal
}

/** One gateway asks the others, and has 30 seconds for what needs the cluster. */
const answerMs = 60_000

const listPrefix = 'dashboard iscsi-gateway-list'
const listSchema = z.object({ gateways: z.record(z.string(), z.object({ service_url: z.string() })) })

interface Service {
  origin: string
  authorization: string
}

interface Order {
  method: 'PUT' | 'DELETE'
  /** Below `/api`. */
  path: readonly string[]
  form?: Record<string, string>
}

const errorBody = z.object({ message: z.string() })

export class Gateways {
  readonly #options: GatewaysOptions

  constructor(options: GatewaysOptions) {
    this.#options = options
  }

  /**
   * Takes away a target that has no portals any more, or none yet.
   *
   * @param owner - The gateway of its first portal, which the Dashboard has make it: no other takes it out of that one's kernel,
   * and what is left there is in the way of the next target of that name.
   */
  async removeTarget(iqn: string, owner: string | undefined): Promise<void> {
    const names = [...(await this.#services()).keys()]
    const name = names.find(each => each === owner) ?? names[0]
    if (name === undefined) throw new TargetRefusedError(`the Dashboard knows no gateway that could remove ${iqn}`)
    await this.#ask(name, `remove the target ${iqn}`, { method: 'DELETE', path: ['target', iqn] })
  }

  /**
   * Shows the size that an image has by now to initiators, who stay logged in. The larger of the two: a gateway does not
   * take from a disk in use what it has shown.
   *
   * That is how gateways tell each other of it. What they have for everybody else would grow the image by itself.
   */
  async showSize(gateways: readonly string[], pool: string, image: string, sizeBytes: number): Promise<void> {
    const [owner] = gateways
    if (owner === undefined) return
    const form = { mode: 'resize', pool, image, size: String(sizeBytes), owner }
    const order = { method: 'PUT', path: ['_disk', pool, image], form } as const
    for (const name of gateways) await this.#ask(name, `resize ${pool}/${image}`, order)
  }

  async #ask(gateway: string, what: string, order: Order): Promise<void> {
    const service = (await this.#services()).get(gateway)
    if (service === undefined)
      throw new TargetRefusedError(`the Dashboard knows no gateway ${gateway}, which is to ${what}`)
    const answer = await this.#send(gateway, what, service, order)
    if (answer.status >= 300) throw refusal(gateway, what, answer)
  }

  async #send(
    gateway: string,
    what: string,
    service: Service,
    { method, path, form = {} }: Order,
  ): Promise<HttpAnswer> {
    const { checksCertificate, signal } = this.#options
    const url = new URL(['/api', ...path.map(encodeURIComponent)].join('/'), service.origin)
    const headers = { authorization: service.authorization, 'content-type': 'application/x-www-form-urlencoded' }
    const body = new URLSearchParams(form).toString()
    try {
      return await exchange({ method, url, headers, body, checksCertificate, limitMs: answerMs, signal })
    } catch (cause) {
      const message = `whether the gateway ${gateway} did ${what} is not known: ${messageOf(cause)}`
      throw isUntrusted(cause)
        ? new TargetServiceDeniedError(message, { cause })
        : new TargetServiceSilentError(message, { cause })
    }
  }

  /** By their names. */
  async #services(): Promise<Map<string, Service>> {
    const { cluster, signal } = this.#options
    try {
      const { gateways } = listSchema.parse(await cluster.mgrCommand({ prefix: listPrefix }, { signal }))
      return new Map(Object.entries(gateways).map(([name, { service_url }]) => [name, serviceOf(service_url)]))
    } catch (error) {
      if (!(error instanceof PermissionError)) throw error
      const user = `client.${cluster.user}`
      const todo = `let it: ceph auth caps ${user} … mgr 'profile rbd, allow command "${listPrefix}"'`
      throw new TargetServiceDeniedError(`${user} may not ask where the gateways are; ${todo}`, { cause: error })
    }
  }
}

/** As the Dashboard reads it: what stands before the last `@` is the user and the password, and none of it is escaped. */
function serviceOf(text: string): Service {
  const [, credentials = ''] = /^[^:]+:\/\/([^/?#]*)@/.exec(text) ?? []
  return { origin: new URL(text).origin, authorization: `Basic ${Buffer.from(credentials).toString('base64')}` }
}

function refusal(gateway: string, what: string, { status, body }: HttpAnswer): Error {
  const says = messageIn(body) ?? `HTTP ${status}`
  const message = `the gateway ${gateway} did not ${what}: ${says}`
  if (status === 403) {
    const todo = "add this host's address to trusted_ip_list in its iscsi-gateway.cfg"
    return new TargetServiceDeniedError(`${message}; ${todo}`)
  }
  if (status === 401) {
    const todo = 'tell the Dashboard its password: ceph dashboard iscsi-gateway-add'
    return new TargetServiceDeniedError(`${message}; ${todo}`)
  }
  return new TargetRefusedError(message, { retryable: status >= 500 })
}

function messageIn(body: string): string | undefined {
  try {
    return errorBody.safeParse(JSON.parse(body)).data?.message
  } catch {
    return undefined
  }
}
