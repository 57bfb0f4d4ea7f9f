/** What is left of a snapshot that a task made and did not come to mark, where taking it back was cut short, too. */
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { ownName } from '../../src/volumes/mark.js'
import { makeOwn, removeMade } from '../../src/volumes/snapshots.js'
import { testPool } from '../support/cluster.js'
import { detachChild } from '../support/cut-off.js'

const maker = { agent: 'agent', task: 'task' }

for (const [what, work] of Object.entries({ 'taken back': removeMade, 'made anew': makeOwn }))
  t.test(`is gone when it is ${what}`, async t => {
    const pool = await testPool(t)
    await pool.createImage('disk', { size: MiB })
    await using image = await pool.openImage('disk')
    const half = await image.createSnapshot(ownName(maker))
    const other = await image.createSnapshot('other')
    // As librbd leaves them: in its trash, and there for nobody.
    for (const [snapshot, name] of [
      [half, 'clone'],
      [other, 'other'],
    ] as const) {
      await pool.cloneImage(snapshot, name, { cloneFormat: 2 })
      await snapshot.remove()
      await using clone = await pool.openImage(name)
      await detachChild(clone)
    }
    t.match(await image.listSnapshots(), [{ clones: 0 }, { clones: 0 }])
    await work(image, maker)
    const left = (await image.listSnapshots()).filter(({ clones }) => clones === 0)
    t.match(left, [{ originalName: 'other' }], 'and nothing else')
    t.equal(left.length, 1)
  })
