import { relative } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  type ReadyPart,
  SERVICES,
  type Service,
  STORES,
  type StackStatus,
  type StartedStack,
  type Store,
  stackStatus,
  startStack,
  stopStack,
} from '../dev/stack.js'

const DEFAULT_DIR = '.cephkit/dev'

interface CommonOptions {
  dir: string
  json: boolean
}

interface UpOptions extends CommonOptions, Partial<Record<Service, boolean>> {
  osds?: number
  store?: Store
  osdSize?: number
  slowCommits?: boolean
}

const INTERRUPTS: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

const GiB = 2 ** 30

/** `cephkit dev …`: the development stack. */
export function addDevCommands(program: Command): void {
  const dev = program
    .command('dev')
    .description('Ceph, RabbitMQ and an iSCSI target on this machine, to develop and test against')
    .addHelpText(
      'after',
      `
The stack is real services on the loopback address and free ports, with all their state in one folder.
Any number of stacks run side by side, each in its folder.

Examples:
  $ cephkit dev up --rabbitmq        # Ceph and a broker
  $ eval "$(cephkit dev env)"        # now this shell's ceph, rbd and programs find them
  $ rbd create disk --size 1G && rbd ls
  $ cephkit dev down                 # ends and removes all of it`,
    )
  addUp(dev)
  addDown(dev)
  addStatus(dev)
  addEnv(dev)
}

function addUp(dev: Command): void {
  common(dev.command('up'))
    .description('start a stack, or add services to the one that is running')
    .option('--osds <number>', 'number of OSDs (default: 1)', parseNumber)
    .addOption(new Option('--store <store>', 'where OSDs keep objects (default: memstore)').choices(STORES))
    .option('--osd-size <GiB>', 'what each OSD offers, taken as it is used (default: 8)', parseNumber)
    .option('--slow-commits', "keep Ceph's own pace of up to a second for a snapshot or a pool, instead of 20 ms")
    .option('--mds', 'a metadata server, and the file system "cephfs"')
    .option('--radosgw', 'an object gateway')
    .option('--dashboard', 'the dashboard and its REST API')
    .option('--rabbitmq', 'a RabbitMQ broker')
    .option('--tgt', 'an iSCSI target (tgtd)')
    .addHelpText(
      'after',
      `
Returns when everything is ready. A stack that a crash has left behind is removed first.

Examples:
  $ cephkit dev up                               # monitor, manager, one OSD in memory
  $ cephkit dev up --rabbitmq --tgt --dashboard  # with a broker, a target, and the REST API
  $ cephkit dev up --osds 3 --store bluestore    # three OSDs on files
  $ cephkit dev up --dir /tmp/second             # beside the first`,
    )
    .action(up)
}

function addDown(dev: Command): void {
  common(dev.command('down')).description('end the stack and remove its folder').action(down)
}

function addStatus(dev: Command): void {
  common(dev.command('status'))
    .description("show the stack's daemons and the cluster's health; exit status 1 if it is not running")
    .action(status)
}

function addEnv(dev: Command): void {
  common(dev.command('env'))
    .description('print the variables with which programs find the stack')
    .addHelpText('after', '\nExample:\n  $ eval "$(cephkit dev env)"')
    .action(env)
}

function common(command: Command): Command {
  return command.option('--dir <folder>', "the stack's folder", DEFAULT_DIR).option('--json', 'print JSON', false)
}

async function up({ dir, json, osds, store, osdSize, slowCommits, ...flags }: UpOptions): Promise<void> {
  const started = await untilInterrupted(signal =>
    startStack({
      dir,
      osds,
      store,
      osdBytes: osdSize === undefined ? undefined : Math.round(osdSize * GiB),
      fastCommits: slowCommits ? false : undefined,
      services: SERVICES.filter(service => flags[service]),
      signal,
      onReady: json ? undefined : printReady,
    }),
  )
  console.log(json ? JSON.stringify(started, null, 2) : describeStart(started))
}

async function down({ dir, json }: CommonOptions): Promise<void> {
  const ended = await stopStack(dir)
  if (json) console.log(JSON.stringify({ ended }))
  else console.log(ended.length > 0 ? `Ended ${ended.join(', ')}` : `Nothing was running in ${dir}`)
}

async function status({ dir, json }: CommonOptions): Promise<void> {
  const found = await stackStatus(dir)
  if (found.state !== 'running') process.exitCode = 1
  console.log(json ? JSON.stringify(found, null, 2) : describeStatus(found))
}

async function env({ dir, json }: CommonOptions): Promise<void> {
  const { stack, state } = await stackStatus(dir)
  if (!stack) throw new Error(`the stack in ${dir} is ${state}: cephkit dev up`)
  console.log(json ? JSON.stringify(stack.env, null, 2) : exportLines(stack.env))
}

/** Gives the work a signal that Ctrl-C and the like abort, so that it can clean up instead of dying on the spot. */
async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController()
  const interrupt = (name: NodeJS.Signals) => {
    interrupted.abort(new Error(`${name}: gave up, and took down what had been started`))
  }
  for (const name of INTERRUPTS) process.on(name, interrupt)
  try {
    return await work(interrupted.signal)
  } finally {
    for (const name of INTERRUPTS) process.off(name, interrupt)
  }
}

/** A line of the start's progress. */
export function printReady({ part, atMs }: ReadyPart): void {
  console.log(`${(atMs / 1000).toFixed(1).padStart(5)} s  ${part}`)
}

function describeStart({ dir, found, added }: StartedStack): string {
  const state = {
    nothing: 'Running',
    leftovers: 'Removed what a crash had left, and started anew',
    running: added.length > 0 ? `Was running; added ${added.join(', ')}` : 'Was running already',
  }[found]
  const place = relative('', dir)
  const option = place === DEFAULT_DIR ? '' : ` --dir ${shellQuote(dir)}`
  return `${state} in ${place || '.'}\nFor this shell: eval "$(cephkit dev env${option})"`
}

function describeStatus({ dir, state, daemons, health }: StackStatus): string {
  const rows = daemons.map(({ name, pid, alive, ports }) =>
    [name.padEnd(10), String(pid).padStart(8), alive ? 'alive' : 'dead ', ports.join(' ')].join('  ').trimEnd(),
  )
  const ceph = health ? [[health.status, ...health.checks].join('\n  ')] : []
  return [`${dir}: ${state}`, ...rows, ...ceph].join('\n')
}

function exportLines(env: Record<string, string>): string {
  return Object.entries(env)
    .map(([name, value]) => `export ${name}=${shellQuote(value)}`)
    .join('\n')
}

function shellQuote(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`
}

function parseNumber(text: string): number {
  const number = Number(text)
  if (!Number.isFinite(number)) throw new InvalidArgumentError('It must be a number.')
  return number
}
