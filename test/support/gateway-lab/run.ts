/**
 * The lab from the inside: runs in namespaces of its own, where all that it starts ends with it.
 *
 *   GATEWAY_LAB=FOLDER node dist/test/support/gateway-lab/run.js TEST.js…
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { type Stack, startStack } from '../../../src/dev/stack.js'
import { run } from '../cluster.js'
import { API_PORT, GATEWAY_SECONDS, ISCSI_PORT } from './gateway.js'
import { findImage, type GuestImage } from './image.js'
import { clusterAddress, gateways, labFolder } from './lab.js'

/** Longer than any file takes on a busy machine. */
const limitSeconds = 7200

// With this process, the first of its namespace, all others end: also when whoever waits for it has gone without a word.
process.stdin.on('end', () => process.exit(1)).resume()
process.stdin.unref()

const begun = performance.now()

function say(what: string): void {
  t.comment(`${((performance.now() - begun) / 1000).toFixed(1).padStart(5)} s  ${what}`)
}

async function ip(...args: string[]): Promise<void> {
  await promisify(execFile)('ip', args, { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } })
}

/**
 * The guests' addresses are this side's as well, where QEMU takes connections for them. Those come from the cluster's
 * address: from the guest's own, the guest would take them for a forgery.
 */
async function makeNetwork(): Promise<void> {
  await ip('link', 'set', 'lo', 'up')
  await ip('addr', 'add', `${clusterAddress}/32`, 'dev', 'lo')
  for (const { ip: address } of gateways) {
    await ip('route', 'add', 'local', address, 'dev', 'lo', 'src', clusterAddress)
  }
}

async function startCluster(): Promise<Stack> {
  const dir = join(labFolder, 'cluster')
  const stack = await startStack({ dir, address: clusterAddress, services: ['mds', 'dashboard', 'rabbitmq'] })
  say('cluster')
  return stack
}

async function boot(image: GuestImage): Promise<void> {
  await Promise.all(gateways.map(({ guest }) => guest.boot(image, [ISCSI_PORT, API_PORT])))
  say('guests')
}

t.setTimeout(0)
t.jobs = 1
const image = findImage()
if (image === undefined) throw new Error('there is no image of a guest: npm run test:gateway')
await makeNetwork()
const [stack] = await Promise.all([startCluster(), boot(image)])
Object.assign(process.env, stack.env)
// It would wait for 45 seconds, and some of what is emulated on a busy machine takes more.
await run('ceph', 'dashboard', 'set-rest-requests-timeout', String(GATEWAY_SECONDS))
await Promise.all(
  gateways.map(async gateway => {
    await gateway.configure(stack, gateways)
    await gateway.start()
    await gateway.register()
  }),
)
say('gateways')
for (const file of process.argv.slice(2)) {
  const options = { env: { ...process.env, TAP_TIMEOUT: String(limitSeconds) }, timeout: limitSeconds * 1000 }
  t.spawn(process.execPath, ['--enable-source-maps', file], options, file)
}
