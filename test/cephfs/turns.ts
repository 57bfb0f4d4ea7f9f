/** Calls that wait for their turn on a mount. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { inTurn, limitFrom, Turns } from '../../lib/cephfs/calls.js'
import { until } from '../support/process.js'

const mount = { kind: 'mount', name: '/mount' } as const
const late = { name: 'TimeoutError', message: /the mount hangs/ }

t.test('a mount hangs only when a call has had all its time', async t => {
  const turns = new Turns(1)
  await t.test('one that had to wait for its turn', async t => {
    t.ok(turns.take())
    const limit = limitFrom(1000)
    limit.latest = performance.now() + 20
    const call = inTurn(turns, limit, mount, {}, () => delay(300))
    await t.rejects(call, late, 'nobody waits longer for it than for others')
    t.equal(turns.late, 0)
    t.ok(await until(() => turns.take(), 10_000), 'it has come back')
    turns.give()
    t.equal(turns.late, 0)
  })
  await t.test('one that does not come back either', async t => {
    t.ok(turns.take())
    const limit = limitFrom(200)
    limit.latest = performance.now() + 20
    await t.rejects(
      inTurn(turns, limit, mount, {}, () => delay(3000)),
      late,
    )
    t.equal(turns.late, 0)
    t.ok(await until(() => turns.late === 1, 2000))
    t.ok(await until(() => turns.late === 0, 10_000), 'now it has')
  })
  await t.test('one that had its turn at once', async t => {
    t.ok(turns.take())
    await t.rejects(
      inTurn(turns, limitFrom(100), mount, {}, () => delay(1500)),
      late,
    )
    t.equal(turns.late, 1)
    t.ok(await until(() => turns.late === 0, 10_000))
  })
})
