/** A virtual machine that a test runs commands in, by the agent of QEMU: no network is needed, and no password. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { type GuestImage, INIT } from './image.js'

/** What a script may take. Emulated on a busy processor, each of them takes far less. */
const RUN_MS = 300_000

/** Longer: one has to wait while another script runs. In that time a guest boots, too. */
const SILENCE_MS = 2 * RUN_MS

/** The network that QEMU itself provides, and its own address in it, by which the guest reaches all others. */
export const ROUTER = '10.0.2.2'

export class Guest {
  readonly name: string
  readonly address: string
  readonly #folder: string

  /** @param folder - Where its sockets and logs are. */
  constructor(folder: string, name: string, address: string) {
    this.#folder = folder
    this.name = name
    this.address = address
  }

  /**
   * Starts the machine, which lives no longer than this process's namespace. Connections to the ports at its address, which
   * the namespace has to have as one of its own, go to the guest's same ports.
   */
  async boot({ disk, kernel, initrd }: GuestImage, ports: number[]): Promise<void> {
    const forwards = ports.map(port => `,hostfwd=tcp:${this.address}:${port}-${this.address}:${port}`)
    const log = this.#path('log')
    const output = openSync(log, 'a')
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...['-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=256', '-cpu', 'max', '-smp', '2', '-m', '1024'],
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
        ...['-kernel', kernel, '-initrd', initrd],
        ...['-append', `root=/dev/vda rootfstype=ext4 rw init=${INIT} console=ttyS0 quiet panic=-1 net.ifnames=0`],
        ...['-serial', `file:${this.#path('console')}`],
        // What the guest writes goes to a file without a name.
        ...['-drive', `file=${disk},format=raw,if=virtio,snapshot=on,cache=unsafe`],
        ...['-netdev', `user,id=net,ipv6=off${forwards.join('')}`, '-device', 'virtio-net-pci,netdev=net'],
        ...['-chardev', `socket,id=agent,path=${this.#path('agent')},server=on,wait=off`],
        ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent'],
      ],
      { stdio: ['ignore', output, output] },
    )
    child.unref()
    const ended = once(child, 'exit').then(([status, signal]) => {
      throw new Error(`${this.name} ended (${signal ?? status}): ${readFileSync(log, 'utf8')}`)
    })
    await Promise.race([ended, this.#prepare()])
    // From now on whoever runs a command is told.
    ended.catch(() => {})
  }

  /** Runs a script of the shell; gives what it prints. Rejects with what it says where it fails, or is not done in time. */
  async run(script: string, { input = '', limitMs = RUN_MS } = {}): Promise<string> {
    const agent = await Agent.connect(this.#path('agent'))
    try {
      const args = { path: '/bin/sh', arg: ['-ec', script], 'input-data': toBase64(input), 'capture-output': true }
      const { pid } = await agent.ask<{ pid: number }>('guest-exec', args)
      for (const giveUpAt = Date.now() + limitMs; ; await sleep(50)) {
        const status = await agent.ask<ExecStatus>('guest-exec-status', { pid })
        if (status.exited) return outputOf(script, status)
        if (Date.now() > giveUpAt) return await this.#giveUp(agent, pid, `${script}: not done in ${limitMs / 1000} s`)
      }
    } finally {
      agent.close()
    }
  }

  /** What the script has started, and has not ended with it, goes on. */
  async #giveUp(agent: Agent, pid: number, why: string): Promise<never> {
    await agent.ask('guest-exec', { path: '/bin/kill', arg: ['-KILL', String(pid)] })
    throw new Error(why)
  }

  async #prepare(): Promise<void> {
    while (!existsSync(this.#path('agent'))) await sleep(20)
    await this.run(`
      hostname ${this.name}
      ip link set lo up
      ip link set eth0 up
      # Not of QEMU's own network, for an address that is the same on both sides.
      ip addr add ${this.address}/32 dev eth0
      ip route add ${ROUTER} dev eth0
      ip route add default via ${ROUTER}`)
  }

  #path(kind: string): string {
    return join(this.#folder, `${this.name}.${kind}`)
  }
}

interface ExecStatus {
  exited: boolean
  exitcode?: number
  signal?: number
  'out-data'?: string
  'err-data'?: string
}

function outputOf(script: string, { exitcode, signal, ...data }: ExecStatus): string {
  const [output, errors] = [data['out-data'], data['err-data']].map(text =>
    Buffer.from(text ?? '', 'base64').toString(),
  )
  if (exitcode === 0) return output ?? ''
  throw new Error(`${script}: ${signal === undefined ? `status ${exitcode}` : `signal ${signal}`}: ${errors}${output}`)
}

function toBase64(text: string): string {
  return Buffer.from(text).toString('base64')
}

/** A conversation with the agent, which has one at a time: whoever comes next waits until this one is closed. */
class Agent {
  readonly #socket: Socket
  readonly #answers: AsyncIterator<string>

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  static async connect(path: string): Promise<Agent> {
    const socket = connect(path)
    const agent = new Agent(socket)
    await once(socket, 'connect')
    // Reported by the missing answer.
    socket.on('error', () => {})
    socket.setTimeout(SILENCE_MS, () => socket.destroy())
    // There may be an answer left that another conversation was not there any more to take.
    const id = Math.floor(Math.random() * 2 ** 31)
    socket.write(request('guest-sync', { id }))
    while (JSON.parse(await agent.#next()).return !== id);
    return agent
  }

  async ask<T>(command: string, args: object): Promise<T> {
    this.#socket.write(request(command, args))
    const answer = JSON.parse(await this.#next())
    if (answer.error) throw new Error(`${command}: ${answer.error.desc}`)
    return answer.return
  }

  close(): void {
    this.#socket.destroy()
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#answers.next()
    if (done) throw new Error(`the guest's agent has not answered in ${SILENCE_MS / 1000} s, or its machine has ended`)
    return value
  }
}

function request(execute: string, args: object): string {
  return `${JSON.stringify({ execute, arguments: args })}\n`
}
