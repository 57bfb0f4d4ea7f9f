import t from 'tap'
import { MiB } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

t.test('an image is renamed', async t => {
  const pool = await testPool(t)
  await run('rbd', 'create', '--size', '8M', `${pool.path}/before`)
  const { id } = await rbdJson('info', `${pool.path}/before`)
  await pool.createImage('taken', { size: MiB })
  await pool.renameImage('before', 'after')
  t.equal((await rbdJson('info', `${pool.path}/after`)).id, id)
  t.same(await rbdJson('ls', pool.path), ['after', 'taken'])

  await using image = await pool.openImage('after')
  await pool.renameImage('after', 'again')
  t.equal(image.name, 'after', 'an open one keeps the name it was opened by')
  t.equal((await image.stat()).name, 'after')

  const call = { syscall: 'rbd_rename' }
  await fails(t, {
    'but one that is not there': [() => pool.renameImage('before', 'x'), { ...call, name: 'ImageNotFoundError' }],
    'and to no name that is taken': [() => pool.renameImage('again', 'taken'), { ...call, name: 'ImageExistsError' }],
    'nor to its own': [() => pool.renameImage('taken', 'taken'), { ...call, name: 'ImageExistsError' }],
  })
})

t.test('an image is removed, with all of its data', async t => {
  const pool = await testPool(t)
  await run('rbd', 'create', '--size', '8M', '--object-size', '64K', `${pool.path}/disk`)
  await run('rbd', 'bench', '--io-type', 'write', '--io-size', '64K', '--io-total', '8M', `${pool.path}/disk`)
  const objects = async () => (await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls')).match(/^rbd_data\./gm)
  t.equal((await objects())?.length, 128)
  const reports: number[] = []
  await pool.removeImage('disk', { onProgress: (done, total) => reports.push(done, total) })
  t.equal(await objects(), null)
  t.same(await rbdJson('ls', pool.path), [])
  t.equal(reports[1], 128, 'progress is in objects')
})

t.test('an image that cannot be removed', async t => {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  for (const name of ['open', 'with a snapshot']) await pool.createImage(name, { size: MiB })
  await run('rbd', 'snap', 'create', `${pool.path}/with a snapshot@one`)
  await using image = await other.openImage('open')
  const call = { syscall: 'rbd_remove_with_progress', retryable: false }
  await fails(t, {
    'is not there': [() => pool.removeImage('no'), { ...call, name: 'ImageNotFoundError', code: 'ENOENT' }],
    'has snapshots': [
      () => pool.removeImage('with a snapshot'),
      { ...call, name: 'ImageHasSnapshotsError', code: 'ENOTEMPTY' },
    ],
    'is open': [() => pool.removeImage('open'), { ...call, name: 'ImageBusyError', code: 'EBUSY', retryable: true }],
  })
  await image.close()
  await t.resolves(pool.removeImage('open'), 'until it is closed')
})
