/** Inventories of a cluster of which a part does not answer. On a cluster of its own, with two OSDs. */
import { appendFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { pino } from 'pino'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { readConfig } from '../../src/agent/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { collectInventory } from '../../src/inventory/collect.js'
import { testCluster } from '../support/cluster.js'
import { hang } from '../support/hang.js'
import { until } from '../support/process.js'

t.setTimeout(250_000)

t.test('an inventory while an OSD hangs', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-hanging-'))
  t.teardown(() => stopStack(dir))
  const { cephConf, keyring, pids } = await startStack({ dir, osds: 2 })
  // The monitors are not to notice it, and give its work to the other.
  await appendFile(cephConf, '\n[client]\nrados osd op timeout = 3\nrados mon op timeout = 30\n')
  const cluster = await testCluster(t, { configFile: cephConf, keyring })
  const pool = await cluster.openPool('rbd')
  const osdOf = async (object: string) => {
    const { acting } = await cluster.monCommand<{ acting: number[] }>({ prefix: 'osd map', pool: 'rbd', object })
    return acting[0] ?? -1
  }
  const holds = new Map<string, { header: number; map: number }>()
  for (let i = 0; i < 40; i++) {
    const name = `disk-${String(i).padStart(2, '0')}`
    await pool.createImage(name, { size: 8 * MiB })
    await using image = await pool.openImage(name)
    await image.write(0, Buffer.alloc(4096, 'x'))
    const { id } = await image.stat()
    holds.set(name, { header: await osdOf(`rbd_header.${id}`), map: await osdOf(`rbd_object_map.${id}`) })
  }
  const hanging = 1 - (await osdOf('rbd_directory'))
  const pid = Number(pids[`osd.${hanging}`])
  t.teardown(() => process.kill(pid, 'SIGCONT'))
  const config = readConfig({ BROKER_URL: 'amqp://nowhere', CEPH_CATALOG_POOL: 'no-such-pool' })
  const { signal } = new AbortController()
  const collect = async () =>
    (await collectInventory({ cluster, config, log: pino({ enabled: false }), signal })).volumes
  const whole = await collect()

  hang(pid)
  const volumes = await collect()
  process.kill(pid, 'SIGCONT')
  t.same(
    volumes.map(({ refId }) => refId),
    [...holds.keys()],
    'lists all volumes',
  )
  for (const { refId, sizeBytes, usedBytes } of volumes) {
    const { header, map } = holds.get(refId) ?? {}
    if (header === hanging) t.equal(sizeBytes, undefined, `${refId}: no size`)
    else t.ok(sizeBytes === undefined || sizeBytes === 8 * MiB, `${refId}: the size, or none`)
    if (map === hanging) t.equal(usedBytes, undefined, `${refId}: no use`)
    else t.ok(usedBytes === undefined || usedBytes === 4 * MiB, `${refId}: the use, or none`)
  }
  const measured = volumes.filter(({ usedBytes }) => usedBytes !== undefined).length
  t.comment(`${measured} of 40 are measured`)
  t.ok(
    await until(async () => isDeepStrictEqual(await collect(), whole), 30_000),
    'all is measured again when it answers',
  )
})
