/**
 * A fake of the Ceph Dashboard, for what the real one cannot be made to do: answers that break off, tasks without an end, and
 * targets where there is no gateway. What it says is what the real one said of a real gateway.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'

export interface RecordedRequest {
  method: string
  path: string
  query: Record<string, string>
  accept: string | undefined
  body: unknown
}

interface FakeTarget {
  target_iqn: string
  portals: { host: string; ip: string }[]
  disks: { pool: string; image: string; controls: object; backstore: string; wwn: string; lun: number }[]
  clients: { client_iqn: string; luns: object[]; auth: object; info?: object }[]
  [key: string]: unknown
}

interface Answer {
  status: number
  body?: unknown
}

/** Instead of an answer; or beside it, as `after`. */
export type Fault = 'cut' | 'silence' | 'half' | Answer

const prefix = '/api/iscsi/target'

export class FakeDashboard {
  readonly requests: RecordedRequest[] = []
  readonly targets = new Map<string, FakeTarget>()
  /** By target: how many are logged in. */
  readonly sessions = new Map<string, number>()
  /** Calls that answer 202 are done only when this says so. */
  tasksEnd = true
  /** Whether calls that change something answer 202. */
  isSlow = false
  /** What the Dashboard's own pages are told, by their names. */
  readonly pages = new Map<string, unknown>()
  /** How many logins there were. */
  logins = 0
  readonly #faults: { method: string; path: RegExp; fault: Fault; isDone: boolean }[] = []
  readonly #tasks: { name: string; metadata: object; failure: Answer | undefined }[] = []
  readonly #server = createServer((request, response) => void this.#serve(request, response))

  static async start(t: Test): Promise<FakeDashboard> {
    const fake = new FakeDashboard()
    await new Promise<void>(resolve => fake.#server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      fake.#server.closeAllConnections()
      fake.#server.close()
    })
    return fake
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Once, at the next such request. @param isDone - What is asked for is done before. */
  failOnce(method: string, path: RegExp, fault: Fault, isDone = false): void {
    this.#faults.push({ method, path, fault, isDone })
  }

  /** What was asked for, and not done, is done: as where a gateway comes to it late. */
  doLate(): void {
    const create = this.requests.findLast(({ method, path }) => method === 'POST' && path === prefix)
    const target = create?.body as FakeTarget
    this.targets.set(target.target_iqn, target)
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', this.url)
    const body = await text(incoming)
    const request = {
      method: incoming.method ?? '',
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      accept: incoming.headers.accept,
      body: body === '' ? undefined : JSON.parse(body),
    }
    this.requests.push(request)
    const index = this.#faults.findIndex(({ method, path }) => method === request.method && path.test(request.path))
    const [planned] = index < 0 ? [] : this.#faults.splice(index, 1)
    const answer = planned === undefined || planned.isDone ? this.#answer(request) : { status: 200 }
    give(response, planned?.fault ?? answer)
  }

  #answer(request: RecordedRequest): Answer {
    const { method, path } = request
    if (path === '/api/auth') {
      this.logins++
      return { status: 201, body: { token: `token-${this.logins}` } }
    }
    const page = this.pages.get(path.replace('/ui-api/iscsi/', ''))
    if (page !== undefined) return { status: 200, body: page }
    if (path === '/api/task') return { status: 200, body: this.#listTasks() }
    if (method === 'GET' && path === prefix)
      return { status: 200, body: [...this.targets.keys()].map(iqn => this.#show(iqn)) }
    const iqn =
      path === prefix ? (request.body as FakeTarget).target_iqn : decodeURIComponent(path.slice(prefix.length + 1))
    if (method === 'GET') return this.targets.has(iqn) ? { status: 200, body: this.#show(iqn) } : { status: 404 }
    return this.#change(iqn, request)
  }

  #change(iqn: string, { method, body }: RecordedRequest): Answer {
    const [name = '', work] = {
      POST: ['create', () => this.#create(iqn, body as FakeTarget)] as const,
      PUT: ['edit', () => this.#edit(iqn, body as FakeTarget)] as const,
      DELETE: ['delete', () => this.#remove(iqn)] as const,
    }[method] ?? ['', () => ({ status: 405 })]
    const answer = work()
    if (!this.isSlow) return answer
    const task = { name: `iscsi/target/${name}`, metadata: { target_iqn: iqn } }
    this.#tasks.unshift({ ...task, failure: answer.status < 300 ? undefined : answer })
    return { status: 202, body: task }
  }

  #listTasks() {
    const tasks = this.#tasks.map(({ name, metadata }) => ({ name, metadata, begin_time: '', progress: 0 }))
    if (!this.tasksEnd) return { executing_tasks: tasks, finished_tasks: [] }
    const finished = this.#tasks.map(({ failure }, index) => ({
      ...tasks[index],
      success: failure === undefined,
      exception: failure === undefined ? null : { ...(failure.body as object), status: failure.status },
    }))
    return { executing_tasks: [], finished_tasks: finished }
  }

  #create(iqn: string, body: FakeTarget): Answer {
    if (this.targets.has(iqn)) return refusal('target_already_exists', 'Target already exists')
    this.targets.set(iqn, body)
    return { status: 201 }
  }

  #edit(iqn: string, { new_target_iqn: _, ...body }: FakeTarget): Answer {
    if (!this.targets.has(iqn)) return refusal('target_does_not_exist', 'Target does not exist')
    this.targets.set(iqn, { ...body, target_iqn: iqn } as FakeTarget)
    return { status: 200 }
  }

  #remove(iqn: string): Answer {
    const target = this.targets.get(iqn)
    if (target === undefined) return refusal('target_does_not_exist', 'Target does not exist')
    if ((this.sessions.get(iqn) ?? 0) > 0) return refusal('target_has_active_sessions', 'Target has active sessions')
    if (target.portals.length === 0) {
      return refusal('cannot_delete_target_without_portals', "Cannot delete a target that doesn't contain any portal")
    }
    this.targets.delete(iqn)
    return { status: 204 }
  }

  #show(iqn: string): object {
    const target = this.targets.get(iqn)
    const info = target?.portals.length === 0 ? {} : { info: { num_sessions: this.sessions.get(iqn) ?? 0 } }
    return { ...target, ...info }
  }
}

export function refusal(code: string | undefined, detail: string): Answer {
  return { status: 400, body: { detail, component: 'iscsi', ...(code && { code }) } }
}

function give(response: ServerResponse, answer: Fault): void {
  if (answer === 'silence') return
  if (answer === 'cut') return void response.socket?.destroy()
  if (answer === 'half') {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
    response.write('[{"target_iqn":', () => response.socket?.destroy())
    return
  }
  const { status, body } = answer
  const says = body === undefined ? undefined : JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/vnd.ceph.api.v1.0+json' }).end(says)
}
