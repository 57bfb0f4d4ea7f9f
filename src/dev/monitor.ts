import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { CommandFailedError } from './errors.js'
import type { Site } from './site.js'

/**
 * Sends commands to the cluster, one JSON line each, and prints [status, output, message] for each. It connects with
 * the first, so that Python starts while the monitor does.
 */
const SESSION = `
import json, sys, rados
limits = {'client_mount_timeout': '30', 'rados_mon_op_timeout': '30', 'rados_osd_op_timeout': '30'}
cluster = None
for line in sys.stdin:
    request = json.loads(line)
    try:
        if cluster is None:
            cluster = rados.Rados(conffile=sys.argv[1], name='client.admin', conf=limits)
            cluster.connect()
        send = cluster.mgr_command if request['to'] == 'mgr' else cluster.mon_command
        status, output, message = send(json.dumps(request['command']), request['input'].encode())
        answer = [status, output.decode(), message]
    except rados.Error as error:
        answer = [-(error.errno or 5), '', str(error)]
    print(json.dumps(answer), flush=True)
`

const NAME = 'monitor-session'

type Answer = [status: number, output: string, message: string]

export interface CommandOptions {
  /** Data that goes with the command. */
  input?: string
  /** Some commands are the manager's; it is waited for. Default: mon. */
  to?: 'mon' | 'mgr'
}

/**
 * A session with the monitor. The `ceph` command would do the same at a third of a second of one core a call, of which
 * a start makes dozens. The addon is not used here: the stack is what the addon is tested with.
 */
export class Monitor implements Disposable {
  readonly #site: Site
  readonly #process: ChildProcess
  readonly #answers: AsyncIterator<string>
  #last: Promise<unknown> = Promise.resolve()

  constructor(site: Site) {
    this.#site = site
    this.#process = site.helper(NAME, '/usr/bin/python3', ['-c', SESSION, site.path('ceph.conf')])
    // Reported by the missing answer.
    this.#process.on('error', () => {})
    this.#process.stdin?.on('error', () => {})
    this.#answers = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  }

  /** Runs a command, and returns what it tells: an object where it has one, else its text. */
  async command(prefix: string, args: object = {}, { input = '', to = 'mon' }: CommandOptions = {}): Promise<unknown> {
    const request = { to, input, command: { prefix, format: 'json', ...args } }
    const [status, output, message] = await this.#send(request)
    if (status < 0) throw new CommandFailedError(prefix, status, message)
    try {
      return JSON.parse(output)
    } catch {
      return output
    }
  }

  [Symbol.dispose](): void {
    this.#process.kill('SIGKILL')
  }

  /** One request at a time: answers come in the order of the requests. */
  #send(request: object): Promise<Answer> {
    const answer = this.#last.then(async () => {
      this.#process.stdin?.write(`${JSON.stringify(request)}\n`)
      const { value, done } = await this.#answers.next()
      if (done) throw this.#site.failure(NAME, 'has ended')
      return JSON.parse(value)
    })
    this.#last = answer.catch(() => {})
    return answer
  }
}
