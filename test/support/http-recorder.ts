/** A way to a server over HTTP that keeps what went through it. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { RecordedRequest } from './fake-dashboard.js'

export class HttpRecorder {
  readonly exchanges: (RecordedRequest & { status: number })[] = []
  readonly #target: string
  readonly #server = createServer((incoming, response) => void this.#relay(incoming, response))

  private constructor(target: string) {
    this.#target = target
  }

  /** @param target - The URL of the server. */
  static async open(t: Test, target: string): Promise<HttpRecorder> {
    const recorder = new HttpRecorder(target)
    await new Promise<void>(resolve => recorder.#server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      recorder.#server.closeAllConnections()
      recorder.#server.close()
    })
    return recorder
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Those of a resource, as `POST 201`. */
  to(path: string): string[] {
    return this.exchanges.filter(each => each.path === path).map(({ method, status }) => `${method} ${status}`)
  }

  async #relay(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', headers } = incoming
    const url = new URL(incoming.url ?? '/', this.#target)
    const body = await text(incoming)
    const onward = request(url, { method, headers: { ...headers, host: url.host } }, answer => {
      this.exchanges.push({
        method,
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        accept: headers.accept,
        body: body === '' ? undefined : JSON.parse(body),
        status: answer.statusCode ?? 0,
      })
      response.writeHead(answer.statusCode ?? 0, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    onward.end(body)
  }
}
