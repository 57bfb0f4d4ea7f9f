/** What a listing tells without opening the images, beside what each tells when it is opened, and beside `rbd ls -l`. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { type ImageDetails, KiB, MiB, type Pool, type UnreadableImage } from '../../lib/index.js'
import { operationsOf } from '../../scripts/bench/osd.js'
import { rbdJson, run, testCluster, testPool, testWholePool } from '../support/cluster.js'
import { ownPool } from '../support/own-cluster.js'
import { python } from '../support/python.js'

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** As the methods of an open image tell it. */
async function opened(pool: Pool, name: string, id: string): Promise<ImageDetails> {
  await using image = await pool.openImage(name, { readOnly: true })
  const { size, objectSize, format, features, flags, createdAt, accessedAt, modifiedAt, overlap } = await image.stat()
  const parent = await image.parent()
  const snapshots = await image.listSnapshots()
  return {
    ...{ name, id, size, objectSize, format, features, flags, createdAt, accessedAt, modifiedAt, snapshots },
    parent: parent && { ...parent, overlap },
  }
}

/** The rows of `rbd ls -l`, of what a listing has told. */
function asRbdLists(images: (ImageDetails | UnreadableImage)[]): Record<string, unknown>[] {
  return images.flatMap(image => {
    if (image.error) return []
    const { name, id, format, parent } = image
    const of = parent && {
      parent: {
        pool: parent.pool,
        pool_namespace: parent.namespace,
        image: parent.name,
        snapshot: parent.snapshot.name,
      },
    }
    const own = { image: name, id, size: image.size, ...of, format }
    const snapshots = image.snapshots.filter(({ namespace }) => namespace === 'user')
    return [own, ...snapshots.map(snapshot => ({ ...rowOf(snapshot), image: name, id, ...of, format }))]
  })
}

const rowOf = ({ id, name, size, protected: kept }: ImageDetails['snapshots'][number]) => ({
  snapshot: name,
  snapshot_id: id,
  size,
  protected: String(kept),
})

/** `rbd` lists in the order in which the images are opened; and locks, which a listing does not tell. */
function inOneOrder(rows: Record<string, unknown>[]): object[] {
  const key = ({ image, snapshot_id: id = 0 }: Record<string, unknown>) => `${image} ${String(id).padStart(20)}`
  return rows.map(({ lock_type, ...row }) => row).sort((a, b) => key(a).localeCompare(key(b)))
}

async function sameAsOpenedAndListedByRbd(t: Test, pool: Pool): Promise<void> {
  const details = await collect(pool.listImageDetails())
  const images = await pool.listImages()
  t.ok(images.length > 0)
  t.same(new Set(details.map(({ name }) => name)), new Set(images.map(({ name }) => name)))
  for (const image of details) t.same(image, await opened(pool, image.name, image.id), image.name)
  t.same(inOneOrder(asRbdLists(details)), inOneOrder(await rbdJson('ls', '-l', pool.path)))
}

async function snapshot(pool: Pool, name: string, ...snapshots: string[]): Promise<void> {
  await using image = await pool.openImage(name)
  for (const each of snapshots) await image.createSnapshot(each)
}

t.test('a listing tells what the open images would', async t => {
  const pool = await testPool(t)
  t.same(await collect(pool.listImageDetails()), [], 'nothing where nothing is')

  await pool.createImage('plain', { size: 10 * MiB })
  await pool.createImage('empty', { size: 0 })
  await pool.createImage('Ünïcødé 象', { size: 3, objectSize: 64 * KiB })
  await pool.createImage('bare', { size: MiB, features: [] })
  await snapshot(pool, 'bare', 'one')
  await pool.createImage('striped', { size: 9 * MiB, objectSize: MiB, stripeUnit: 64 * KiB, stripeCount: 3 })
  await pool.createImage('map not built', { size: MiB, features: ['layering', 'exclusive-lock'] })
  await using lacksMap = await pool.openImage('map not built')
  await lacksMap.enableFeatures(['object-map', 'fast-diff'])

  await pool.createImage('golden', { size: 8 * MiB })
  await using golden = await pool.openImage('golden')
  const base = await golden.createSnapshot('base', { protect: true })
  await golden.resize(16 * MiB)
  const loose = await golden.createSnapshot('loose')
  for (const cloneFormat of [1, 2] as const) await pool.cloneImage(base, `clone-${cloneFormat}`, { cloneFormat })
  await pool.cloneImage(loose, 'of one in the trash', { cloneFormat: 2 })
  await loose.remove()
  t.same(new Set((await golden.listSnapshots()).map(each => each.namespace)), new Set(['user', 'trash']))
  await pool.cloneImage(base, 'shrunk', { cloneFormat: 2 })
  await using shrunk = await pool.openImage('shrunk')
  await shrunk.resize(MiB, { allowShrink: true })
  await shrunk.createSnapshot('small')
  await pool.cloneImage(base, 'shrunk to nothing', { cloneFormat: 2 })
  await using gone = await pool.openImage('shrunk to nothing')
  await gone.resize(0, { allowShrink: true })
  await gone.resize(4 * MiB)

  await pool.createImage('discarded', { size: 8 * MiB })
  await snapshot(pool, 'discarded', 'base')
  await pool.cloneImage({ imageName: 'discarded', name: 'base' }, 'of an image in the trash', { cloneFormat: 2 })
  await pool.trash.move('discarded')

  await pool.createImage('grouped', { size: MiB })
  await run('rbd', 'group', 'create', `${pool.path}/group`)
  await run('rbd', 'group', 'image', 'add', `${pool.path}/group`, `${pool.path}/grouped`)
  await run('rbd', 'group', 'snap', 'create', `${pool.path}/group@all`)
  await sameAsOpenedAndListedByRbd(t, pool)

  const elsewhere = await testPool(t)
  await elsewhere.cloneImage({ pool, imageName: 'golden', name: 'base' }, 'clone', { cloneFormat: 2 })
  await sameAsOpenedAndListedByRbd(t, elsewhere)
})

t.test('more snapshots than are asked for at once', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await snapshot(pool, 'disk', ...Array.from({ length: 70 }, (_, i) => `snapshot-${i}`))
  await sameAsOpenedAndListedByRbd(t, pool)
})

t.test('images of the old format, and in migration, are opened', async t => {
  const pool = await testWholePool(t)
  const env = { ...process.env, RBD_FORCE_ALLOW_V1: '1' }
  const create = ['create', '--image-format', '1', '--size', '5M', `${pool.path}/old`]
  await promisify(execFile)('rbd', create, { env })
  await snapshot(pool, 'old', 'one')
  await sameAsOpenedAndListedByRbd(t, pool)
  await pool.createImage('new', { size: MiB })
  await pool.createImage('moves', { size: 2 * MiB })
  await snapshot(pool, 'moves', 'one')
  await run('rbd', 'migration', 'prepare', `${pool.path}/moves`, `${pool.path}/moved`)
  await sameAsOpenedAndListedByRbd(t, pool)
  const [old] = (await collect(pool.listImageDetails())).filter(each => each.name === 'old')
  t.match(old, { id: '', format: 1, size: 5 * MiB, features: [], snapshots: [{ name: 'one' }] })
})

/** What the directory says of an image: its name, and its id, as Ceph encodes a string. */
const entry = (name: string, id: string): [string, Buffer] => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(Buffer.byteLength(id))
  return [`name_${name}`, Buffer.concat([length, Buffer.from(id)])]
}

const numbered = (i: number) => `many-${String(i).padStart(5, '0')}`

/** A directory with many names for one image: as much to list, and soon made. */
async function manyNames(pool: Pool, count: number): Promise<void> {
  await pool.createImage('disk', { size: MiB })
  const [disk] = await pool.listImages()
  const entries = Array.from({ length: count }, (_, i) => entry(numbered(i), disk?.id ?? ''))
  await pool.object('rbd_directory').setOmap(new Map(entries))
}

t.test('a listing of many', async t => {
  const count = 2500 // more than two pages
  const pool = await ownPool(t)
  await manyNames(pool, count)
  const names = ['disk', ...Array.from({ length: count }, (_, i) => numbered(i))]

  await t.test('has each once, in the order of the names, at one round trip each', async t => {
    const before = await operationsOf(pool.cluster)
    const details = await collect(pool.listImageDetails())
    const cost = (await operationsOf(pool.cluster)) - before
    t.same(
      details.map(({ name }) => name),
      names,
    )
    t.ok(details.every(image => !image.error && image.size === MiB))
    // Pages of the directory, and what the cluster does of its own.
    t.ok(cost >= count && cost < count + 100, `${cost} operations`)
  })

  await t.test('can be left in the middle, and reads no further', async t => {
    const before = await operationsOf(pool.cluster)
    const own = await pool.cluster.openPool(pool.name)
    for await (const { name } of own.listImageDetails()) {
      t.equal(name, 'disk')
      break
    }
    await own.close()
    const cost = (await operationsOf(pool.cluster)) - before
    t.ok(cost > 0 && cost < 250, `${cost} operations`)
  })

  await t.test('ends when aborted', async t => {
    const abort = new AbortController()
    let seen = 0
    const listing = async () => {
      for await (const _ of pool.listImageDetails({ signal: abort.signal })) if (++seen === 3) abort.abort()
    }
    await t.rejects(listing(), { name: 'AbortError' })
    t.ok(seen < count)
  })
})

t.test('an image that cannot be read is told, and one that is gone is left out', async t => {
  const pool = await testPool(t)
  await manyNames(pool, 300)
  await pool.createImage('broken', { size: MiB })
  const { id = '' } = (await pool.listImages()).find(({ name }) => name === 'broken') ?? {}
  await pool.object(`rbd_header.${id}`).setOmap({ size: 'junk' })
  const directory = pool.object('rbd_directory')
  await directory.setOmap(new Map([entry('half removed', 'ffff'), entry('zzz', 'eeee')]))

  const details: (ImageDetails | UnreadableImage)[] = []
  for await (const image of pool.listImageDetails()) {
    // It is in the page that has been read, and far behind what is being looked at.
    if (details.length === 0) await directory.removeOmap(['name_zzz'])
    details.push(image)
  }
  t.equal(details.length, 303, 'the others are there')
  t.same(
    details.filter(({ error }) => error).map(({ name }) => name),
    ['broken', 'half removed'],
  )
  const error = (name: string) => details.find(image => image.name === name)?.error
  t.match(error('broken'), { name: 'IOError', code: 'EIO', resource: `${pool.path}/broken` })
  t.match(error('half removed'), { name: 'ImageNotFoundError', resource: `${pool.path}/half removed` })
})

t.test('names that are not UTF-8 hide no image', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  const script = `
with rados.WriteOpCtx() as op:
    ioctx.set_omap(op, (b'name_\\xff\\xfe',), (b'\\x04\\x00\\x00\\x00ffff',))
    ioctx.operate_write_op(op, 'rbd_directory')
ioctx.close()
cluster.shutdown()`
  await python(pool, script)
  const details = await collect(pool.listImageDetails())
  t.match(details, [
    { name: 'disk', size: MiB },
    { name: '\ufffd\ufffd', id: 'ffff', error: { code: 'ENOENT' } },
  ])
})

t.test('no pool, no listing', async t => {
  const cluster = await testCluster(t)
  const name = `listing-gone-${process.pid}`
  await cluster.createPool(name)
  const pool = await cluster.openPool(name)
  t.same(await collect(pool.listImageDetails()), [], 'a pool that never had an image')
  await cluster.deletePool(name)
  await cluster.waitForLatestOsdmap()
  await t.rejects(collect(pool.listImageDetails()), { name: 'PoolNotFoundError' })
})
