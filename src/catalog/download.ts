/** Files behind http(s) URLs, as bytes. A connection that breaks off is made again, from where it broke off. */
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf } from '../errors.js'

/** How often in a row it may break off without having brought anything. */
const attempts = 5
/** Before the first of these, in milliseconds; it doubles. */
const firstDelayMs = 500

export interface Download {
  /** In bytes; undefined when the server does not say. */
  size: number | undefined
  bytes: AsyncGenerator<Uint8Array, void, undefined>
  /** Ends it, also while bytes are being waited for. */
  stop: () => void
}

/** Whether this is a URL, and not the path of a file. */
export function isUrl(source: string): boolean {
  return /^https?:\/\//i.test(source)
}

/** The URL without what may be secret in it: user, password, and query. */
export function publicUrl(url: string): string {
  if (!URL.canParse(url)) throw new Error('the URL is malformed')
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}

/**
 * Asks for the file. Its bytes are as the server has them, and can be read once.
 *
 * @throws {Error} without anything secret of the URL
 */
export async function download(url: string, signal?: AbortSignal): Promise<Download> {
  const stopped = new AbortController()
  const stop = () => stopped.abort(signal?.reason)
  signal?.throwIfAborted()
  signal?.addEventListener('abort', stop, { once: true })
  const request = new Request(url, stopped.signal)
  const response = await request.send({})
  if (response.status !== 200) throw await request.refused(response)
  const encoding = response.headers.get('content-encoding') ?? 'identity'
  if (encoding !== 'identity') throw await request.refused(response, `sent in the encoding ${encoding}`)
  const length = response.headers.get('content-length')
  const size = length === null ? undefined : Number(length)
  return { size, bytes: request.bytes(response, size), stop }
}

class Request {
  readonly #name: string
  readonly #url: URL
  readonly #headers: Record<string, string> = { 'accept-encoding': 'identity' }
  readonly #signal: AbortSignal

  constructor(url: string, signal: AbortSignal) {
    this.#name = publicUrl(url)
    this.#url = new URL(url)
    this.#signal = signal
    const { username, password } = this.#url
    if (username === '' && password === '') return
    // fetch() takes no URL with a user in it, and would tell the password in its refusal.
    this.#url.username = ''
    this.#url.password = ''
    const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
    this.#headers.authorization = `Basic ${Buffer.from(user).toString('base64')}`
  }

  async send(headers: Record<string, string>): Promise<Response> {
    try {
      return await fetch(this.#url, { headers: { ...this.#headers, ...headers }, signal: this.#signal })
    } catch (error) {
      throw this.#failed(error)
    }
  }

  /** Not as a cause, which may have the URL of a redirection in it. */
  #failed(error: unknown): Error {
    this.#signal.throwIfAborted()
    const { cause = error } = error as { cause?: unknown }
    return new Error(`${this.#name}: ${messageOf(cause)}`)
  }

  async refused({ status, statusText, body }: Response, what = `${status} ${statusText}`.trim()): Promise<Error> {
    await body?.cancel()
    return new Error(`${this.#name}: ${what}`)
  }

  async *bytes(first: Response, size: number | undefined): AsyncGenerator<Uint8Array, void, undefined> {
    const version = versionOf(first)
    let at = 0
    let failures = 0
    for (let response = first; ; ) {
      let failure: Error
      try {
        for await (const chunk of response.body ?? []) {
          at += chunk.length
          failures = 0
          yield chunk
        }
        if (size === undefined || at === size) return
        failure = new Error(`${this.#name}: the connection was closed`)
      } catch (error) {
        failure = this.#failed(error)
      }
      const where = `${at} of ${size ?? 'an unknown number of'} bytes`
      if (version === undefined) throw new Error(`${failure.message}, after ${where}`)
      response = await this.#resume(at, version, () => {
        if (++failures > attempts)
          throw new Error(`${failure.message}, after ${where} and ${attempts} attempts to go on`)
        return delay(firstDelayMs * 2 ** (failures - 1), undefined, { signal: this.#signal })
      })
    }
  }

  /** Asks for the rest, until somebody answers. */
  async #resume(at: number, version: string, pause: () => Promise<unknown>): Promise<Response> {
    for (;;) {
      await pause()
      let response: Response
      try {
        response = await this.send({ range: `bytes=${at}-`, 'if-range': version })
      } catch {
        this.#signal.throwIfAborted()
        continue
      }
      const isRest = response.headers.get('content-range')?.startsWith(`bytes ${at}-`) === true
      if (response.status === 206 && isRest) return response
      const refusal = await this.refused(response, `${response.status} instead of the bytes from ${at} on`)
      if (response.status < 500) throw refusal
    }
  }
}

/** By what the server tells whether the file is still the same; undefined if it cannot, or gives no parts of it. */
function versionOf({ headers }: Response): string | undefined {
  if (headers.get('accept-ranges') === 'none') return undefined
  const tag = headers.get('etag')
  if (tag !== null) return tag.startsWith('W/') ? undefined : tag
  return headers.get('last-modified') ?? undefined
}
