/** What `storage.create` does in RBD, by the bare library: no broker, no journal. */
import { randomUUID } from 'node:crypto'
import { Cluster, MiB } from '../../lib/index.js'
import { baseSnapshot } from '../../src/catalog.js'
import { forEachLimited } from '../../src/concurrency.js'
import { writeStamp } from '../../src/volumes/stamp.js'
import { serve } from './serve.js'

/** Of one turn. */
export interface Usage {
  elapsedMs: number
  /** Of the whole process, user and system, the threads of Ceph's libraries included. */
  cpuMs: number
}

const [volumesName = '', catalogName = '', imageId = '', sizeMB = ''] = process.argv.slice(2)
const sizeBytes = Number(sizeMB) * MiB
const cluster = await Cluster.connect()
const volumes = await cluster.openPool(volumesName)
const catalog = await cluster.openPool(catalogName)

const removedAtOnce = 64

/** Call for call what a job does. */
async function createOne(): Promise<void> {
  const task = randomUUID()
  const name = `acme-web-${task}`
  await volumes.cloneImage({ pool: catalog, imageName: imageId, name: baseSnapshot }, name)
  await using image = await volumes.openImage(name)
  const { id, size } = await image.stat()
  if (size < sizeBytes) await image.resize(sizeBytes)
  await image.parent()
  await writeStamp(image, { image: id, agent: 'bench', task, tenant: 'acme', createdAt: new Date().toISOString() })
}

async function create(count: number, atOnce: number): Promise<Usage> {
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  await forEachLimited(Array(count).keys(), atOnce, createOne)
  const elapsedMs = performance.now() - start
  const { user, system } = process.cpuUsage(cpuBefore)
  return { elapsedMs, cpuMs: (user + system) / 1000 }
}

/** Removes all volumes, whoever has made them. */
async function clear(): Promise<void> {
  await forEachLimited(await volumes.listImages(), removedAtOnce, ({ name }) => volumes.removeImage(name))
}

await serve({ create, clear })
await cluster.close()
