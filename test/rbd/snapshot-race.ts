/** A list of snapshots that is read while they come and go. librbd 16.2 by itself would abort the process. */
import t from 'tap'
import { type Image, MiB } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const rounds = 40

t.test('snapshots are listed while others make and remove them', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  const writer = await pool.openImage('disk')
  for (let i = 0; i < 20; i++) await writer.createSnapshot(`stays-${i}`)
  let going = true
  const listAll = async (image: Image): Promise<number> => {
    let fewest = Infinity
    while (going) fewest = Math.min(fewest, (await image.listSnapshots()).length)
    return fewest
  }
  const listers = [listAll(writer), listAll(writer), listAll(await pool.openImage('disk'))]
  for (let i = 0; i < rounds; i++) {
    await writer.createSnapshot('goes')
    await writer.snapshot('goes').remove()
  }
  going = false
  for (const fewest of await Promise.all(listers)) t.equal(fewest, 20, 'those that stay are in every list')
})
