/** A thousand lives of an image leave nothing behind. */
import t from 'tap'
import { GiB, type Pool } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { collectGarbage, fileDescriptors, residentMiB, threads, until } from '../support/process.js'

const cycles = 1000
const warmUp = 100
/** Of which the least resident memory counts: how much of it V8 has at a moment differs by tens of MiB. */
const measured = 300
const atOnce = 10
/** Workers without work end after ten seconds. */
const idleLimitMs = 15_000

async function cycle(pool: Pool, i: number): Promise<void> {
  const name = `disk-${i}`
  await pool.createImage(name, { size: GiB })
  const image = await pool.openImage(name)
  await image.write(0, Buffer.alloc(4096, i))
  await image.close()
  await pool.removeImage(name)
}

/** Answers how many MiB were resident at least. */
async function run(pool: Pool, from: number, to: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let i = from; i < to; i += atOnce) {
    await Promise.all(Array.from({ length: atOnce }, (_, n) => cycle(pool, i + n)))
    collectGarbage()
    least = Math.min(least, residentMiB())
  }
  return least
}

t.test('a thousand images are made, written to and removed', async t => {
  const pool = await testPool(t)
  await run(pool, 0, warmUp)
  const before = { threads: threads(), fileDescriptors: fileDescriptors() }
  const least: number[] = []
  for (let from = warmUp; from < cycles; from += measured) least.push(await run(pool, from, from + measured))
  t.ok(await until(() => threads() <= before.threads, idleLimitMs), `${before.threads} threads, then ${threads()}`)
  t.equal(fileDescriptors(), before.fileDescriptors)
  // What is kept for ever is kept in each round.
  const grown = Math.min(...least.slice(1).map((late, i) => late - (least[i] ?? 0)))
  t.ok(grown < 3.5, `resident memory grew by ${grown.toFixed(1)} MiB in ${measured} cycles`)
  t.strictSame(await rbdJson('ls', pool.path), [])
})
