/**
 * `npm start`: the whole of cephkit at work. It brings up a cluster and a broker, puts a real file system into the
 * catalog, has the agent make a volume of it by a job, and reads the volume back with programs that are not cephkit.
 *
 *   npm start              stays up until Ctrl-C
 *   npm start -- --once    ends after the check; exit status 0 only if all was as expected
 *
 * With BROKER_URL and CEPH_CONF set, it runs the agent against those instead.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { connect } from 'amqplib'
import { Cluster, MiB } from '../lib/index.js'
import { type Config, createAgent, importCatalogImage, type JobResult, readConfig } from '../src/agent/index.js'
import { runAgent } from '../src/cli/agent.js'
import { type Stack, startStack, stopStack } from '../src/dev/stack.js'

const stackDir = '.cephkit/start'
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

/** Resolves at Ctrl-C, or when somebody asks the process to end. */
function interrupted(): { signal: AbortSignal; happens: Promise<unknown> } {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())
  return { signal: controller.signal, happens: once(controller.signal, 'abort') }
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

/** Publishes a job as the control plane does, and waits for its result. */
async function doJob(
  { broker, agentId }: Config,
  action: string,
  data: object,
  signal: AbortSignal,
): Promise<JobResult> {
  const taskId = randomUUID()
  const connection = await connect(broker.url)
  try {
    const channel = await connection.createConfirmChannel()
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
    const limit = AbortSignal.any([signal, AbortSignal.timeout(resultLimitMs)])
    const tooLong = once(limit, 'abort').then(() => Promise.reject(new Error(`no result of job ${taskId}`)))
    return await Promise.race([result, tooLong])
  } finally {
    await connection.close()
  }
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

/** The main job, from nothing to a volume that others can read. Takes everything down in the end, however it goes. */
async function demonstrate(stayUp: boolean): Promise<void> {
  const interrupt = interrupted()
  const takeDown: (() => Promise<unknown>)[] = []
  try {
    const stack = await showAll(interrupt.signal, takeDown)
    if (stayUp) {
      suggest(stack)
      await interrupt.happens
    }
  } catch (error) {
    // Ctrl-C ends the programs that are being waited for, too, and they fail.
    if (!interrupt.signal.aborted) throw error
    process.exitCode = exitCodeOfInterrupt
  } finally {
    say('Taking everything down')
    for (const end of takeDown.reverse()) await end()
  }
}

async function showAll(signal: AbortSignal, takeDown: (() => Promise<unknown>)[]): Promise<Stack> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-start-'))
  takeDown.push(() => rm(folder, { recursive: true }))

  say('Bringing up a cluster and a broker, on loopback')
  const onReady = ({ part, atMs }: { part: string; atMs: number }) =>
    console.log(`${(atMs / 1000).toFixed(1).padStart(5)} s  ${part}`)
  takeDown.push(() => stopStack(stackDir))
  const stack = await startStack({ dir: stackDir, services: ['rabbitmq'], signal, onReady })
  const config = readConfig({ ...process.env, ...stack.env })

  say(`Importing an ext4 file system into the catalog, as ${config.ceph.catalogPool}/${catalogImage}`)
  await fillCatalog(stack, config, folder)

  say('Starting the agent')
  const agent = createAgent({ config })
  takeDown.push(() => agent.stop())
  await agent.start()

  say('Publishing a job')
  const data = { name: 'web-1', imageId: catalogImage, sizeMB: volumeMiB }
  const result = await doJob(config, 'storage.create', data, signal)
  say('Its result')
  console.log(JSON.stringify(result, null, 2))
  assert.equal(result.ok, true)
  const { disk } = result.result as { disk: { name: string } }

  say('Reading the volume with rbd, e2fsck and debugfs')
  await check(stack, config, disk.name, folder)
  return stack
}

const { values } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
try {
  if (process.env.BROKER_URL && process.env.CEPH_CONF) await runAgent()
  else await demonstrate(!values.once)
} catch (error) {
  process.exitCode = 1
  console.error(error)
}
