/** A fake of a gateway's own API, which keeps what it is told. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'

const user = 'gateway-user'
export const gatewayPassword = 'p@ss%of:gateway'

export class FakeGateway {
  /** Such as `PUT /api/_disk/rbd/disk mode=resize`. */
  readonly told: string[] = []
  /** How often, by somebody without the password. */
  refused = 0
  /** What it does when it is told something; gives the status, and a message. */
  does: (request: string) => [status: number, message: string] = () => [200, 'done']
  readonly #password: string
  #port = 0

  private constructor(password: string) {
    this.#password = password
  }

  static async start(t: Test, password = gatewayPassword): Promise<FakeGateway> {
    const gateway = new FakeGateway(password)
    const expected = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
    const server = createServer(async (incoming, response) => {
      const body = await text(incoming)
      const request = `${incoming.method} ${incoming.url}${body === '' ? '' : ` ${body}`}`
      const isKnown = incoming.headers.authorization === expected
      if (!isKnown) gateway.refused++
      gateway.told.push(request)
      const [status, message] = isKnown ? gateway.does(request) : [401, 'username/password mismatch']
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ message }))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    gateway.#port = (server.address() as AddressInfo).port
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    return gateway
  }

  /** As the Dashboard is told it, and keeps it: nothing of it is escaped. */
  get serviceUrl(): string {
    return `http://${user}:${this.#password}@127.0.0.1:${this.#port}`
  }
}
