/**
 * Opens an image at a snapshot, and a clone, and closes them, many times over; and has librbd do so, by clones that cannot be
 * made: pool, namespace, image, snapshot, which is not protected, clone.
 */
import { Cluster, InvalidArgumentError, NotSupportedError } from '../../lib/index.js'

const [poolName = '', namespace = '', imageName = '', snapshot = '', clone = ''] = process.argv.slice(2)
const atOnce = 16

await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })

async function refused(cloneFormat: 1 | 2): Promise<void> {
  try {
    // Of format 1 it needs protection, and of both the feature layering.
    const features = cloneFormat === 1 ? {} : { features: [] }
    await pool.cloneImage({ imageName, name: snapshot }, 'another clone', { cloneFormat, ...features })
    throw new Error(`a clone of format ${cloneFormat} was made`)
  } catch (error) {
    if (!(error instanceof InvalidArgumentError || error instanceof NotSupportedError)) throw error
  }
}

async function repeat(times: number, work: () => Promise<unknown>): Promise<void> {
  let left = times
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await work()
    }),
  )
}

await repeat(600, async () => (await pool.openImage(imageName, { snapshot })).close())
await repeat(300, async () => (await pool.openImage(clone, { readOnly: true })).close())
await repeat(300, async () => (await pool.openImage(clone)).close())
await repeat(100, () => refused(1))
await repeat(100, () => refused(2))
