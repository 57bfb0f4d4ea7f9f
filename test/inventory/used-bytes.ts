/** The bytes that volumes use, inventory after inventory, while others write to them. */
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { KiB, MiB, type Pool } from '../../lib/index.js'
import { operationsOf } from '../../scripts/bench/osd.js'
import { readConfig } from '../../src/agent/index.js'
import { forEachLimited } from '../../src/concurrency.js'
import { collectInventory, type InventoryVolume, inventorySchema } from '../../src/inventory/collect.js'
import { rbdJson, run, testWholePool } from '../support/cluster.js'
import { ownPool } from '../support/own-cluster.js'
import { python } from '../support/python.js'

async function collect(pool: Pool, signal = new AbortController().signal): Promise<InventoryVolume[]> {
  const environment = { BROKER_URL: 'amqp://nowhere', CEPH_DEFAULT_POOL: pool.name, CEPH_CATALOG_POOL: 'no-such-pool' }
  const source = { cluster: pool.cluster, config: readConfig(environment), log: pino({ enabled: false }), signal }
  const inventory = await collectInventory(source)
  t.same(inventorySchema.parse(inventory), inventory, 'is as it is described')
  return inventory.volumes
}

async function usedBytes(pool: Pool, name: string): Promise<number | undefined> {
  return (await collect(pool)).find(({ refId }) => refId === name)?.usedBytes
}

/** By `rbd du`, which counts what snapshots have by itself. */
async function usedByRbd(pool: Pool, name: string): Promise<number> {
  const { images } = await rbdJson('du', `${pool.name}/${name}`)
  return images[0].used_size
}

/** What an inventory costs the OSDs. */
async function operationsFor(pool: Pool, work: () => Promise<unknown>): Promise<number> {
  const before = await operationsOf(pool.cluster)
  await work()
  return (await operationsOf(pool.cluster)) - before
}

async function write(pool: Pool, name: string, ...offsets: number[]): Promise<void> {
  await using image = await pool.openImage(name)
  for (const offset of offsets) await image.write(offset, Buffer.alloc(4 * KiB, 'x'))
}

t.test('a write by somebody else is seen in the next inventory', async t => {
  const pool = await testWholePool(t)
  // Enough others, so that the one that changes is looked at by itself.
  for (let i = 0; i < 12; i++) await pool.createImage(`idle-${i}`, { size: 64 * MiB })
  await pool.createImage('disk', { size: 64 * MiB })
  const check = async (t: Test, expected: number) => {
    t.equal(await usedBytes(pool, 'disk'), expected)
    t.equal(await usedByRbd(pool, 'disk'), expected, 'rbd du says the same')
  }
  await check(t, 0)

  await t.test('by rbd bench', async t => {
    const bench = [
      'bench',
      '--io-type',
      'write',
      '--io-size',
      '4K',
      '--io-total',
      '8K',
      '--io-pattern',
      'seq',
      '--io-threads',
      '1',
    ]
    await run('rbd', ...bench, `${pool.name}/disk`)
    await check(t, 4 * MiB)
  })

  await t.test('by python3-rbd, to an object that is there, which takes no more, and to new ones', async t => {
    const script = (offset: number) => `
with rbd.Image(ioctx, 'disk') as image:
    image.write(b'x' * 4096, ${offset})`
    await python(pool, script(MiB))
    await check(t, 4 * MiB)
    await python(pool, script(40 * MiB))
    await check(t, 8 * MiB)
    await python(pool, script(63 * MiB))
    await check(t, 12 * MiB)
  })

  await t.test('who has it open for long, as a hypervisor has', async t => {
    await using image = await pool.openImage('disk')
    for (const [offset, expected] of [
      [20, 16],
      [24, 20],
      [24, 20],
    ] as const) {
      await image.write(offset * MiB, Buffer.alloc(4 * KiB, 'x'))
      await image.flush()
      t.equal(await usedBytes(pool, 'disk'), expected * MiB)
    }
  })

  await t.test(
    'and so are a discard, a resize, a snapshot, a roll-back, and an image in the place of another',
    async t => {
      await using image = await pool.openImage('disk')
      await image.discard(40 * MiB, 4 * MiB)
      await check(t, 16 * MiB)
      await image.resize(61 * MiB, { allowShrink: true })
      await image.resize(61 * MiB + 4 * KiB)
      await image.write(61 * MiB, Buffer.alloc(4 * KiB, 'x'))
      await image.flush()
      await check(t, 12 * MiB + MiB + 4 * KiB)
      await image.resize(62 * MiB)
      await check(t, 12 * MiB + 2 * MiB)
      const snapshot = await image.createSnapshot('one')
      t.equal(await usedBytes(pool, 'disk'), 14 * MiB)
      await image.write(30 * MiB, Buffer.alloc(4 * KiB, 'x'))
      await image.flush()
      t.equal(await usedBytes(pool, 'disk'), 18 * MiB)
      await snapshot.rollback()
      t.equal(await usedBytes(pool, 'disk'), 14 * MiB)
      await snapshot.remove()
      await image.close()
      await pool.removeImage('disk')
      await pool.createImage('disk', { size: 62 * MiB })
      await check(t, 0)
    },
  )
})

t.test('what cannot be measured is left out, also where it could be before', async t => {
  const pool = await testWholePool(t)
  await pool.createImage('flagged', { size: 16 * MiB })
  await pool.createImage('mapless', { size: 16 * MiB })
  await pool.createImage('never', { size: 16 * MiB, features: ['layering'] })
  for (const name of ['flagged', 'mapless', 'never']) await write(pool, name, 0)
  const ids = new Map((await pool.listImages()).map(({ id, name }) => [name, id]))
  const expected = (flagged: object, mapless: object) => [
    { refId: 'flagged', pool: pool.name, sizeBytes: 16 * MiB, ...flagged, isAttached: false },
    { refId: 'mapless', pool: pool.name, sizeBytes: 16 * MiB, ...mapless, isAttached: false },
    { refId: 'never', pool: pool.name, sizeBytes: 16 * MiB, isAttached: false },
  ]
  const measured = { usedBytes: 4 * MiB }
  t.same(await collect(pool), expected(measured, measured))
  // As the object class keeps its flags: both say that the map is not valid.
  await pool.object(`rbd_header.${ids.get('flagged')}`).setOmap({ flags: Buffer.from([3, 0, 0, 0, 0, 0, 0, 0]) })
  await pool.object(`rbd_object_map.${ids.get('mapless')}`).remove()
  t.same(await collect(pool), expected({}, {}))
  await run('rbd', 'object-map', 'rebuild', '--no-progress', `${pool.name}/flagged`)
  t.same(await collect(pool), expected(measured, {}))
})

t.test('an inventory that is given up is followed by a whole one', async t => {
  const pool = await testWholePool(t)
  for (const name of ['one', 'two']) await pool.createImage(name, { size: 16 * MiB })
  await collect(pool)
  await write(pool, 'two', 0)
  const controller = new AbortController()
  const given = collect(pool, controller.signal)
  controller.abort()
  await t.rejects(given, { name: 'AbortError' })
  t.same(
    (await collect(pool)).map(volume => volume.usedBytes),
    [0, 4 * MiB],
  )
})

t.test('a thousand volumes', async t => {
  const pool = await ownPool(t)
  const count = 1_000
  const name = (i: number) => `disk-${String(i).padStart(4, '0')}`
  await forEachLimited(Array(count).keys(), 64, i => pool.createImage(name(i), { size: 64 * MiB }))
  // Every tenth uses something, and every hundredth has three snapshots.
  await forEachLimited(Array(count / 10).keys(), 16, async i => {
    await write(pool, name(10 * i), 0, 8 * MiB)
    if (i % 10 !== 0) return
    await using image = await pool.openImage(name(10 * i))
    for (const snapshot of ['one', 'two', 'three']) await image.createSnapshot(snapshot)
  })
  const withSnapshots = count / 100
  const expected = (changed: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => ({
      refId: name(i),
      pool: pool.name,
      sizeBytes: 64 * MiB,
      usedBytes: (i % 10 === 0 ? 8 * MiB : 0) + changed(i),
      isAttached: false,
    }))
  let volumes: InventoryVolume[] = []
  const inventory = () =>
    operationsFor(pool, async () => {
      volumes = await collect(pool)
    })

  await t.test('are measured in a few round trips each, without opening one', async t => {
    const cost = await inventory()
    t.same(
      volumes,
      expected(() => 0),
    )
    t.ok(cost < 4.5 * count, `${cost} operations`)
  })

  await t.test(
    'take two round trips each when nothing has changed, and one more where there are snapshots',
    async t => {
      const cost = await inventory()
      t.same(
        volumes,
        expected(() => 0),
      )
      const needed = 2 * count + withSnapshots
      t.ok(cost >= needed && cost < needed + 30, `${cost} operations`)
    },
  )

  await t.test('are looked at again where they have changed, whether these are few or many', async t => {
    for (const [few, offset] of [
      [5, 16 * MiB],
      [400, 32 * MiB],
    ] as const) {
      await forEachLimited(Array(few).keys(), 16, i => write(pool, name(i), offset))
      const cost = await inventory()
      t.same(
        volumes,
        expected(i => (i < 5 ? 4 * MiB : 0) + (few === 400 && i < 400 ? 4 * MiB : 0)),
      )
      t.ok(cost < (few === 5 ? 2.2 : 4.5) * count, `${cost} operations for ${few}`)
    }
  })
})
