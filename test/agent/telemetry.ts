import { writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import t from 'tap'
import { Cluster, MiB } from '../../lib/index.js'
import { type Inventory, readConfig } from '../../src/agent/index.js'
import { collectInventory } from '../../src/inventory/collect.js'
import { Telemetry } from '../../src/inventory/telemetry.js'
import { TestSite, until } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'
import { golden, testFolder } from '../support/golden.js'

function inventories(site: TestSite): Inventory[] {
  const found = site.telemetry.filter(({ routingKey }) => routingKey === 'inventory.storage.full')
  return found.flatMap(({ body }) => body.inventory ?? [])
}

const byName = (a: { refId: string }, b: { refId: string }) => (a.refId < b.refId ? -1 : 1)

t.test('telemetry', async t => {
  const site = await TestSite.open(t, { HEARTBEAT_INTERVAL_MS: '200' })
  const { name: imageId } = await golden(t, site)
  const pool = site.environment.CEPH_DEFAULT_POOL ?? ''
  const catalog = site.environment.CEPH_CATALOG_POOL ?? ''
  await site.startAgent()

  await t.test('begins with a heartbeat and an inventory', async t => {
    const heartbeat = await until('a heartbeat', () =>
      site.telemetry.find(({ routingKey }) => routingKey === `heartbeat.${site.agentId}`),
    )
    const { version } = JSON.parse(await run('node', '-p', 'JSON.stringify(require("./package.json"))'))
    const { ts, ...rest } = heartbeat.body as { ts: string }
    t.same(rest, { agentId: site.agentId, version, capabilities: ['storage', 'inventory'], host: hostname() })
    t.equal(new Date(ts).toISOString(), ts)
    const first = await until('an inventory', () => site.telemetry.find(({ body }) => body.inventory !== undefined))
    t.match(first, { routingKey: 'inventory.storage.full', body: { storageId: site.agentId, ts: /Z$/ } })
  })

  await t.test('goes on with heartbeats at their interval', async t => {
    const before = site.heartbeatTimes().length
    await until('five more', () => site.heartbeatTimes().length >= before + 5) // by default they are a minute apart
    const [first = 0, , , , last = 0] = site.heartbeatTimes().slice(before)
    t.ok(last - first >= 780, `four intervals took ${last - first} ms`)
  })

  await t.test('has an inventory after changes, one for many', async t => {
    await until('quiet', () => inventories(site).length > 0)
    const before = inventories(site).length
    const jobs = Array.from({ length: 5 }, (_, i) => site.job('storage.create', { name: `v${i}`, imageId, sizeMB: 8 }))
    await Promise.all(jobs.map(job => site.succeed(job)))
    const latest = await until('the change', () =>
      inventories(site).find(({ volumes }) => volumes.length === jobs.length),
    )
    t.ok(latest)
    await delay(1_500)
    t.ok(inventories(site).length - before <= 2, `${inventories(site).length - before} for 5 changes`)
  })

  await t.test('has an inventory when a job asks for one, in its result too', async t => {
    const { inventory } = await site.succeed(site.job('inventory.refresh', { full: true }))
    const published = await until('it', () =>
      inventories(site).find(({ collectedAt }) => collectedAt === inventory.collectedAt),
    )
    t.same(published, inventory)
  })

  await t.test('lists what is there', async t => {
    await run('rbd', 'create', `${pool}/not-ours`, '--size', '4M')
    await run('rbd', 'create', `${pool}/no-fast-diff`, '--size', '4M', '--image-feature', 'layering')
    await run('rbd', 'bench', '--io-type', 'write', '--io-total', '4K', '--io-size', '4K', `${pool}/not-ours`)
    await run('rbd', 'create', `${catalog}/unfinished`, '--size', '4M')
    const { inventory } = await site.succeed(site.job('inventory.refresh', {}))

    const { fsid } = JSON.parse(await run('ceph', 'fsid', '--format', 'json'))
    t.match(inventory, { schemaVersion: 'storage.inventory.v1', storageId: site.agentId, collectedAt: /Z$/ })
    t.same(inventory.cluster.fsid, fsid)
    t.match(inventory.cluster.health, /^HEALTH_/)
    const { stats } = JSON.parse(await run('ceph', 'df', '--format', 'json'))
    t.equal(inventory.capacity.totalBytes, stats.total_bytes)
    t.ok(inventory.capacity.usedBytes > 0 && inventory.capacity.availBytes > 0)

    const { images } = await rbdJson('du', '--pool', pool)
    const measured = images.map((image: { name: string; provisioned_size: number; used_size: number }) => ({
      refId: image.name,
      pool,
      sizeBytes: image.provisioned_size,
      ...(image.name !== 'no-fast-diff' && { usedBytes: image.used_size }),
      isAttached: false,
    }))
    t.same(inventory.volumes.sort(byName), measured.sort(byName), 'as rbd du does, exposed or not, ours or not')
    t.ok(
      inventory.volumes.some(({ usedBytes }: { usedBytes?: number }) => usedBytes),
      'some of them have data',
    )
    t.same(inventory.catalog.sort(byName), [
      {
        refId: imageId,
        pool: catalog,
        name: imageId,
        sizeBytes: 8 * 2 ** 20,
        source: { image: imageId, snap: 'base' },
      },
      { refId: 'unfinished', pool: catalog, name: 'unfinished', sizeBytes: 4 * 2 ** 20 },
    ])
  })

  await t.test('has a volume that cannot be measured without its measures', async t => {
    const volumes = await site.volumePool()
    await run('rbd', 'create', `${pool}/damaged`, '--size', '4M')
    const { id } = await rbdJson('info', `${pool}/damaged`)
    await volumes.object(`rbd_header.${id}`).remove()
    const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
    const damaged = inventory.volumes.find(({ refId }: { refId: string }) => refId === 'damaged')
    t.same(damaged, { refId: 'damaged', pool, isAttached: false })
    t.equal(inventory.volumes.filter(({ sizeBytes }: { sizeBytes?: number }) => sizeBytes === undefined).length, 1)
    t.ok(site.logs.some(({ msg, what }) => msg === 'listed, but cannot be opened' && what === `${pool}/damaged`))
  })
})

t.test('an inventory without a catalog pool', async t => {
  const site = await TestSite.open(t)
  await site.startAgent({ CEPH_CATALOG_POOL: 'no-such-pool' })
  const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
  t.same(inventory.catalog, [])
})

t.test('a volume whose use cannot be measured has its size all the same', async t => {
  const site = await TestSite.open(t)
  const pool = site.environment.CEPH_DEFAULT_POOL ?? ''
  await run('rbd', 'create', `${pool}/secret`, '--size', '8M')
  await run('rbd', 'bench', '--io-type', 'write', '--io-total', '4K', '--io-size', '4K', `${pool}/secret`)
  // Somebody who may read all but the data, and the map of what has data.
  const objects = ['rbd_directory', 'rbd_id', 'rbd_header', 'rbd_trash', 'rbd_info']
  const caps = objects.map(object => `allow rx pool=${pool} object_prefix ${object}`).join(', ')
  const user = `client.${site.id}`
  t.teardown(() => run('ceph', 'auth', 'rm', user))
  const keyring = join(await testFolder(t), 'keyring')
  await writeFile(keyring, await run('ceph', 'auth', 'get-or-create', user, 'mon', 'allow r', 'osd', caps))
  await using cluster = await Cluster.connect({ user: site.id, keyring })
  const config = readConfig({ ...site.environment, CEPH_CATALOG_POOL: 'no-such-pool' })
  const { signal } = new AbortController()
  const { volumes } = await collectInventory({ cluster, config, log: pino({ enabled: false }), signal })
  t.same(volumes, [{ refId: 'secret', pool, sizeBytes: 8 * MiB }])
})

t.test('telemetry that has stopped collects nothing more', async t => {
  let collected = 0
  const telemetry = new Telemetry({
    config: readConfig({ BROKER_URL: 'amqp://nowhere', HEARTBEAT_INTERVAL_MS: '10', INVENTORY_INTERVAL_MS: '10' }),
    log: pino({ enabled: false }),
    collect: async () => {
      collected++
      return {} as Inventory
    },
    publish: async () => {},
  })
  telemetry.start()
  await delay(100)
  t.ok(collected > 2)
  await telemetry.stop()
  const before = collected
  telemetry.changed()
  telemetry.connected()
  await delay(1_500)
  t.equal(collected, before)
})
