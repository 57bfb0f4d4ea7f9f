/**
 * `npm start`: the whole of cephkit at work. It brings up a cluster and a broker, puts a real file system into the
 * catalog, has the agent make a volume of it by a job, and reads the volume back with programs that are not cephkit.
 *
 *   npm start              stays up until Ctrl-C
 *   npm start -- --once    ends after the check; exit status 0 only if all was as expected
 *
 * Where both a broker and a cluster are configured already, it runs the agent on those instead.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { type EventEmitter, once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { type ChannelModel, connect } from 'amqplib'
import { Cluster, MiB } from '../lib/index.js'
import { type Config, createAgent, importCatalogImage, type JobResult, readConfig } from '../src/agent/index.js'
import { runAgent } from '../src/cli/agent.js'
import { printReady } from '../src/cli/dev.js'
import { Lock } from '../src/dev/folder.js'
import { type Stack, StackBusyError, startStack, stopStack } from '../src/dev/stack.js'

/** Locked for as long as this runs. */
const ownDir = '.cephkit/start'
const stackDir = join(ownDir, 'stack')
const catalogImage = 'files'
const catalogImageBytes = 64 * MiB
const volumeMiB = 128
const files = { 'hello.txt': 'Hello from inside a clone.\n', 'numbers.bin': Buffer.from([0, 1, 2, 253, 254, 255]) }
/** Far more than a job on a healthy cluster takes. */
const resultLimitMs = 60_000
/** 128 + SIGINT, as shells have it. */
const exitCodeOfInterrupt = 130

const run = promisify(execFile)

function say(text: string): void {
  console.log(`\n── ${text}`)
}

function refuse(text: string): void {
  process.exitCode = 1
  console.error(text)
}

/**
 * Aborted at Ctrl-C, when the terminal closes, or when somebody asks the process to end. A second time does not cut the
 * taking down short.
 */
function interrupted(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => controller.abort())
  return controller.signal
}

/** Rejects when a connection, or a channel, closes, with an error or without. */
async function closing(emitter: EventEmitter): Promise<never> {
  await once(emitter, 'close')
  throw new Error('the broker has closed the connection')
}

async function afterLimit(limitMs: number, message: string, signal: AbortSignal): Promise<never> {
  await delay(limitMs, undefined, { ref: false, signal })
  throw new Error(message)
}

/** An ext4 file system with the files, in a file of its own. */
async function makeFileSystem(folder: string): Promise<string> {
  const content = join(folder, 'content')
  await mkdir(content)
  for (const [name, data] of Object.entries(files)) await writeFile(join(content, name), data)
  const path = join(folder, 'files.ext4')
  await writeFile(path, '')
  await truncate(path, catalogImageBytes)
  await run('/sbin/mkfs.ext4', ['-q', '-d', content, path])
  return path
}

async function fillCatalog(stack: Stack, config: Config, folder: string): Promise<void> {
  await using cluster = await Cluster.connect({ configFile: stack.cephConf })
  const { catalogPool } = config.ceph
  if (!(await cluster.listPools()).includes(catalogPool)) await cluster.createPool(catalogPool)
  await using pool = await cluster.openPool(catalogPool)
  await pool.initialize()
  await importCatalogImage(pool, catalogImage, await makeFileSystem(folder))
}

interface Job {
  action: string
  data: object
}

/** Publishes a job as the control plane does, and waits for its result. */
async function doJob(config: Config, job: Job, signal: AbortSignal, takeDown: TakeDown): Promise<JobResult> {
  const connection = await connect(config.broker.url)
  takeDown.push(() => connection.close())
  const tooLong = afterLimit(resultLimitMs, `no result of the job in ${resultLimitMs} ms`, signal)
  return Promise.race([exchange(connection, config, job), closing(connection), tooLong])
}

async function exchange(
  connection: ChannelModel,
  { broker, agentId }: Config,
  { action, data }: Job,
): Promise<JobResult> {
  const taskId = randomUUID()
  const channel = await connection.createConfirmChannel()
  const work = async () => {
    const { queue } = await channel.assertQueue('', { exclusive: true })
    await channel.bindQueue(queue, broker.resultsExchange, `task.${action}`)
    const result = new Promise<JobResult>(resolve => {
      channel.consume(
        queue,
        message => {
          if (message?.properties.correlationId === taskId) resolve(JSON.parse(message.content.toString()))
        },
        { noAck: true },
      )
    })
    const job = { taskId, tenantId: 'acme', agentId, action, data, correlationId: taskId }
    console.log(JSON.stringify(job, null, 2))
    channel.publish(broker.jobsExchange, agentId, Buffer.from(JSON.stringify(job)), { persistent: true })
    await channel.waitForConfirms()
    return result
  }
  return Promise.race([work(), closing(channel)])
}

/** Reads the volume with `rbd` and e2fsprogs. */
async function check(stack: Stack, config: Config, image: string, folder: string): Promise<void> {
  const env = { ...process.env, ...stack.env }
  const path = `${config.ceph.volumePool}/${image}`
  const { stdout: info } = await run('rbd', ['info', path], { env })
  console.log(info)
  const { size, parent } = JSON.parse((await run('rbd', ['info', '--format', 'json', path], { env })).stdout)
  assert.equal(size, volumeMiB * MiB, 'the volume has the size that was asked for')
  assert.equal(`${parent.pool}/${parent.image}@${parent.snapshot}`, `${config.ceph.catalogPool}/${catalogImage}@base`)

  const exported = join(folder, 'volume.raw')
  await run('rbd', ['export', '--no-progress', path, exported], { env })
  await run('/sbin/e2fsck', ['-fn', exported])
  for (const [name, data] of Object.entries(files)) {
    const { stdout } = await run('/sbin/debugfs', ['-R', `cat /${name}`, exported], { encoding: 'buffer' })
    assert.deepEqual(stdout, Buffer.from(data), `${name} is the same in the volume`)
    console.log(`${name}: the same in the volume, ${stdout.length} bytes`)
  }
}

function suggest(stack: Stack): void {
  const dir = relative('.', stack.dir)
  say('All of it works. To look around, in another shell:')
  console.log(`
    eval "$(npx cephkit dev env --dir ${dir})"
    npx cephkit dev status --dir ${dir}
    rbd ls; ceph -s
    node --input-type=module -e "import { Cluster } from 'cephkit'
      const cluster = await Cluster.connect()
      console.log(await (await cluster.openPool('rbd')).listImages())
      await cluster.close()"

  docs/library.md and docs/agent.md say more. Ctrl-C takes everything down.`)
}

type TakeDown = (() => unknown)[]

/** Takes down what was set up, last first, and goes on after a failure. */
async function takeAllDown(takeDown: TakeDown): Promise<void> {
  say('Taking everything down')
  for (const end of takeDown.reverse()) {
    try {
      await end()
    } catch (error) {
      process.exitCode = 1
      console.error(error)
    }
  }
}

/** The main job, from nothing to a volume that others can read. Takes everything down in the end, however it goes. */
async function demonstrate(stayUp: boolean): Promise<void> {
  await using lock = await lockOwnDir()
  if (!lock) return refuse(`Another npm start is at work in ${ownDir}`)
  const signal = interrupted()
  const takeDown: TakeDown = [() => lock.remove()]
  try {
    const stack = await showAll(signal, takeDown)
    if (stayUp) {
      suggest(stack)
      if (!signal.aborted) await once(signal, 'abort')
    }
  } catch (error) {
    // Ctrl-C ends the programs that are being waited for, too, and they fail.
    if (!signal.aborted) throw error
    process.exitCode = exitCodeOfInterrupt
  } finally {
    await takeAllDown(takeDown)
  }
}

/** Two at once would share a cluster, which the one that ends first takes down, and the jobs of one would go to both. */
async function lockOwnDir(): Promise<Lock | undefined> {
  try {
    return await Lock.acquire(ownDir, 0)
  } catch (error) {
    if (error instanceof StackBusyError) return undefined
    throw error
  }
}

async function showAll(signal: AbortSignal, takeDown: TakeDown): Promise<Stack> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-start-'))
  takeDown.push(() => rm(folder, { recursive: true }))

  say('Bringing up a cluster and a broker, on loopback')
  takeDown.push(() => stopStack(stackDir))
  // What one that was killed has left: nobody uses it any more.
  await stopStack(stackDir)
  const stack = await startStack({ dir: stackDir, services: ['rabbitmq'], signal, onReady: printReady })
  // Any port that is free: an agent of this machine's own may have the usual one.
  const config = readConfig({ HTTP_PORT: '0', ...process.env, ...stack.env })

  say(`Importing an ext4 file system into the catalog, as ${config.ceph.catalogPool}/${catalogImage}`)
  await fillCatalog(stack, config, folder)

  say('Starting the agent')
  const agent = createAgent({ config })
  takeDown.push(() => agent.stop())
  signal.throwIfAborted()
  // It would wait for a broker that has gone.
  signal.addEventListener('abort', () => agent.stop())
  await agent.start()

  say('Publishing a job')
  const data = { name: 'web-1', imageId: catalogImage, sizeMB: volumeMiB }
  const result = await doJob(config, { action: 'storage.create', data }, signal, takeDown)
  say('Its result')
  console.log(JSON.stringify(result, null, 2))
  assert.equal(result.ok, true)
  const { disk } = result.result as { disk: { name: string } }

  say('Reading the volume with rbd, e2fsck and debugfs')
  await check(stack, config, disk.name, folder)
  return stack
}

/** The variable that names the broker, if one does. */
function configuredBroker(): string | undefined {
  return ['BROKER_URL', 'RMQ_URL'].find(variable => process.env[variable])
}

/** The variable that names the cluster, or the file in which Ceph's own programs find it, if there is one. */
function configuredCluster(): string | undefined {
  if (process.env.CEPH_CONF) return 'CEPH_CONF'
  return ['/etc/ceph/ceph.conf', join(homedir(), '.ceph/ceph.conf'), 'ceph.conf'].find(existsSync)
}

async function main(stayUp: boolean): Promise<void> {
  const broker = configuredBroker()
  const cluster = configuredCluster()
  if (broker && cluster) {
    if (!stayUp)
      return refuse(`--once is for a cluster and a broker of its own, but ${broker} and ${cluster} are there`)
    say(`Running the agent, as ${broker} and ${cluster} are there`)
    return runAgent()
  }
  if (broker) say(`${broker} is not used, as no cluster is configured (CEPH_CONF)`)
  if (cluster) say(`${cluster} is not used, as no broker is configured (BROKER_URL)`)
  return demonstrate(stayUp)
}

const { values } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
try {
  await main(!values.once)
} catch (error) {
  process.exitCode = 1
  console.error(error)
}
