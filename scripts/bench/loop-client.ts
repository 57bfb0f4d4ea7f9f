/** What the event loop and the memory of a process are like in which cephkit has a lot to do. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster, KiB } from '../../lib/index.js'
import { createImage, fillImage } from './filled-image.js'
import { serve } from './serve.js'

/** Milliseconds from one turn of a timer of one millisecond to the next: what it waits, every other event waits too. */
export interface Delays {
  p99: number
  max: number
}

const [poolName = '', namespace = '', imageName = ''] = process.argv.slice(2)
const blockSize = 4 * KiB
const cluster = await Cluster.connect()
const pool = await cluster.openPool(poolName, { namespace })

/** Keeps so many requests in flight, every other one a read into a new buffer, the rest writes, while `work` runs. */
async function underLoad<T>(depth: number, work: () => Promise<T>): Promise<T> {
  await using image = await pool.openImage(imageName)
  const blocks = Math.floor((await image.size()) / blockSize)
  let running = true
  const request = async (writes: boolean) => {
    const data = Buffer.alloc(blockSize, 'cephkit')
    while (running) {
      const offset = Math.floor(Math.random() * blocks) * blockSize
      if (writes) await image.write(offset, data)
      else await image.read(offset, blockSize)
    }
  }
  const requests = Promise.all(Array.from({ length: depth }, (_, index) => request(index % 2 === 1)))
  try {
    return await work()
  } finally {
    running = false
    await requests
  }
}

/** With this many requests in flight, and none for an idle loop. */
function delays(depth: number, seconds: number): Promise<Delays> {
  return underLoad(depth, async () => {
    // Not of the first requests: that many at once are the program's own doing.
    await sleep(200)
    const histogram = monitorEventLoopDelay({ resolution: 1 })
    histogram.enable()
    await sleep(seconds * 1000)
    histogram.disable()
    return { p99: histogram.percentile(99) / 1e6, max: histogram.max / 1e6 }
  })
}

/** The resident memory of the process, in bytes, at the end of each of so many intervals. */
function memory(depth: number, intervals: number, intervalSeconds: number): Promise<number[]> {
  return underLoad(depth, async () => {
    const samples: number[] = []
    while (samples.length < intervals) {
      await sleep(intervalSeconds * 1000)
      samples.push(process.memoryUsage.rss())
    }
    return samples
  })
}

async function prepare(size: number): Promise<void> {
  await createImage(pool, imageName, size)
  await fillImage(pool, imageName)
}

await serve({ prepare, delays, memory })
await cluster.close()
