import t from 'tap'
import { MiB } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

t.test('flatten', async t => {
  const pool = await testPool(t)
  await pool.createImage('golden', { size: 8 * MiB })
  await using golden = await pool.openImage('golden')
  await golden.write(4 * MiB, Buffer.alloc(MiB, 'golden'))
  const base = await golden.createSnapshot('base', { protect: true })
  await pool.cloneImage(base, 'clone')
  await using clone = await pool.openImage('clone')

  await t.test('makes a clone an image of its own', async t => {
    const reports: [number, number][] = []
    await clone.flatten({ onProgress: (...report) => reports.push(report) })
    t.equal(await clone.parent(), null)
    t.notOk('parent' in (await rbdJson('info', clone.path)))
    t.equal(await python(pool, `answer(rbd.Image(ioctx, 'clone', read_only=True).read(4 << 20, 12))`), 'goldengolden')
    t.ok(
      reports.every(([, total]) => total === 2),
      'progress is in objects',
    )
    await base.unprotect()
    await t.resolves(run('rbd', 'snap', 'rm', base.path), 'and the parent needs it no more')
  })

  await t.test('is for clones only', async t => {
    const refused = { name: 'InvalidArgumentError', code: 'EINVAL', message: /is no clone/ }
    await fails(t, { 'no clone': [() => clone.flatten(), refused] })
  })

  await t.test('by rbd shows here', async t => {
    await pool.cloneImage(await golden.createSnapshot('again'), 'second', { cloneFormat: 2 })
    await using second = await pool.openImage('second')
    t.ok(await second.parent())
    await run('rbd', 'flatten', second.path)
    t.equal(await second.parent(), null)
  })
})
