import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import t from 'tap'
import { type CallReport, MiB } from '../lib/index.js'
import { testPool } from './support/cluster.js'

t.test('who listens to cephkit:call hears of each call', async t => {
  const pool = await testPool(t)
  const reports: CallReport[] = []
  const listener = (report: unknown) => void reports.push(report as CallReport)
  subscribe('cephkit:call', listener)
  t.teardown(() => unsubscribe('cephkit:call', listener))

  await t.test('that succeeds', async t => {
    await pool.createImage('disk', { size: MiB })
    t.match(reports.pop(), {
      operation: 'poolCreateImage',
      resource: { kind: 'image', name: `${pool.path}/disk` },
      durationMs: Number,
      error: undefined,
    })
  })

  await t.test('that fails, with what it was rejected with', async t => {
    const error = await pool.openImage('none').then(
      () => undefined,
      error => error,
    )
    const report = reports.pop()
    t.match(report, { operation: 'imageOpen', resource: { kind: 'image', name: `${pool.path}/none` } })
    t.equal(report?.error, error)
    t.match(error.stack, /call-report/, 'which has the stack of the caller all the same')
  })

  await t.test('that is aborted', async t => {
    const image = await pool.openImage('disk')
    const rejected = await image.flush({ signal: AbortSignal.abort() }).catch(error => error)
    t.equal(reports.pop()?.error, rejected)
    await image.resize(2 * MiB, { signal: new AbortController().signal })
    t.match(reports.pop(), { operation: 'imageResize' })
    await image.close()
  })

  await t.test('until it listens no more', async t => {
    unsubscribe('cephkit:call', listener)
    reports.length = 0
    await pool.removeImage('disk')
    t.same(reports, [])
  })
})
