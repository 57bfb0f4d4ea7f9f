/** A way to the broker that a test can cut. */
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

export class BrokerProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #target: URL
  #refusing = false
  /** How much of what the broker says each connection lets through before it is cut. */
  #limitBytes = Number.POSITIVE_INFINITY
  /** What the broker has said on the connection that was made last. */
  receivedBytes = 0

  private constructor(target: URL) {
    this.#target = target
    this.#server = createServer(socket => this.#accept(socket))
  }

  /** @param url - What it leads to. */
  static async open(t: Test, url: string): Promise<BrokerProxy> {
    const proxy = new BrokerProxy(new URL(url))
    await new Promise<void>(resolve => proxy.#server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => proxy.close())
    return proxy
  }

  /** The same as the target's, by way of the proxy. */
  get url(): string {
    const address = this.#server.address()
    const url = new URL(this.#target)
    url.host = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
    return url.href
  }

  /** Ends all connections, as when a cable is pulled: no goodbye. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** From now on, ends each connection as soon as it comes. */
  refuse(): void {
    this.#refusing = true
    this.cut()
  }

  /** From now on, cuts each connection after so many bytes from the broker. */
  cutAfter(bytes: number): void {
    this.#limitBytes = bytes
    this.cut()
  }

  /** Lets connections through again. */
  allow(): void {
    this.#refusing = false
    this.#limitBytes = Number.POSITIVE_INFINITY
  }

  close(): void {
    this.cut()
    this.#server.close()
  }

  #accept(inner: Socket): void {
    if (this.#refusing) return void inner.destroy()
    const outer = connect(Number(this.#target.port), this.#target.hostname)
    this.#join(inner, outer)
    this.#join(outer, inner)
    this.receivedBytes = 0
    outer.on('data', chunk => {
      this.receivedBytes += chunk.length
      if (this.receivedBytes > this.#limitBytes) inner.destroy()
    })
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.pipe(to)
    from.on('error', () => {}) // 'close' comes next
    from.on('close', () => {
      this.#sockets.delete(from)
      to.destroy()
    })
  }
}
