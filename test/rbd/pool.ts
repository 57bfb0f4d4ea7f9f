import t from 'tap'
import { MiB } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'

t.test('imageStats adds up what rbd pool stats adds up', async t => {
  const pool = await testPool(t)
  const nothing = { images: 0, provisionedBytes: 0, maxProvisionedBytes: 0, snapshots: 0 }
  const noTrash = { trashImages: 0, trashProvisionedBytes: 0, trashMaxProvisionedBytes: 0, trashSnapshots: 0 }
  t.same(await pool.imageStats(), { ...nothing, ...noTrash })
  for (const name of ['a', 'b', 'c']) await run('rbd', 'create', '--size', '8M', `${pool.path}/${name}`)
  await run('rbd', 'snap', 'create', '--no-progress', `${pool.path}/a@one`)
  await run('rbd', 'resize', '--no-progress', '--allow-shrink', '--size', '2M', `${pool.path}/a`)
  await run('rbd', 'trash', 'mv', `${pool.path}/c`)

  const stats = await pool.imageStats()
  t.same(stats, {
    images: 2,
    provisionedBytes: 10 * MiB,
    maxProvisionedBytes: 16 * MiB,
    snapshots: 1,
    trashImages: 1,
    trashProvisionedBytes: 8 * MiB,
    trashMaxProvisionedBytes: 8 * MiB,
    trashSnapshots: 0,
  })
  t.match(await rbdJson('pool', 'stats', pool.path), {
    images: { count: 2, provisioned_bytes: stats.maxProvisionedBytes, snap_count: 1 },
    trash: { count: 1, provisioned_bytes: stats.trashMaxProvisionedBytes, snap_count: 0 },
  })
})
