/** Imports and exports by cephkit. */
import { randomFillSync } from 'node:crypto'
import { Cluster, MiB } from '../../lib/index.js'
import { serve } from './serve.js'

const [poolName = '', namespace = ''] = process.argv.slice(2)
const cluster = await Cluster.connect()
const pool = await cluster.openPool(poolName, { namespace })

/** Makes an image with data, which nothing can compress, in every fourth object. */
async function prepare(name: string, size: number): Promise<void> {
  await pool.createImage(name, { size })
  await using image = await pool.openImage(name)
  const data = Buffer.alloc(4 * MiB)
  for (let offset = 0; offset < size; offset += 4 * data.length) await image.write(offset, randomFillSync(data))
}

async function exportImage(name: string, path: string): Promise<number> {
  const start = performance.now()
  await using image = await pool.openImage(name, { readOnly: true })
  await image.exportTo(path)
  return performance.now() - start
}

async function importImage(name: string, path: string): Promise<number> {
  const start = performance.now()
  await pool.importImage(name, path)
  return performance.now() - start
}

await serve({ prepare, exportImage, importImage, removeImage: (name: string) => pool.removeImage(name) })
await cluster.close()
