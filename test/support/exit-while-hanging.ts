/**
 * Not a test: a process that stops the OSD under its own feet, and exits.
 *
 *   node exit-while-hanging.js CALLS OSD_PID
 *
 * Or a worker thread, of CALLS and perhaps the cluster's configuration file, which lets whoever made it stop the OSD
 * before the calls.
 */
import { once } from 'node:events'
import { parentPort, Worker, workerData } from 'node:worker_threads'
import { Cluster, MiB } from '../../lib/index.js'
import { hang } from './hang.js'

const [calls = '', place] = (workerData ?? process.argv.slice(2)) as string[]
const configFile = parentPort ? place : undefined
// A large write is sent from the memory that it is in.
const options = { rbd_disable_zero_copy_writes: 'false', rbd_cache: 'false' }
const cluster = await Cluster.connect({ configFile, options })
const pool = await cluster.openPool('rbd')
const disk = await pool.openImage('disk')
await disk.read(0, 1)

function start(): void {
  if (calls === 'a large write') disk.write(0, Buffer.alloc(64 * MiB, 'x')).catch(() => {})
  for (let i = 0; i < 100; i++) {
    if (calls === 'reads') disk.read(i * 4096, 4096).catch(() => {})
    if (calls === 'writes') disk.write(i * 4096, Buffer.alloc(4096)).catch(() => {})
    if (calls === 'blocking calls') pool.createImage(`made-${i}`, { size: MiB }).catch(() => {})
  }
}

if (parentPort) {
  parentPort.postMessage('ready')
  await once(parentPort, 'message')
  start()
  parentPort.postMessage('started')
} else {
  const [, ofThread] = /(.*) of a worker thread/.exec(calls) ?? []
  const worker = ofThread ? new Worker(new URL(import.meta.url), { workerData: [ofThread] }) : undefined
  if (worker) await once(worker, 'message')
  hang(Number(place))
  if (worker) {
    worker.postMessage('go on')
    await once(worker, 'message')
  }
  start()
  process.exit(3)
}
