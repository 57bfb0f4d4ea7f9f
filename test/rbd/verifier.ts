/** Every byte of an image is what was written, whatever happens to the image at the same time. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Pool } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { python } from '../support/python.js'
import { type Change, type Expectation, firstImage, Verifier } from '../support/verifier.js'

const seed = Number(process.env.VERIFIER_SEED ?? Math.floor(Math.random() * 1e6))
t.comment(`VERIFIER_SEED=${seed}`)
t.setTimeout(240_000)

/** Discards are to the byte there, so that the model can say what they do. */
const exactPool = (t: Test) => testPool(t, { options: { rbd_skip_partial_discard: 'false' } })

async function exported(t: Test, pool: Pool, { imageName, snapshot }: Expectation): Promise<Buffer> {
  const file = join(t.testdir({}), 'image')
  await run('rbd', 'export', '--no-progress', `${pool.path}/${imageName}${snapshot ? `@${snapshot}` : ''}`, file)
  return readFile(file)
}

/** Of what is done to the image itself. */
const between = ['createSnapshot', 'readSnapshot', 'removeSnapshot', 'rollback', 'grow', 'shrink', 'clone', 'flatten']

t.test('ten thousand operations of 32 writers leave what the model says', async t => {
  const pool = await exactPool(t)
  const verifier = new Verifier(await firstImage(pool), { seed, operations: 10_000, depth: 32 })
  await verifier.run()
  t.comment(JSON.stringify(verifier.counts), `at most ${verifier.maxInFlight} in flight`)
  t.ok(verifier.maxInFlight >= 16, 'truly at once')
  const calls = Object.entries(verifier.counts)
  t.equal(
    calls.reduce((sum, [, count]) => sum + count, 0),
    10_000,
  )
  for (const kind of between) t.ok((verifier.counts[kind] ?? 0) > 0, `a ${kind} in between`)
  for (const [kind, count] of calls) if (/^write|^compare|^discard/.test(kind)) t.ok(count >= 100, `${count} ${kind}`)

  const [image, ...others] = verifier.expectations
  if (image) t.ok((await exported(t, pool, image)).equals(image.content), 'rbd export says the same')
  const snapshots = others.filter(({ snapshot }) => snapshot !== undefined)
  for (const snapshot of snapshots.slice(-2)) {
    t.ok((await exported(t, pool, snapshot)).equals(snapshot.content), `and of ${snapshot.snapshot}`)
  }
})

t.test('a model that forgets a change now and then is found out', async t => {
  class Forgetful extends Verifier {
    protected override apply(change: Change): void {
      if (change.number % 50 !== 0) super.apply(change)
    }
  }
  const verifier = new Forgetful(await firstImage(await exactPool(t)), { seed, operations: 500, depth: 16 })
  await t.rejects(verifier.run(), {
    message: new RegExp(
      `(wrong from byte \\d+, where there were|not as expected, and this came of it).*seed ${seed}$|^EILSEQ: not as expected at byte \\d`,
    ),
  })
})

t.test('a byte that somebody else has changed is found', async t => {
  const pool = await exactPool(t)
  const verifier = new Verifier(await firstImage(pool), { seed, operations: 100, depth: 16 })
  await verifier.run()
  const [image] = verifier.expectations
  await python(
    pool,
    `
with rbd.Image(ioctx, '${image?.imageName}') as image:
    offset = image.size() // 2
    image.write(bytes([image.read(offset, 1)[0] ^ 1]), offset)
`,
  )
  await t.rejects(verifier.check(), { message: /^generation-\d has .* wrong from byte \d+/ })
})
