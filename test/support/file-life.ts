/**
 * Not a test: what the tests of file systems run in a process, or a worker thread, of its own. Lives up to a stage, and ends there.
 *
 *   node file-life.js STAGE ENDING
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Cluster, type FileSystem } from '../../lib/index.js'
import type { Ending } from './life.js'

export const fileStages = ['mounting', 'mounted', 'file open', 'calls in flight', 'unmounting', 'unmounted'] as const
/** The last one leaves a mount that libcephfs never unmounts. */
export type FileStage = (typeof fileStages)[number] | 'never unmounted'

async function live(stage: FileStage): Promise<void> {
  const cluster = await Cluster.connect()
  const mounting = cluster.mountFileSystem({ root: String(process.env.LIFE_ROOT) })
  if (stage === 'mounting') return void mounting.catch(() => {})
  const files = await mounting
  if (stage === 'mounted') return
  if (stage === 'never unmounted') return void (await leaveMounted(cluster, files))
  const file = await files.open('/file', 'w+')
  await file.write('text')
  await files.opendir('/')
  if (stage === 'file open') return
  for (let i = 0; i < 100; i++) {
    files.writeFile(`/${process.pid}-${i}`, Buffer.alloc(100_000)).catch(() => {})
    file.read(Buffer.alloc(4), { position: 0 }).catch(() => {})
  }
  if (stage === 'calls in flight') return
  const closing = files.close()
  if (stage === 'unmounting') return void closing.catch(() => {})
  await closing
}

/** By removing snapshots that another mount removes at the same moment. */
async function leaveMounted(cluster: Cluster, files: FileSystem): Promise<void> {
  const other = await cluster.mountFileSystem({ root: String(process.env.LIFE_ROOT) })
  for (let i = 0; i < 5; i++) {
    await files.createSnapshot('/', `${i}`)
    await Promise.allSettled([files, other].map(each => each.removeSnapshot('/', `${i}`)))
  }
  await Promise.all([files.close(), other.close()])
  await cluster.close()
}

const [stage, ending] = (workerData ?? process.argv.slice(2)) as [FileStage, Ending]
if (stage) {
  await live(stage)
  parentPort?.postMessage(stage)
  if (ending === 'process.exit') process.exit(3)
  if (ending === 'exception') throw new Error('on purpose')
}
