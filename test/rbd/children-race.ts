/** A list of clones that is read while they come and go, and with each the snapshot that it was made of. */
import t from 'tap'
import { type Image, MiB } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const rounds = 10

t.test('clones are listed while others make and remove them', async t => {
  const pool = await testPool(t)
  await pool.createImage('golden', { size: MiB })
  const golden = await pool.openImage('golden')
  const clone = async (name: string) => {
    const snapshot = await golden.createSnapshot(name)
    await pool.cloneImage(snapshot, name, { cloneFormat: 2 })
    // It stays until the clone goes.
    await snapshot.remove()
  }
  for (let i = 0; i < 3; i++) await clone(`stays-${i}`)
  let going = true
  const listAll = async (open: () => Promise<Image>): Promise<number> => {
    let fewest = Infinity
    while (going) {
      const image = await open()
      fewest = Math.min(fewest, (await image.children()).length, (await image.descendants()).length)
      if (image !== golden) await image.close()
    }
    return fewest
  }
  const openReadOnly = () => pool.openImage('golden', { readOnly: true })
  const listers = [listAll(async () => golden), listAll(openReadOnly), listAll(openReadOnly), listAll(openReadOnly)]
  for (let i = 0; i < rounds; i++) {
    await clone('goes')
    await pool.removeImage('goes')
  }
  going = false
  for (const fewest of await Promise.all(listers)) t.equal(fewest, 3, 'those that stay are in every list')
})

t.test('who lists the clones of an image holds up nobody who writes to it', async t => {
  const pool = await testPool(t)
  await pool.createImage('golden', { size: MiB })
  const golden = await pool.openImage('golden')
  for (const name of ['a', 'b']) await pool.cloneImage(await golden.createSnapshot(name), name, { cloneFormat: 2 })
  const deadline = AbortSignal.timeout(10_000)
  let going = true
  const listAll = async () => {
    while (going && !deadline.aborted) await golden.children()
  }
  const listers = Array.from({ length: 12 }, listAll)
  for (let i = 0; i < 3; i++) {
    const snapshot = await golden.createSnapshot('of-now')
    await golden.write(0, Buffer.alloc(4096, i))
    await snapshot.remove()
  }
  t.notOk(deadline.aborted, 'done while the lists go on')
  going = false
  await Promise.all(listers)
})

t.test('clones of a snapshot are listed when it has another name, or none', async t => {
  const pool = await testPool(t)
  await pool.createImage('golden', { size: MiB })
  const golden = await pool.openImage('golden')
  const snapshot = await golden.createSnapshot('of-now')
  await pool.cloneImage(snapshot, 'clone', { cloneFormat: 2 })
  for (const readOnly of [true, false]) {
    const at = await pool.openImage('golden', { snapshot: 'of-now', readOnly })
    await snapshot.rename('before')
    t.match(await at.children(), [{ name: 'clone' }], 'renamed')
    await golden.createSnapshot('of-now')
    t.match(await at.children(), [{ name: 'clone' }], 'and another one has its name')
    await golden.snapshot('of-now').remove()
    await golden.snapshot('before').rename('of-now')
    await at.close()
  }
  const at = await pool.openImage('golden', { snapshot: 'of-now' })
  await snapshot.remove()
  t.match(await at.children(), [{ name: 'clone' }], 'removed, and kept for its clone')
})
