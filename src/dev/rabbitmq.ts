import { copyFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { portOf, type StackRecord } from './folder.js'
import { freePort, LOOPBACK } from './ports.js'
import type { Program } from './programs.js'
import type { Site } from './site.js'

const SERVER: Program = '/usr/lib/rabbitmq/bin/rabbitmq-server'

export function brokerUrl(record: StackRecord): string {
  return `amqp://guest:guest@${LOOPBACK}:${portOf(record, 'rabbitmq')}`
}

/** A broker of the stack's own: node name, cookie, data, and the port mapper that Erlang nodes find each other with. */
export async function startRabbitmq(site: Site): Promise<void> {
  // From an earlier attempt on this stack.
  rmSync(site.path('rabbitmq'), { recursive: true, force: true })
  const [amqp, nodes, mapper] = [await freePort(), await freePort(), await freePort()]
  const env = { HOME: site.folder('rabbitmq', 'home'), ERL_EPMD_PORT: String(mapper), ERL_EPMD_ADDRESS: LOOPBACK }
  // The broker would start a port mapper itself, as a daemon that outlives it.
  // Without -d it does not say that another program has its port.
  await site.start('epmd', 'epmd', ['-d', '-port', String(mapper), '-address', LOOPBACK], { ports: [mapper], env })
  await site.start('rabbitmq', makeHome(site), [], {
    ports: [amqp],
    env: { ...env, ...serverSettings(site, amqp, nodes) },
    // Its orderly end takes three seconds, to save what is then removed.
    endWith: 'SIGKILL',
  })
  await site.until('rabbitmq', () => speaksAmqp(amqp))
  site.ready('rabbitmq')
}

function serverSettings(site: Site, amqp: number, nodes: number): Record<string, string> {
  const plugins = site.path('rabbitmq', 'plugins-enabled')
  writeFileSync(plugins, '[].\n')
  const conf = site.path('rabbitmq', 'rabbitmq.conf')
  writeFileSync(conf, 'log.console = true\nlog.console.level = warning\n')
  return {
    RABBITMQ_NODENAME: 'cephkit@localhost',
    RABBITMQ_NODE_IP_ADDRESS: LOOPBACK,
    RABBITMQ_NODE_PORT: String(amqp),
    RABBITMQ_DIST_PORT: String(nodes),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    RABBITMQ_MNESIA_BASE: site.folder('rabbitmq', 'data'),
    RABBITMQ_LOG_BASE: site.folder('rabbitmq', 'log'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_ENABLED_PLUGINS_FILE: plugins,
    RABBITMQ_CONFIG_FILE: conf,
    // The machine's own settings are for the machine's own broker.
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    // Makes the start script become the server instead of waiting for it as a child.
    detached: 'true',
  }
}

/**
 * A home for the server with copies of its start scripts and links to the libraries that it needs. The libraries of
 * every optional plugin are on the search path of an installed server, and trying those folders for each of a thousand
 * modules takes half of its start. Returns the start script.
 */
function makeHome(site: Site): string {
  const scripts = dirname(realpathSync(SERVER))
  const libraries = join(dirname(scripts), 'plugins')
  for (const script of ['rabbitmq-server', 'rabbitmq-env', 'rabbitmq-defaults']) {
    copyFileSync(join(scripts, script), join(site.folder('rabbitmq', 'server', 'sbin'), script))
  }
  for (const library of readdirSync(libraries).filter(isNeeded)) {
    symlinkSync(join(libraries, library), join(site.folder('rabbitmq', 'server', 'plugins'), library))
  }
  return site.path('rabbitmq', 'server', 'sbin', 'rabbitmq-server')
}

/** Plugins are named rabbitmq_something; the one that starts the server is not optional. */
function isNeeded(library: string): boolean {
  return !library.startsWith('rabbitmq_') || library.startsWith('rabbitmq_prelaunch')
}

const PROTOCOL_HEADER = Buffer.from('AMQP\x00\x00\x09\x01', 'latin1')

/** A method frame on channel 0 that carries connection.start, which is how a broker that is ready answers. */
const START_FRAME = { type: 1, channel: 0, class: 10, method: 10 }

/** The port is open a little before the broker serves it. */
function speaksAmqp(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, LOOPBACK, () => socket.write(PROTOCOL_HEADER))
    // Another program may have taken the port, and may never answer this.
    socket.setTimeout(1_000, () => socket.destroy())
    socket.once('data', answer => {
      socket.destroy()
      resolve(isStartFrame(answer))
    })
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
  })
}

function isStartFrame(frame: Buffer): boolean {
  return (
    frame.length >= 11 &&
    frame.readUInt8(0) === START_FRAME.type &&
    frame.readUInt16BE(1) === START_FRAME.channel &&
    frame.readUInt16BE(7) === START_FRAME.class &&
    frame.readUInt16BE(9) === START_FRAME.method
  )
}
