/** The lifecycle of an image by cephkit; lifecycle_client.py does the same by python3-rbd, call for call. */
import { Cluster, GiB, type Image } from '../../lib/index.js'
import type { Measurement, Operation } from './lifecycle.js'
import { serve } from './serve.js'

const [poolName = '', namespace = ''] = process.argv.slice(2)
const cluster = await Cluster.connect()
const pool = await cluster.openPool(poolName, { namespace })

const prefix = 'cephkit'
const goldenName = `${prefix}-golden`
let golden: Promise<Image> | undefined
/** Left open by `snapshot`, closed by `dropSnapshot`. */
const opened = new Map<string, Image>()

const operations: Record<Operation, (name: string) => Promise<void>> = {
  create: name => pool.createImage(name, { size: 1 * GiB }),
  async resize(name) {
    const image = await pool.openImage(name)
    await image.resize(2 * GiB)
    await image.close()
  },
  async snapshot(name) {
    const image = await pool.openImage(name)
    opened.set(name, image)
    await image.createSnapshot('base', { protect: true })
  },
  async dropSnapshot(name) {
    const image = opened.get(name)
    opened.delete(name)
    await image?.snapshot('base').unprotect()
    await image?.snapshot('base').remove()
    await image?.close()
  },
  async clone(name) {
    golden ??= pool.openImage(goldenName)
    await pool.cloneImage((await golden).snapshot('base'), `${name}-clone`)
  },
  dropClone: name => pool.removeImage(`${name}-clone`),
  remove: name => pool.removeImage(name),
}

async function prepare(): Promise<void> {
  await pool.createImage(goldenName, { size: 1 * GiB })
  await using image = await pool.openImage(goldenName)
  await image.createSnapshot('base', { protect: true })
}

/** Does an operation on `count` images, so many at a time. */
async function measure(operation: Operation, count: number, atATime: number): Promise<Measurement> {
  const latenciesMs: number[] = []
  let next = 0
  const work = async () => {
    while (next < count) {
      const name = `${prefix}-${next++}`
      const start = performance.now()
      await operations[operation](name)
      latenciesMs.push(performance.now() - start)
    }
  }
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  await Promise.all(Array.from({ length: atATime }, work))
  const elapsedMs = performance.now() - start
  const { user, system } = process.cpuUsage(cpuBefore)
  return { latenciesMs, elapsedMs, cpuMs: (user + system) / 1000 }
}

await serve({ prepare, measure })
await cluster.close()
