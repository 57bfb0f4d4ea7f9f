/** What the program forgot to close is closed when it is collected, and not before. */
import t from 'tap'
import { Cluster, MiB } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { collectGarbage, threads, until } from '../support/process.js'

async function watcherCount(imagePath: string): Promise<number> {
  return (await rbdJson('status', imagePath)).watchers.length
}

t.test('images that are dropped are closed', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  const path = `${pool.path}/disk`
  await (async () => {
    const images = await Promise.all(Array.from({ length: 20 }, () => pool.openImage('disk')))
    t.equal(await watcherCount(path), 20)
    t.notOk(images.some(image => image.closed))
  })()
  collectGarbage()
  t.ok(await until(async () => (await watcherCount(path)) === 0, 5000))
})

t.test('an image keeps its pool and its cluster', async t => {
  const path = (await testPool(t)).path
  const image = await (async () => {
    const cluster = await Cluster.connect()
    const [name = '', namespace] = path.split('/')
    const pool = await cluster.openPool(name, { namespace })
    await pool.createImage('disk', { size: MiB })
    return pool.openImage('disk')
  })()
  for (let i = 0; i < 5; i++) {
    collectGarbage()
    t.equal((await image.read(0, 512)).length, 512)
  }
  await image.close()
})

t.test('a call in flight ends well when its image is dropped', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 64 * MiB })
  const reads = await (async () => {
    const image = await pool.openImage('disk')
    return { all: Array.from({ length: 64 }, (_, i) => image.read(i * MiB, MiB)) }
  })()
  collectGarbage()
  const lengths = (await Promise.all(reads.all)).map(data => data.length)
  t.strictSame(lengths, Array(64).fill(MiB))
})

t.test('watches that are closed are collected, with what their listeners hold', async t => {
  const pool = await testPool(t)
  await pool.object('watched').writeFull('')
  let collected = 0
  const registry = new FinalizationRegistry(() => collected++)
  for (let i = 0; i < 20; i++) {
    const watch = await pool.object('watched').watch(() => void watch.closed)
    registry.register(watch, i)
    await watch.close()
  }
  const soon = () => {
    collectGarbage()
    return collected >= 19 // the last may still be in a register
  }
  t.ok(await until(soon, 5000), `${collected} of 20`)
})

t.test('clusters that are dropped are closed, with their threads', async t => {
  const before = threads()
  await (async () => {
    for (let i = 0; i < 5; i++) await (await Cluster.connect()).fsid()
  })()
  t.ok(threads() > before + 5)
  t.ok(
    await until(() => {
      collectGarbage()
      return threads() <= before + 5
    }, 5000),
    'only workers are left',
  )
})
