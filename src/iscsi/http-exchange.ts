/** One request over HTTP, and all of its answer. */
import { once } from 'node:events'
import { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request as overHttp } from 'node:http'
import { request as overHttps } from 'node:https'
import { withTimeLimit } from '../time-limit.js'

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  url: URL
  headers: Record<string, string>
  body?: string | undefined
  /** Whether the certificate of the server has to be one that is trusted. */
  checksCertificate: boolean
  /** From the first packet to the end of the answer. */
  limitMs: number
  /** Ends it, wherever it is. */
  signal: AbortSignal
}

export interface HttpAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** Until there is a connection. */
const connectMs = 5_000

/** Characters. All targets that a group of gateways can have are some hundred thousand. */
const longestBody = 2 ** 24

/**
 * Each on a connection of its own: one that is kept may be closed just as a request goes out on it, and then nobody knows
 * whether that was done. Redirects are not followed, so that what is secret goes where it was meant to go.
 *
 * @throws {Error} what Node's `http` says, among others with the codes of {@link wasNotSent}; or that there was no answer in time
 */
export async function exchange(asked: HttpRequest): Promise<HttpAnswer> {
  const { limitMs, signal } = asked
  return withTimeLimit(limitMs, signal, async limit => {
    try {
      return await exchangeUntil(limit, asked)
    } catch (cause) {
      if (!limit.aborted || signal.aborted) throw cause
      throw new Error(`no answer for ${limitMs / 1000} s`, { cause })
    }
  })
}

async function exchangeUntil(signal: AbortSignal, asked: HttpRequest): Promise<HttpAnswer> {
  const { method, url, headers, body, checksCertificate } = asked
  const send = url.protocol === 'https:' ? overHttps : overHttp
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  const options = { method, headers: { ...headers, ...length }, signal, agent: false as const }
  const request = send(url, { ...options, rejectUnauthorized: checksCertificate })
  // It comes after the answer has begun, too, when nobody waits for it any more: reading the answer fails by itself.
  request.on('error', () => {})
  giveUpUnlessConnected(request, url)
  request.end(body)
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: await textOf(answer) }
}

/** A host that is down does not refuse: nothing comes back from there. */
function giveUpUnlessConnected(request: ClientRequest, { protocol, host }: URL): void {
  const tooLong = new NotConnectedError(`${host} has not answered for ${connectMs / 1000} s`)
  const limit = setTimeout(() => request.destroy(tooLong), connectMs)
  const connected = protocol === 'https:' ? 'secureConnect' : 'connect'
  request.once('socket', socket => socket.once(connected, () => clearTimeout(limit)))
  request.once('close', () => clearTimeout(limit))
}

class NotConnectedError extends Error {}

async function textOf(answer: IncomingMessage): Promise<string> {
  let text = ''
  answer.setEncoding('utf8')
  for await (const chunk of answer) {
    text += chunk
    if (text.length > longestBody) throw new Error(`the answer has more than ${longestBody} characters`)
  }
  return text
}

/** Of connections that have not come about. */
const unreached = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL']

/** Whether a request that failed has not been sent at all, so that it cannot have been done. */
export function wasNotSent(error: unknown): boolean {
  return error instanceof NotConnectedError || unreached.includes(codeOf(error) ?? '') || isUntrusted(error)
}

/** Whether the server has shown a certificate that is not trusted, or none for its name. */
export function isUntrusted(error: unknown): boolean {
  return /^(CERT_|ERR_TLS_CERT_|UNABLE_TO_)|_CERT(_IN_CHAIN)?$/.test(codeOf(error) ?? '')
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}
