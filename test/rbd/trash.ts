import t from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testCluster, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { until } from '../support/process.js'

const hour = 3600_000
const soon = () => new Date(Date.now() + 10_000)

t.test('an image goes to the trash and comes back', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  const [{ id } = { id: '' }] = await pool.listImages()
  t.same(await pool.trash.list(), [])
  await pool.trash.move('disk', { delay: hour })
  t.same(await pool.listImages(), [])
  const [entry] = await pool.trash.list()
  t.match(entry, { id, name: 'disk', source: 'user' })
  t.same(await pool.trash.get(id), entry)
  const [theirs] = await rbdJson('trash', 'ls', '--long', pool.path)
  t.match(theirs, { id, name: 'disk', source: 'USER' })
  t.equal(entry && entry.deferredUntil.getTime() - entry.deletedAt.getTime(), hour)

  await pool.trash.restore(id)
  t.same(await rbdJson('ls', pool.path), ['disk'])
  await run('rbd', 'trash', 'mv', `${pool.path}/disk`)
  t.match(await pool.trash.list(), [{ id, name: 'disk' }])
  await pool.trash.restore(id, { name: 'another' })
  t.same(await rbdJson('ls', pool.path), ['another'])
})

t.test('an image is removed from the trash when its time has come, or by force', async t => {
  const pool = await testPool(t)
  for (const [name, delay] of [
    ['now', 0],
    ['later', hour],
  ] as const) {
    await pool.createImage(name, { size: 8 * MiB, objectSize: 64 * 1024 })
    await pool.trash.move(name, { delay })
  }
  const [later, now] = await Promise.all(
    ['later', 'now'].map(async each => (await pool.trash.list()).find(({ name }) => name === each)?.id ?? ''),
  )
  const deferred = {
    name: 'ImageDeferredError',
    code: 'EPERM',
    syscall: 'rbd_trash_remove_with_progress',
    retryable: false,
  }
  await fails(t, {
    'too early': [() => pool.trash.remove(later ?? ''), { ...deferred, message: /deferred until \d{4}-/ }],
  })
  await pool.trash.remove(now ?? '')
  const reports: [number, number][] = []
  await pool.trash.remove(later ?? '', { force: true, onProgress: (...report) => reports.push(report) })
  t.same(await rbdJson('trash', 'ls', pool.path), [])
  t.ok(
    reports.every(([, total]) => total === 128),
    'progress is in objects',
  )
  t.notMatch(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls'), /rbd_header/)
})

t.test('what has lost some of its data does not come back', async t => {
  const pool = await testPool(t)
  const lose = async (name: string) => {
    await pool.createImage(name, { size: 64 * MiB, objectSize: 64 * 1024 })
    const image = await pool.openImage(name)
    await image.writeSame(0, 64 * MiB, Buffer.alloc(512, name))
    const { id } = await image.stat()
    await image.close()
    await pool.trash.move(name)
    return id
  }
  const aborted = await lose('aborted')
  {
    await using other = await pool.cluster.openPool(pool.name, { namespace: pool.namespace })
    const abort = new AbortController()
    const removing = other.trash.remove(aborted, { signal: abort.signal, onProgress: () => abort.abort('enough') })
    await t.rejects(removing, { name: 'AbortError' })
  }
  const givenUp = await lose('given up')
  const onProgress = () => {
    throw new Error('not now')
  }
  await t.rejects(pool.trash.remove(givenUp, { onProgress }), { message: 'not now' })
  for (const id of [aborted, givenUp]) {
    t.ok(await until(async () => (await stateInTrash(pool, id)) === 'removing', 10_000))
    await t.rejects(pool.trash.restore(id), { name: 'ImageBusyError', code: 'EBUSY', message: /removal has begun/ })
    await t.rejects(run('rbd', 'trash', 'restore', '--pool', pool.name, '--image-id', id))
    await pool.trash.remove(id)
  }
  t.same(await pool.trash.list(), [])
})

/** As librbd has it, in the last byte of the entry. */
async function stateInTrash(pool: Pool, id: string): Promise<string | undefined> {
  const { entries } = await pool.object('rbd_trash').getOmap([`id_${id}`])
  return ['normal', 'moving', 'removing', 'restoring'][entries.get(`id_${id}`)?.at(-1) ?? -1]
}

t.test('a delay is rounded up to whole seconds', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await pool.trash.move('disk', { delay: 1001 })
  const [entry] = await pool.trash.list()
  t.equal(entry && entry.deferredUntil.getTime() - entry.deletedAt.getTime(), 2000)
})

t.test('the longest delay is not over at once', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await pool.trash.move('disk', { delay: (2 ** 32 - 1) * 1000 })
  const [entry] = await pool.trash.list()
  t.equal(entry?.deferredUntil.getUTCFullYear(), 2106)
  await t.rejects(pool.trash.remove(entry?.id ?? ''), { name: 'ImageDeferredError' })
})

t.test('purge removes those whose delay is over', async t => {
  const pool = await testPool(t)
  for (const [name, delay] of [
    ['a', 0],
    ['b', 0],
    ['c', hour],
  ] as const) {
    await pool.createImage(name, { size: MiB })
    await pool.trash.move(name, { delay })
  }
  const left = async () => (await rbdJson('trash', 'ls', pool.path)).map(({ name }: { name: string }) => name)
  await pool.trash.purge({ expiredBefore: new Date(0) })
  t.same((await left()).length, 3, 'by then none was')
  await pool.trash.purge({ threshold: 100 })
  t.same((await left()).length, 3, 'and the pool is not that full')
  const reports: [number, number][] = []
  await pool.trash.purge({ expiredBefore: soon(), onProgress: (...report) => reports.push(report) })
  t.same(await left(), ['c'])
  t.same(reports.at(-1), [2, 2], 'progress is in images, and ends at the total')
  await pool.trash.purge()
  t.same(await left(), ['c'])
})

t.test('purge leaves those with snapshots, and says so', async t => {
  const pool = await testPool(t)
  for (const name of ['a', 'b', 'c']) {
    await pool.createImage(name, { size: MiB })
    if (name === 'b') await run('rbd', 'snap', 'create', '--no-progress', `${pool.path}/b@one`)
    await pool.trash.move(name)
  }
  await fails(t, {
    'one of them': [
      () => pool.trash.purge({ expiredBefore: soon() }),
      { name: 'ImageHasSnapshotsError', code: 'ENOTEMPTY', syscall: 'rbd_trash_purge_with_progress' },
    ],
  })
  t.match(await pool.trash.list(), [{ name: 'b' }])
})

t.test('what cannot be done', async t => {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  for (const name of ['kept', 'open', 'with a snapshot']) await pool.createImage(name, { size: MiB })
  await run('rbd', 'snap', 'create', '--no-progress', `${pool.path}/with a snapshot@one`)
  const ids = new Map((await pool.listImages()).map(({ name, id }) => [name, id]))
  const id = (name: string) => ids.get(name) ?? ''
  await using kept = await other.openImage('kept')
  await kept.exclusiveLock.acquire()
  await using open = await other.openImage('open')
  const missing = { name: 'ImageNotFoundError', code: 'ENOENT' }
  const busy = { name: 'ImageBusyError', code: 'EBUSY', retryable: true }
  await fails(t, {
    'move what is not there': [() => pool.trash.move('no'), { ...missing, resource: `${pool.path}/no` }],
    'move what somebody keeps locked': [() => pool.trash.move('kept'), busy],
  })
  for (const name of ['open', 'with a snapshot']) await pool.trash.move(name)
  await pool.createImage('open', { size: MiB })
  await fails(t, {
    'get what is not there': [() => pool.trash.get('no'), { ...missing, syscall: 'rbd_trash_get' }],
    'restore it': [() => pool.trash.restore('no'), { ...missing, resource: `${pool.path}/id no` }],
    'remove it': [() => pool.trash.remove('no'), missing],
    'restore to a name that is taken': [
      () => pool.trash.restore(id('open')),
      { name: 'ImageExistsError', code: 'EEXIST', syscall: 'rbd_trash_restore' },
    ],
    'remove what is open': [() => pool.trash.remove(id('open')), busy],
    'remove what has snapshots': [
      () => pool.trash.remove(id('with a snapshot')),
      { name: 'ImageHasSnapshotsError', code: 'ENOTEMPTY', syscall: 'rbd_trash_remove_with_progress' },
    ],
  })
  t.notOk(open.closed)
})
