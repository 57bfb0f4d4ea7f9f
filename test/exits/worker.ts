/** A worker thread may come and go with a cluster of its own, while others go on. */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { GiB, MiB } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { type Stage, stages } from '../support/life.js'

const life = fileURLToPath(new URL('../support/life.js', import.meta.url))

/** A thread at that stage of its life. */
async function livingThread(stage: Stage): Promise<Worker> {
  const worker = new Worker(life, { workerData: [stage] })
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return worker
}

t.test('a worker thread is terminated', async t => {
  const pool = await testPool(t)
  process.env.LIFE_NAMESPACE = pool.namespace
  for (const stage of stages) {
    await t.test(`with ${stage}`, async t => {
      await pool.createImage('disk', { size: 64 * MiB })
      const worker = await livingThread(stage)
      await t.resolves(worker.terminate())
      await pool.removeImage('disk')
    })
  }
})

t.test('a worker thread is terminated while its listener runs', async t => {
  const pool = await testPool(t)
  process.env.LIFE_NAMESPACE = pool.namespace
  await pool.createImage('disk', { size: MiB })
  const worker = await livingThread('listener running')
  await t.resolves(worker.terminate())
})

t.test('a worker thread is terminated in the middle of a long call, which stops', async t => {
  const pool = await testPool(t)
  process.env.LIFE_NAMESPACE = pool.namespace
  // Without a map of its objects, of which it has none, librbd goes over all four million.
  await pool.createImage('disk', { size: 16 * GiB, objectSize: 4096, features: ['layering'] })
  const worker = await livingThread('progress being reported')
  await worker.terminate()
  t.same((await rbdJson('status', `${pool.path}/disk`)).watchers, [], 'and the image is closed')
})

t.test('two worker threads have a cluster each, and the main thread another', async t => {
  const pool = await testPool(t)
  process.env.LIFE_NAMESPACE = pool.namespace
  await pool.createImage('disk', { size: 64 * MiB })
  const workers = await Promise.all([livingThread('watch open'), livingThread('many images open')])
  const disk = await pool.openImage('disk', { readOnly: true })
  t.equal(await disk.size(), 64 * MiB)
  await workers[0].terminate()
  t.equal((await disk.read(0, 4096)).length, 4096, 'the others go on')
  await workers[1].terminate()
  t.equal((await disk.read(0, 4096)).length, 4096)
})
