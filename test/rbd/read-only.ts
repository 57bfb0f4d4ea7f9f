/** An image that is opened read-only, or at a snapshot, or that mirrors another, is not changed by any method. */
import t from 'tap'
import { type Image, MiB } from '../../lib/index.js'
import { run, testPool, testWholePool } from '../support/cluster.js'

const changes: Record<string, (image: Image) => Promise<unknown>> = {
  resize: image => image.resize(2 * MiB),
  shrink: image => image.resize(1, { allowShrink: true }),
  write: image => image.write(0, Buffer.from('x')),
  writev: image => image.writev(0, [Buffer.from('x')]),
  discard: image => image.discard(0, 4096),
  writeZeroes: image => image.writeZeroes(0, 4096),
  writeSame: image => image.writeSame(0, 4096, Buffer.from('x')),
  compareAndWrite: image => image.compareAndWrite(0, Buffer.from('x'), Buffer.from('y')),
  flatten: image => image.flatten(),
  sparsify: image => image.sparsify(),
  rebuildObjectMap: image => image.rebuildObjectMap(),
  enableFeatures: image => image.enableFeatures(['journaling']),
  disableFeatures: image => image.disableFeatures(['object-map']),
  createSnapshot: image => image.createSnapshot('new'),
  setSnapshotLimit: image => image.setSnapshotLimit(5),
  protect: image => image.snapshot('one').protect(),
  unprotect: image => image.snapshot('protected').unprotect(),
  rename: image => image.snapshot('one').rename('two'),
  rollback: image => image.snapshot('one').rollback(),
  remove: image => image.snapshot('one').remove(),
  'metadata.set': image => image.metadata.set('key', 'value'),
  'metadata.remove': image => image.metadata.remove('key'),
  'config.set': image => image.config.set('rbd_cache', 'false'),
  'config.setQos': image => image.config.setQos({ iops: { limit: 1 } }),
}

const readOnly = { name: 'ReadOnlyImageError', code: 'EROFS', retryable: false }

t.test('an image opened', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  await image.createSnapshot('one')
  await image.createSnapshot('protected', { protect: true })
  for (const options of [{ readOnly: true }, { snapshot: 'one' }]) {
    await using reader = await pool.openImage('disk', options)
    for (const [name, change] of Object.entries(changes)) {
      await t.rejects(change(reader), readOnly, `${JSON.stringify(options)} refuses ${name}`)
    }
  }
})

t.test('an image that rbd-mirror keeps as a copy of another', async t => {
  const pool = await testWholePool(t)
  await run('rbd', 'mirror', 'pool', 'enable', pool.name, 'image')
  // Without a peer, there are no copies by snapshots.
  await run('rbd', 'mirror', 'pool', 'peer', 'add', pool.name, 'client.nobody@elsewhere')
  const demoted = async (mode: string) => {
    await pool.createImage(mode, { size: MiB })
    {
      await using image = await pool.openImage(mode)
      await image.createSnapshot('one')
      await image.createSnapshot('protected', { protect: true })
    }
    await run('rbd', 'mirror', 'image', 'enable', `${pool.name}/${mode}`, mode)
    await run('rbd', 'mirror', 'image', 'demote', `${pool.name}/${mode}`)
    return pool.openImage(mode)
  }
  await using bySnapshot = await demoted('snapshot')
  for (const [change, make] of Object.entries(changes)) {
    await t.rejects(make(bySnapshot), readOnly, `refuses ${change}`)
  }
  await using byJournal = await demoted('journal')
  // To others, librbd has another answer, such as EPERM to a write.
  const common = ['resize', 'disableFeatures', 'createSnapshot', 'protect', 'rename', 'metadata.set']
  for (const [change, make] of Object.entries(changes).filter(([change]) => common.includes(change))) {
    await t.rejects(make(byJournal), readOnly, `with a journal, refuses ${change}`)
  }
})
