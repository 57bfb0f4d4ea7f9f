/** A pool that has reached its quota, by objects and by bytes. */
import { channel } from 'node:diagnostics_channel'
import { finished } from 'node:stream/promises'
import t, { type Test } from 'tap'
import {
  type CallReport,
  type Cluster,
  MiB,
  NoSpaceError,
  type Pool,
  type WhenFull,
  WriteOperation,
} from '../../lib/index.js'
import { until } from '../support/broker.js'
import { run, testCluster } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { fill, isFull, type Quota, unfill } from '../support/full-pool.js'
import { ownPool } from '../support/own-cluster.js'

t.setTimeout(300_000)

/** All removed at once. */
const many = ['gone-1', 'gone-2', 'gone-3', 'gone-4']
const exceeded = { name: 'QuotaExceededError', code: 'EDQUOT', retryable: true }

for (const quota of ['max_objects', 'max_bytes'] as const) {
  t.test(`a pool at its quota of ${quota}`, async t => {
    const { cluster, name } = await newPool(t)
    const open = (whenFull: WhenFull) => cluster.openPool(name, { whenFull })
    await prepare(await open('wait'))
    await fill(name, quota)

    await t.test('lets writes wait unless told otherwise', async t => {
      const object = (await open('wait')).object('there')
      const waiting = object.setOmap({ waited: '' })
      await (await open('try')).object('there').setOmap({ later: '' })
      // An OSD does what one client sends of an object in order, so the first has not been sent.
      t.same([...(await object.getOmap(['waited', 'later'])).entries.keys()], ['later'])
      await unfill(name, quota)
      await waiting
      await fill(name, quota)
    })

    await t.test('fails what needs room, and nothing is left of it', async t => {
      const pool = await open('try')
      const disk = await pool.openImage('disk')
      const golden = await pool.openImage('golden')
      const plain = await pool.openImage('plain')
      await fails(t, {
        'an image': [() => pool.createImage('new', { size: MiB }), exceeded],
        'a clone': [() => pool.cloneImage({ imageName: 'golden', name: 'base' }, 'new'), exceeded],
        data: [() => disk.write(8 * MiB, Buffer.alloc(4096, 1)), exceeded],
        'a snapshot': [() => disk.createSnapshot('new'), { ...exceeded, resource: `${disk.path}@new` }],
        growth: [() => disk.resize(1024 * MiB), { ...exceeded, resource: disk.path }],
        'an object map': [() => plain.enableFeatures(['object-map']), { ...exceeded, resource: plain.path }],
        'a rollback': [() => golden.snapshot('base').rollback(), { ...exceeded, resource: `${golden.path}@base` }],
        'an object': [() => pool.object('new').writeFull('data'), exceeded],
        'more data': [() => pool.object('there').append('data'), exceeded],
      })
      t.same((await pool.listImages()).map(image => image.name).sort(), ['clone', 'disk', 'golden', ...many, 'plain'])
      t.same(await disk.listSnapshots(), [])
      t.same((await golden.listSnapshots()).length, 1)
      const { size, flags } = await disk.stat()
      t.same({ size, flags }, { size: 16 * MiB, flags: [] }, 'its object map is good')
      t.same((await plain.stat()).features, ['layering', 'exclusive-lock'])
      for (const image of [disk, golden, plain]) await image.close()
      t.same(await objectsOf(pool, /new|room/), [])
    })

    await t.test('fails with fua what librbd would take into its cache, and so do streams', async t => {
      const pool = await open('try')
      const disk = await pool.openImage('disk')
      await disk.flush()
      const data = Buffer.alloc(4096, 1)
      await fails(t, {
        'a write': [() => disk.write(8 * MiB, data, { fadvise: ['fua'] }), exceeded],
        'a stream': [() => finished(disk.createWriteStream({ start: 8 * MiB }).end(data)), exceeded],
      })
      await disk.close()
    })

    await t.test('does what needs none', async t => {
      const pool = await open('try')
      const object = pool.object('there')
      await object.setOmap({ key: 'value' })
      await object.setXattr('name', 'value')
      await object.lockExclusive('lock')
      const disk = await pool.openImage('disk')
      await disk.write(0, Buffer.alloc(4096, 2))
      await disk.metadata.set('key', 'value')
      await disk.resize(12 * MiB, { allowShrink: true })
      await disk.close()
      const again = await pool.openImage('disk', { readOnly: true })
      t.equal(await again.size(), 12 * MiB)
      t.equal((await again.read(0, 1))[0], 2)
      await again.close()
      t.same([...(await object.getOmap(['key'])).entries.keys()], ['key'])
    })

    await t.test('takes small records by force, and images no more than before', async t => {
      const pool = await open('force')
      await pool.object('forced').operate(new WriteOperation().create().setOmap({ key: 'value' }).writeFull('data'))
      t.equal((await pool.object('forced').read()).toString(), 'data')
      await fails(t, { 'an image': [() => pool.createImage('new', { size: MiB }), exceeded] })
    })

    await t.test('is made room in, also where there has been no trash yet', async t => {
      const pool = await open('try')
      await fails(t, { 'no such image': [() => pool.removeImage('none'), { name: 'ImageNotFoundError' }] })
      t.same(await objectsOf(pool, /^rbd_trash$/), [], 'which makes no trash')
      await Promise.all(many.map(name => pool.removeImage(name)))
      await pool.trash.move('disk')
      const [trashed] = await pool.trash.list()
      t.equal(trashed?.name, 'disk')
      await pool.trash.remove(trashed?.id ?? '')
      await pool.removeImage('clone')
      const golden = await pool.openImage('golden')
      await golden.snapshot('base').unprotect()
      await golden.snapshot('base').remove()
      await golden.close()
      await pool.removeImage('golden')
      await pool.removeImage('plain')
      t.same(await objectsOf(pool, /^rbd_(data|header|id|object_map)/), [])
      t.ok(await isFull(name), 'all that while it was full')
    })

    await t.test('moves the first image there is to the trash, too, from where it does not come back', async t => {
      await movesFirst(t, cluster, quota)
    })
  })
}

t.test('a rollback takes room where the data is', async t => {
  const { cluster, name } = await newPool(t)
  const { name: dataPool } = await newPool(t, cluster)
  const pool = await cluster.openPool(name, { whenFull: 'try' })
  await pool.createImage('disk', { size: 16 * MiB, dataPool })
  const disk = await pool.openImage('disk')
  const before = Buffer.alloc(4096, 1)
  const after = Buffer.alloc(4096, 2)
  await disk.write(0, before)
  const snapshot = await disk.createSnapshot('before')
  await disk.write(0, after)
  await disk.write(8 * MiB, after)
  await fill(dataPool, 'max_objects')
  await fails(t, { 'a rollback': [() => snapshot.rollback(), { ...exceeded, resource: snapshot.path }] })
  t.same([await disk.read(0, 4096), await disk.read(8 * MiB, 4096)], [after, after])
  const inData = await cluster.openPool(dataPool)
  t.same(await objectsOf(inData, /room/), [])
  await unfill(dataPool, 'max_objects')
  await fill(name, 'max_objects')
  await snapshot.rollback()
  t.same([await disk.read(0, 4096), await disk.read(8 * MiB, 4096)], [before, Buffer.alloc(4096)])
  t.same((await disk.stat()).flags, [], 'its object map is good')
  t.same(await objectsOf(inData, /room/), [])
  await disk.close()
})

t.test('an encrypted image grows when it becomes larger with its header', async t => {
  const { cluster, name } = await newPool(t)
  const pool = await cluster.openPool(name, { whenFull: 'try' })
  await pool.createImage('secret', { size: 63 * MiB })
  const secret = await pool.openImage('secret')
  await secret.formatEncryption({ format: 'luks1', passphrase: 'correct horse' })
  await fill(name, 'max_objects')
  const tooSmall = { name: 'ShrinkNotAllowedError' }
  await fails(t, {
    growth: [() => secret.resize(64 * MiB), exceeded],
    shrinking: [() => secret.resize(62 * MiB), tooSmall],
  })
  await secret.resize(60 * MiB, { allowShrink: true })
  t.equal(await secret.size(), 56 * MiB)
  await secret.close()
})

t.test('what asks for room leaves nothing, also if it is aborted', async t => {
  const { cluster, name } = await newPool(t)
  const pool = await cluster.openPool(name, { whenFull: 'try' })
  await pool.createImage('disk', { size: 16 * MiB })
  const disk = await pool.openImage('disk')
  for (let i = 0; i < 20; i++) {
    const stopping = new AbortController()
    const begun = whenCalled('imageStat')
    const created = disk.createSnapshot('new', { signal: stopping.signal })
    await begun
    stopping.abort()
    await t.rejects(created, { name: 'AbortError' })
  }
  await until('nothing to be left', async () => (await objectsOf(pool, /room/)).length === 0)
  t.same(await disk.listSnapshots(), [])
  await disk.close()
})

t.test('a pool whose OSDs are full', async t => {
  const { cluster, name } = await ownPool(t)
  const pool = await cluster.openPool(name, { whenFull: 'try' })
  await pool.createImage('disk', { size: 64 * MiB })
  await pool.createImage('gone', { size: MiB })
  const disk = await pool.openImage('disk')
  await disk.write(0, Buffer.alloc(64 * MiB, 1))
  // Of the 8 GiB that an OSD of the stack has; they have to be in order.
  const ratios = { nearfull: 0.001, backfillfull: 0.002, full: 0.003 }
  for (const [which, ratio] of Object.entries(ratios)) {
    await cluster.monCommand({ prefix: `osd set-${which}-ratio`, ratio })
  }
  const noSpace = { name: 'NoSpaceError', code: 'ENOSPC', retryable: true }
  await until('the OSDs to be full', async () => !(await hasRoom(pool)))
  await fails(t, {
    'an image': [() => pool.createImage('new', { size: MiB }), noSpace],
    'a snapshot': [() => disk.createSnapshot('new'), noSpace],
    growth: [() => disk.resize(1024 * MiB), noSpace],
  })
  const forced = await cluster.openPool(name, { whenFull: 'force' })
  await forced.object('forced').writeFull('data')
  await pool.removeImage('gone')
  await disk.close()
  await pool.removeImage('disk')
  await until('room', () => hasRoom(pool))
})

async function movesFirst(t: Test, cluster: Cluster, quota: Quota): Promise<void> {
  const { name } = await newPool(t, cluster)
  const pool = await cluster.openPool(name, { whenFull: 'try' })
  await pool.createImage('disk', { size: MiB })
  await pool.object('there').writeFull('data')
  await fill(name, quota)
  await pool.trash.move('disk')
  t.same(
    (await pool.trash.list()).map(entry => entry.name),
    ['disk'],
  )
  const [{ id } = { id: '' }] = await pool.trash.list()
  await fails(t, { 'a return': [() => pool.trash.restore(id), { ...exceeded, resource: `${pool.path}/id ${id}` }] })
  await pool.trash.remove(id)
  t.same(await pool.trash.list(), [])
}

/** Resolves as soon as such a call is over, when the next has been made. */
async function whenCalled(operation: string): Promise<void> {
  const calls = channel('cephkit:call')
  await new Promise<void>(resolve => {
    const onCall = (report: unknown) => {
      if ((report as CallReport).operation !== operation) return
      calls.unsubscribe(onCall)
      setImmediate(resolve)
    }
    calls.subscribe(onCall)
  })
}

async function newPool(t: Test, given?: Cluster): Promise<{ cluster: Cluster; name: string }> {
  const cluster = given ?? (await testCluster(t))
  const name = `full-${process.pid}-${Date.now()}`
  await run('ceph', 'osd', 'pool', 'create', name, '8')
  t.teardown(() => run('ceph', 'osd', 'pool', 'rm', name, name, '--yes-i-really-really-mean-it'))
  const pool = await cluster.openPool(name)
  await pool.initialize()
  await pool.close()
  return { cluster, name }
}

async function prepare(pool: Pool): Promise<void> {
  for (const name of ['disk', 'golden', ...many]) {
    await pool.createImage(name, { size: 16 * MiB })
    const image = await pool.openImage(name)
    await image.write(0, Buffer.alloc(MiB, 1))
    if (name === 'golden') await image.createSnapshot('base', { protect: true })
    await image.close()
  }
  await pool.cloneImage({ imageName: 'golden', name: 'base' }, 'clone')
  await pool.createImage('plain', { size: 16 * MiB, features: ['layering', 'exclusive-lock'] })
  await pool.object('there').writeFull('data')
  await pool.close()
}

async function objectsOf(pool: Pool, pattern: RegExp): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of pool.listObjects()) if (pattern.test(name)) names.push(name)
  return names
}

async function hasRoom(pool: Pool): Promise<boolean> {
  try {
    await pool.object('probe').append('data')
    return true
  } catch (error) {
    if (error instanceof NoSpaceError) return false
    throw error
  }
}
