/** Listings by cephkit, and the images that are listed. */
import { Cluster, GiB, MiB, NotFoundError, type Pool } from '../../lib/index.js'
import type { Listing } from './listing.js'
import { serve } from './serve.js'

const [poolName = '', namespace = ''] = process.argv.slice(2)
const golden = { imageName: 'golden', name: 'base' }
const inFlight = 64

/** Connects anew, as the command does that it is measured beside. */
async function withPool<T>(use: (pool: Pool) => Promise<T>): Promise<T> {
  await using cluster = await Cluster.connect()
  return await use(await cluster.openPool(poolName, { namespace }))
}

async function forNumbers(from: number, to: number, work: (number: number) => Promise<void>): Promise<void> {
  let next = from
  const worker = async () => {
    while (next < to) await work(next++)
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
}

/** What a pool of volumes has: of four images one is a clone; of eight, one has a snapshot and some data. */
async function make(pool: Pool, number: number): Promise<void> {
  const name = `volume-${number}`
  if (number % 4 === 3) return pool.cloneImage(golden, name)
  await pool.createImage(name, { size: 10 * GiB })
  if (number % 8 !== 0) return
  await using image = await pool.openImage(name)
  await image.write(number * MiB, Buffer.alloc(4096, 1))
  await image.createSnapshot('one')
}

/** The image that the clones are of, and volumes of these numbers. */
async function prepare(from: number, to: number): Promise<void> {
  await withPool(async pool => {
    if (from === 0) {
      await pool.createImage(golden.imageName, { size: 10 * GiB })
      await using image = await pool.openImage(golden.imageName)
      await image.createSnapshot(golden.name, { protect: true })
    }
    await forNumbers(from, to, number => make(pool, number))
  })
}

async function remove(pool: Pool, number: number): Promise<void> {
  const name = `volume-${number}`
  if (number % 8 === 0) {
    await using image = await pool.openImage(name)
    await image.snapshot('one').remove()
  }
  await pool.removeImage(name)
}

/** Removes the volumes of these numbers, those that have come to be. */
async function clear(count: number): Promise<void> {
  await withPool(pool =>
    forNumbers(0, count, async number => {
      try {
        await remove(pool, number)
      } catch (error) {
        if (!(error instanceof NotFoundError)) throw error
      }
    }),
  )
}

/** What a caller does with each: here, it is counted. */
async function measured(list: (pool: Pool) => AsyncIterable<{ error?: Error | undefined }>): Promise<Listing> {
  const start = performance.now()
  const images = await withPool(async pool => {
    let count = 0
    for await (const { error } of list(pool)) {
      if (error) throw error
      count++
    }
    return count
  })
  const seconds = (performance.now() - start) / 1000
  return { images, seconds, peakBytes: process.resourceUsage().maxRSS * 1024 }
}

await serve({
  prepare,
  clear,
  details: () => measured(pool => pool.listImageDetails()),
  usage: () => measured(pool => pool.listImageUsage()),
})
