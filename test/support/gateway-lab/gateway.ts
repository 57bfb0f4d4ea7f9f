/** A guest with LIO, tcmu-runner and rbd-target-api: a gateway as ceph-iscsi has them. */
import { readFile } from 'node:fs/promises'
import type { Stack } from '../../../src/dev/stack.js'
import { run } from '../cluster.js'
import { until } from '../process.js'
import { Guest, ROUTER } from './guest.js'

export const ISCSI_PORT = 3260
export const API_PORT = 5000

/** What a gateway may take for one thing: less than an agent waits for all that it asks for at once. */
export const GATEWAY_SECONDS = 150

/** No secret: only the namespace reaches it. */
const user = 'gateway'
const password = 'gateway-password'

const READY_MS = 300_000

const startTargets = `
mkdir -p /run/dbus /etc/rtslib-fb-target/pr /etc/rtslib-fb-target/alua /var/log/rbd-target-api
modprobe target_core_mod
mount -t configfs none /sys/kernel/config
# rtslib would have no other, and it cannot be changed any more once there is a kind of backing store.
echo /etc/rtslib-fb-target > /sys/kernel/config/target/dbroot
modprobe -a target_core_user iscsi_target_mod
dbus-daemon --system --fork
ulimit -n 65536
setsid tcmu-runner </dev/null >/var/log/tcmu-runner.out 2>&1 &`

const startApi = `
cd /
ulimit -n 65536
setsid rbd-target-api </dev/null >>/var/log/rbd-target-api.out 2>&1 &`

const apiPid = "$(pgrep -xf '/usr/bin/python3 /usr/bin/rbd-target-api')"

export class Gateway {
  /** As portals name it. */
  readonly host: string
  readonly ip: string
  readonly apiUrl: string
  readonly guest: Guest

  constructor(folder: string, host: string, ip: string) {
    this.host = host
    this.ip = ip
    this.apiUrl = `http://${user}:${password}@${ip}:${API_PORT}`
    this.guest = new Guest(folder, host, ip)
  }

  /** Makes the guest a client of the cluster, and a gateway beside the others. */
  async configure(stack: Stack, all: readonly Gateway[]): Promise<void> {
    const write = (path: string, text: string) => this.guest.run(`cat > ${path}`, { input: text })
    await write('/etc/hosts', ['127.0.0.1 localhost', ...all.map(({ ip, host }) => `${ip} ${host}`), ''].join('\n'))
    await write('/etc/ceph/ceph.conf', await clientConf(stack))
    await write('/etc/ceph/ceph.client.admin.keyring', await readFile(stack.keyring, 'utf8'))
    await write('/etc/ceph/iscsi-gateway.cfg', gatewayConf(stack, all))
  }

  async start(): Promise<void> {
    await this.guest.run(startTargets)
    await this.startApi()
  }

  /** Resolves when it answers. */
  async startApi(): Promise<void> {
    await this.guest.run(startApi)
    const answers = () => this.#ping().catch(() => false)
    if (await until(answers, READY_MS)) return
    throw new Error(`${this.host}: ${await this.guest.run('tail -n 20 /var/log/rbd-target-api.out')}`)
  }

  /** SIGTERM takes this gateway's targets along, and SIGKILL leaves them. Resolves when it has ended. */
  async endApi(signal: 'TERM' | 'KILL'): Promise<void> {
    await this.guest.run(`pid=${apiPid}; kill -${signal} $pid; while [ -d /proc/$pid ]; do sleep 0.1; done`)
  }

  /** Makes it known to the Dashboard. */
  async register(): Promise<void> {
    await run('sh', '-c', `echo "$1" | ceph dashboard iscsi-gateway-add -i - "$2"`, 'sh', this.apiUrl, this.host)
  }

  /** Asks as `gwcli` does, past the Dashboard. `api('PUT', 'target/iqn…')` */
  // biome-ignore lint/suspicious/noExplicitAny: the shape is that interface's own
  async api(method: 'GET' | 'PUT' | 'DELETE', path: string, form: Record<string, string> = {}): Promise<any> {
    const answer = await this.#fetch(path, { method, ...(method !== 'GET' && { body: new URLSearchParams(form) }) })
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }

  /** The names of the targets that the kernel of this gateway has. */
  async kernelTargets(): Promise<string[]> {
    return (await this.guest.run('cd /sys/kernel/config/target/iscsi; ls -d iqn.* || true')).split('\n').filter(Boolean)
  }

  #fetch(path: string, request: RequestInit = {}): Promise<Response> {
    const headers = { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
    return fetch(`http://${this.ip}:${API_PORT}/api/${path}`, { headers, ...request })
  }

  async #ping(): Promise<boolean> {
    return (await this.#fetch('_ping', { signal: AbortSignal.timeout(30_000) })).status === 200
  }
}

/** Without what is for daemons, and the folders of the host. */
async function clientConf({ cephConf }: Stack): Promise<string> {
  const lines = (await readFile(cephConf, 'utf8')).split('\n')
  return ['[global]', ...lines.filter(line => /^(fsid|mon host) = /.test(line)), ''].join('\n')
}

function gatewayConf({ dashboard }: Stack, all: readonly Gateway[]): string {
  const callers = [ROUTER, new URL(dashboard?.url ?? '').hostname, ...all.map(({ ip }) => ip)]
  const settings = {
    cluster_client_name: 'client.admin',
    gateway_keyring: 'ceph.client.admin.keyring',
    pool: 'rbd',
    // Debian 12's has no TLS that works with its Werkzeug.
    api_secure: false,
    api_host: '0.0.0.0',
    api_port: API_PORT,
    api_user: user,
    api_password: password,
    trusted_ip_list: callers.join(','),
    time_out: GATEWAY_SECONDS,
    // There is no /dev/log.
    log_to_stderr: true,
  }
  return ['[config]', ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`), ''].join('\n')
}
