import t from 'tap'
import { MiB } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const opens = 20

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

t.test('opening an image computes for long, and not on the JavaScript thread', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  const blockedShares: number[] = []
  for (let i = 0; i < opens; i++) {
    const start = performance.now()
    const opening = pool.openImage('disk')
    const blocked = performance.now() - start
    const image = await opening
    blockedShares.push(blocked / (performance.now() - start))
    await image.close()
  }
  // A third when librbd's part before the first round trip ran here.
  t.ok(median(blockedShares) < 0.2, `${median(blockedShares)} of the time`)
})
