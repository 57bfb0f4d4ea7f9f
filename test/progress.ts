/** What onProgress is told of each call that takes its time. */
import t from 'tap'
import { testPool } from './support/cluster.js'
import { stopped, unstoppable } from './support/long-calls.js'

t.setTimeout(120_000)

/** What falls short of the total at the end, by how much. */
const shortBy: Record<string, number> = {
  'image.copy': 0,
  'image.deepCopy': 0,
  'pool.trash.purge': 0,
  'snapshot.remove with its clones': 0,
  'image.createSnapshot': 9, // of 10 attempts to have the users hold their I/O; nobody minded
}
const usually = 1

t.test('progress grows towards one total', async t => {
  for (const [name, { prepare, done }] of Object.entries({ ...stopped, ...unstoppable })) {
    const pool = await testPool(t)
    const call = await prepare(pool)
    const reports: [done: number, total: number][] = []
    await call({ onProgress: (...report) => reports.push(report) })
    t.equal(await done(pool), 1, `${name} is done`)
    const [, total = 0] = reports[0] ?? []
    t.same(
      reports.filter(([soFar, ofTotal], i) => ofTotal !== total || soFar > total || soFar < (reports[i - 1]?.[0] ?? 0)),
      [],
      `${name} of ${total}`,
    )
    t.ok((reports.at(-1)?.[0] ?? 0) >= total - (shortBy[name] ?? usually), `${name} ends at ${reports.at(-1)}`)
  }
})

t.test('an exception in onProgress ends the call as an abort does', async t => {
  const failure = new RangeError('cannot count so far')
  for (const name of ['image.flatten', 'image.rebuildObjectMap'] as const) {
    const { prepare, done } = stopped[name] ?? {}
    // One object at a time, so that there is a middle of the work, however busy the machine is.
    const observer = await testPool(t, { options: { rbd_concurrent_management_ops: '1' } })
    const pool = await observer.cluster.openPool('rbd', { namespace: observer.namespace })
    let reports = 0
    const call = (await prepare?.(pool))?.({
      onProgress() {
        reports++
        throw failure
      },
    })
    t.equal(await call?.catch(error => error), failure, name)
    await pool.close()
    t.equal(reports, 1)
    t.ok(((await done?.(observer)) ?? 1) < 0.9, 'and stops the work')
  }
})
