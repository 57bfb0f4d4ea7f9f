/** A web server with one file, which does what servers and networks do. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

export interface FileServerOptions {
  content: Buffer
  /** By which one tells whether the file is the same. Default: a strong one. */
  etag?: string | undefined
  /** For each answer, after how many bytes of it the connection breaks off. Default: it does not. */
  breaks?: number[]
  /** Whether the size is told in advance. Default: true. */
  sized?: boolean
  /** What is asked for user and password, as `user:password`. */
  login?: string
  /** Bytes a second at most. */
  rate?: number
  /** Answers instead of the server, if it gives true. */
  instead?: (request: IncomingMessage, response: ServerResponse) => boolean
}

const stepMs = 50

export class FileServer {
  readonly requests: IncomingMessage[] = []
  readonly #options: FileServerOptions
  #port = 0

  private constructor(options: FileServerOptions) {
    this.#options = options
  }

  static async start(t: Test, options: FileServerOptions): Promise<FileServer> {
    const served = new FileServer({ etag: '"one"', ...options })
    const server = createServer((request, response) => void served.#answer(request, response))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    served.#port = (server.address() as AddressInfo).port
    t.teardown(() => {
      server.close()
      server.closeAllConnections()
    })
    return served
  }

  /** With a user and a password, and a query, if they are given. */
  url(path = '/golden.img', login = ''): string {
    return `http://${login && `${login}@`}127.0.0.1:${this.#port}${path}`
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push(request)
    const { content, etag, breaks = [], sized = true, login, rate = Number.POSITIVE_INFINITY, instead } = this.#options
    if (instead?.(request, response)) return
    if (login !== undefined && request.headers.authorization !== `Basic ${Buffer.from(login).toString('base64')}`) {
      response.writeHead(401).end()
      return
    }
    const from = etag !== undefined && request.headers['if-range'] === etag ? startOf(request) : 0
    const rest = content.subarray(from)
    response.writeHead(from > 0 ? 206 : 200, {
      ...(etag !== undefined && { etag }),
      ...(sized && { 'content-length': rest.length }),
      ...(from > 0 && { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }),
    })
    const breakAfter = breaks[this.requests.length - 1]
    const sent = rest.subarray(0, breakAfter)
    const step = Math.min((rate * stepMs) / 1000, 2 ** 20)
    for (let at = 0; at < sent.length && !response.destroyed; at += step) {
      if (!response.write(sent.subarray(at, at + step))) await drainedOrClosed(response)
      if (rate < Number.POSITIVE_INFINITY) await new Promise(resolve => setTimeout(resolve, stepMs))
    }
    if (breakAfter === undefined) response.end()
    // After what has been written has gone out.
    else setTimeout(() => response.destroy(), stepMs)
  }
}

/** Leaves no listener of the other event behind. */
async function drainedOrClosed(response: ServerResponse): Promise<void> {
  const over = new AbortController()
  const events = ['drain', 'close'].map(event => once(response, event, { signal: over.signal }))
  await Promise.race(events)
  over.abort()
}

function startOf(request: IncomingMessage): number {
  return Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
}
