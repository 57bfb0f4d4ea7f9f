/** The data of an image by cephkit; io_client.py does the same by python3-rbd. */
import { Cluster } from '../../lib/index.js'
import { serve } from './serve.js'

/** fio's own words for them. */
export type Kind = 'randread' | 'randwrite' | 'read' | 'write'

export interface IoMeasurement {
  operations: number
  elapsedMs: number
  /** Of the whole process, user and system, librbd's threads included. */
  cpuMs: number
}

const [poolName = '', namespace = '', imageName = ''] = process.argv.slice(2)
const cluster = await Cluster.connect()
const pool = await cluster.openPool(poolName, { namespace })
const image = await pool.openImage(imageName)
const size = await image.size()
// librbd waits for each write until it has seen a flush, and fio's engine flushes to begin with.
await image.flush()

/** So many requests in flight, in blocks of so many bytes, for so many seconds. Each has a buffer, as fio's have. */
async function measure(kind: Kind, blockSize: number, depth: number, seconds: number): Promise<IoMeasurement> {
  const blocks = Math.floor(size / blockSize)
  let operations = 0
  let next = 0
  const nextBlock = kind.startsWith('rand') ? () => Math.floor(Math.random() * blocks) : () => next++ % blocks
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  const end = start + seconds * 1000
  const work = async () => {
    const buffer = Buffer.alloc(blockSize, 'cephkit')
    for (; performance.now() < end; operations++) {
      const offset = nextBlock() * blockSize
      if (kind.endsWith('read')) await image.read(offset, buffer)
      else await image.write(offset, buffer)
    }
  }
  await Promise.all(Array.from({ length: depth }, work))
  const elapsedMs = performance.now() - start
  const { user, system } = process.cpuUsage(cpuBefore)
  return { operations, elapsedMs, cpuMs: (user + system) / 1000 }
}

await serve({ measure })
await cluster.close()
