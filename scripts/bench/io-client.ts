/** The data of an image by cephkit; io_client.py does the same by python3-rbd, and fio.ts by fio. */
import { Cluster } from '../../lib/index.js'
import { serve } from './serve.js'

/** fio's own words for them. */
export type Kind = 'randread' | 'randwrite' | 'read' | 'write'

export interface Load {
  kind: Kind
  /** In bytes. */
  blockSize: number
  /** How many requests are in flight. */
  depth: number
}

export interface IoMeasurement {
  operations: number
  elapsedMs: number
  /** Of the whole process, user and system, librbd's threads included. */
  cpuMs: number
}

const [poolName = '', imageName = ''] = process.argv.slice(2)
const cluster = await Cluster.connect()
const pool = await cluster.openPool(poolName)
const image = await pool.openImage(imageName)
const size = await image.size()
// librbd waits for each write until it has seen a flush, and fio's engine flushes to begin with.
await image.flush()

/** Each request in flight has a buffer of its own, as fio's have. */
async function measure({ kind, blockSize, depth }: Load, seconds: number): Promise<IoMeasurement> {
  const blocks = Math.floor(size / blockSize)
  let operations = 0
  let next = 0
  const nextBlock = kind.startsWith('rand') ? () => Math.floor(Math.random() * blocks) : () => next++ % blocks
  const buffers = Array.from({ length: depth }, () => Buffer.alloc(blockSize, 'cephkit'))
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  const end = start + seconds * 1000
  const work = async (buffer: Buffer) => {
    for (; performance.now() < end; operations++) {
      const offset = nextBlock() * blockSize
      if (kind.endsWith('read')) await image.read(offset, buffer)
      else await image.write(offset, buffer)
    }
  }
  await Promise.all(buffers.map(work))
  const elapsedMs = performance.now() - start
  const { user, system } = process.cpuUsage(cpuBefore)
  // What librbd has yet to write must not be in somebody else's time.
  await image.flush()
  return { operations, elapsedMs, cpuMs: (user + system) / 1000 }
}

await serve({ measure })
await cluster.close()
