/** What the agent tells over HTTP: whether it lives, whether it can work, and its metrics. It takes nothing. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import type { Config } from '../config.js'
import { type Logger, redactorOf } from '../log.js'
import type { AgentMetrics } from '../metrics/agent.js'
import type { MountHealth } from '../mount/health.js'
import { version } from '../version.js'
import type { Health } from './health.js'

interface Told {
  config: Config
  health: Health
  metrics: AgentMetrics
  /** Undefined: no mount is configured. */
  mount: MountHealth | undefined
  log: Logger
}

export class HttpServer {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  /** @throws {Error} in one line, if it cannot have that address */
  static async listen(told: Told): Promise<HttpServer> {
    const { host, port } = told.config.http
    // A program that the agent is part of keeps its own Request and Response.
    const server = createServer(getRequestListener(routes(told).fetch, { overrideGlobalObjects: false }))
    try {
      server.listen(port, host)
      await once(server, 'listening')
    } catch (error) {
      throw new Error(explain(error as NodeJS.ErrnoException, host, port), { cause: error })
    }
    server.on('error', error => told.log.error({ err: error }, 'health and metrics over HTTP'))
    return new HttpServer(server)
  }

  get url(): string {
    const { address, family, port } = this.#server.address() as AddressInfo
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
  }

  /** What is being answered is cut off: whoever asks will ask again. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

function routes({ config, health, metrics, mount, log }: Told): Hono {
  const app = new Hono()
  const redact = redactorOf(config)
  const answer = (context: Context, ok: boolean, told: object) =>
    // Reasons are what others have said.
    context.body(redact(JSON.stringify(told)), ok ? 200 : 503, { 'content-type': 'application/json' })
  app.get('/healthz', context => context.json({ ok: true, agentId: config.agentId, version }))
  app.get('/readyz', context => {
    const { ready, stopping } = health
    const parts = Object.fromEntries(Object.entries(health.parts).map(([name, { state }]) => [name, state]))
    return answer(context, ready, { ready, stopping, ...parts })
  })
  if (mount) app.get('/mountz', context => answer(context, mount.ok, mount.report))
  app.get('/metrics', async context => context.body(await metrics.text(), 200, { 'content-type': metrics.contentType }))
  app.notFound(context =>
    context.text('There are /healthz, /readyz and /metrics, and /mountz where MOUNT_PATH is set.\n', 404),
  )
  app.onError((error, context) => {
    log.error({ err: error, path: context.req.path }, 'not answered over HTTP')
    return context.text('an error of the agent, which its log has\n', 500)
  })
  return app
}

function explain({ code, message }: NodeJS.ErrnoException, host: string, port: number): string {
  if (code === 'EADDRINUSE')
    return `HTTP_PORT ${port} on ${host} is in use by another program: set another, or end that one`
  if (code === 'EACCES') return `HTTP_PORT ${port} is not for this user: set one above 1023`
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return `HTTP_HOST ${host} is no address of this host`
  return `cannot listen on ${host} port ${port}: ${message}`
}
