import t from 'tap'
import { MiB } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'

t.test('resize', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 8 * MiB })
  const image = await pool.openImage('disk')

  await t.test('grows, and rbd sees it', async t => {
    await image.resize(16 * MiB)
    t.equal(await image.size(), 16 * MiB)
    t.equal((await rbdJson('info', image.path)).size, 16 * MiB)
  })

  await t.test('shrinks only when asked', async t => {
    await t.rejects(image.resize(4 * MiB), { name: 'ShrinkNotAllowedError', code: 'EINVAL', syscall: 'rbd_resize2' })
    t.equal(await image.size(), 16 * MiB, 'the refused resize changed nothing')
    await image.resize(4 * MiB, { allowShrink: true })
    t.equal(await image.size(), 4 * MiB)
  })

  await t.test('reports objects that it discards', async t => {
    await image.resize(16 * MiB)
    await image.write(0, Buffer.alloc(16 * MiB, 1))
    const reports: [number, number][] = []
    await image.resize(4 * MiB, { allowShrink: true, onProgress: (...report) => reports.push(report) })
    t.ok(reports.length > 0 && reports.every(([done, total]) => done <= total && total === 4))
    t.equal((await rbdJson('du', image.path)).images[0].used_size, 4 * MiB)
  })

  await t.test('is bounded by the object map', async t => {
    const tooLarge = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_resize2' }
    await t.rejects(image.resize(Number.MAX_SAFE_INTEGER), tooLarge)
    t.equal(await image.size(), 4 * MiB)
  })

  await t.test('is waited for by close', async t => {
    const resizing = image.resize(32 * MiB)
    await image.close()
    await t.resolves(resizing)
    t.equal((await rbdJson('info', image.path)).size, 32 * MiB)
  })
})
