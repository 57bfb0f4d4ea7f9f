import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { connect } from 'amqplib'
import t from 'tap'
import { MiB } from '../lib/index.js'
import { measureAgent } from '../scripts/bench/agent.js'
import { measureCephfs } from '../scripts/bench/cephfs.js'
import { toChart } from '../scripts/bench/chart.js'
import { Client, pythonProgram } from '../scripts/bench/client.js'
import { withPlace } from '../scripts/bench/cluster.js'
import {
  alternate,
  type Comparison,
  compare,
  median,
  percentile,
  type Row,
  toJson,
  toTable,
} from '../scripts/bench/harness.js'
import { measureIo } from '../scripts/bench/io.js'
import { measureIscsi } from '../scripts/bench/iscsi.js'
import { measureLifecycle } from '../scripts/bench/lifecycle.js'
import { measureListing } from '../scripts/bench/listing.js'
import { measureLoop } from '../scripts/bench/loop.js'
import { measureStreams } from '../scripts/bench/streams.js'
import { testCluster, testPool } from './support/cluster.js'
import { Tgt } from './support/tgt.js'

const comparison: Comparison = {
  part: 'lifecycle',
  load: 'create',
  metric: 'p50',
  unit: 'ms',
  better: 'less',
  ours: 4,
  peer: 5,
  peerName: 'rbd',
  need: 1,
}

t.test('a ratio above 1 is better, whichever way the metric counts', t => {
  t.equal(compare(comparison).ratio, 1.25)
  t.equal(compare({ ...comparison, better: 'more' }).ratio, 0.8)
  t.equal(compare(comparison).ok, true)
  t.equal(compare({ ...comparison, better: 'more' }).ok, false)
  t.equal(compare({ ...comparison, better: 'more', need: 0.8 }).ok, true, 'just what is needed is enough')
  t.equal(compare({ ...comparison, better: 'more', need: null }).ok, true, 'nothing is needed')
  t.end()
})

t.test('statistics', t => {
  t.equal(percentile([5, 1, 4, 2, 3], 50), 3)
  t.equal(percentile([4, 1, 3, 2], 50), 2, 'a value that was measured')
  t.equal(percentile([10, 9, 100], 99), 100)
  t.equal(percentile([7], 1), 7)
  t.equal(median([30, 1, 2]), 2)
  t.equal(median([4, 1, 3, 2]), 2.5)
  t.throws(() => percentile([], 50), RangeError)
  t.throws(() => median([]), RangeError)
  t.end()
})

t.test('every side has its turn in every round, and none is always first', async t => {
  const order: string[] = []
  const side = (name: string) => async () => order.push(name)
  const [a, b, c] = await alternate(3, [side('a'), side('b'), side('c')])
  t.equal(order.join(''), 'abcbcacab')
  t.strictSame(
    [a, b, c],
    [
      [1, 6, 8],
      [2, 4, 9],
      [3, 5, 7],
    ],
  )
})

t.test('the table has a line for each row, and marks what falls short', t => {
  const table = toTable([
    compare(comparison),
    compare({ ...comparison, ours: 123.4 }),
    compare({ ...comparison, need: null }),
  ])
  const lines = table.split('\n')
  t.equal(lines.length, 4)
  t.match(lines[1], /create +p50 +4\.00 ms +5\.00 ms +rbd +1\.25 +1\.00 +ok$/)
  t.match(lines[2], /123 ms .* SHORT$/)
  t.match(lines[3], /1\.25$/)
  t.end()
})

t.test('the chart has a line for each client, and says what it is of', t => {
  const row = (load: string, peerName: string, ours: number, peer: number) =>
    compare({ ...comparison, part: 'io', metric: 'rate', unit: 'IOPS', better: 'more', load, peerName, ours, peer })
  const rows = ['read', 'write'].flatMap(kind =>
    [1, 32, 128].flatMap(depth =>
      ['fio', 'python3-rbd'].map(peer => row(`4 KiB random ${kind}, depth ${depth}`, peer, 700 * depth, 600 * depth)),
    ),
  )
  const chart = toChart([...rows, compare({ ...comparison, load: 'create' })], ['2 x <CPU> & more', 'Node.js'])
  t.equal(chart.match(/class="s0 line" d="M[\d. ]+L[\d. ]+L[\d. ]+"/g)?.length, 2, 'ours, once for each depth')
  t.equal(chart.match(/class="s[12] line"/g)?.length, 4)
  t.match(chart, '>4 KiB random write, IOPS<')
  t.match(chart, '>80,000<')
  t.match(chart, '>128<')
  t.match(chart, '>2 x &#60;CPU&#62; &#38; more<')
  t.notMatch(chart, /NaN|undefined|Infinity/)
  t.end()
})

async function bench(...args: string[]) {
  const main = fileURLToPath(new URL('../scripts/bench/main.js', import.meta.url))
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { stdout, stderr, status }
}

t.test('a part or an option that does not exist is told in a line', async t => {
  const part = await bench('lifecycle', 'speed')
  t.match(part, { status: 1, stdout: '', stderr: /^There is no part 'speed'\. Parts: lifecycle, [a-z, ]+\.\n$/ })
  const chart = await bench('listing', '--chart', 'chart.svg')
  t.match(chart, { status: 1, stdout: '', stderr: '--chart is of the part io\n' })
  const help = await bench('--help')
  t.match(help.stdout, /^Parts: lifecycle, listing, streams, io, loop, cephfs, agent, iscsi\./m)
  const option = await bench('--fast')
  t.match(option, { status: 1, stdout: '', stderr: /^Unknown option '--fast'.*\n$/ })
})

t.test('a client tells what went wrong in it', async t => {
  const { name, namespace } = await testPool(t)
  const program = pythonProgram('lifecycle_client.py', name, namespace)
  await using client = await Client.start(program, process.env.CEPH_CONF ?? '', new AbortController().signal)
  await t.rejects(client.call('measure', 'remove', 1, 1), { message: /python3-rbd.*ImageNotFound/ })
  await t.rejects(client.call('juggle'), { message: /python3-rbd.*juggle/ })
})

t.test('lifecycle measures every operation beside every peer, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  const scale = { processes: 1, lives: 1, images: 1, rateLives: 1, rateImages: 4, commands: 1 }
  let ownNamespace = ''
  const rows = await withPlace(signal, place => {
    ownNamespace = place.namespace
    return measureLifecycle({ ...place, quick: true, signal }, scale)
  })

  const printed: Row[] = JSON.parse(toJson(rows))
  for (const row of printed) {
    t.match(row, { part: 'lifecycle', load: String, metric: String, unit: String, peerName: String, ok: Boolean })
    t.ok(row.ours > 0 && row.peer > 0 && row.ratio > 0, `${row.load} beside ${row.peerName}`)
    t.ok(row.need === null || row.need > 0.9)
    t.equal(Object.keys(row).join(' '), 'part load metric unit ours peer peerName need ratio ok')
  }
  const count = (metric: string, peerName: RegExp) =>
    printed.filter(row => row.metric === metric && peerName.test(row.peerName)).length
  t.equal(count('p50', /^python3-rbd$/), 5)
  t.equal(count('p50', /^rbd command$/), 5)
  t.equal(count('rate', /^python3-rbd, 64 threads$/), 5)
  t.equal(count('client CPU', /^python3-rbd/), 2)
  t.equal(printed.length, 17)

  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listNamespaces()).includes(ownNamespace))
})

t.test('listing measures time, round trips and memory beside rbd, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let ownNamespace = ''
  const rows = await withPlace(signal, place => {
    ownNamespace = place.namespace
    return measureListing({ ...place, quick: true, signal }, { turns: 1, listed: 20, used: 10 })
  })
  const loads = ['list 20 images: size, parent, snapshots, features', 'used bytes of 10 images']
  const metrics = ['time', 'round trips an image', 'peak memory']
  t.same(
    rows.map(({ load, metric }) => [load, metric]),
    loads.flatMap(load => metrics.map(metric => [load, metric])),
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listNamespaces()).includes(ownNamespace))
})

t.test('streams measures export and import beside rbd and qemu-img, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let ownNamespace = ''
  const rows = await withPlace(signal, place => {
    ownNamespace = place.namespace
    return measureStreams({ ...place, quick: true, signal }, { size: 64 * MiB, turns: 1 })
  })
  t.same(
    rows.map(({ load, peerName, need }) => [load.split(' ')[0], peerName, need]),
    [
      ['export', 'rbd export', 1],
      ['export', 'qemu-img convert', 1],
      ['import', 'rbd import', 1],
      ['import', 'qemu-img convert', 1],
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listNamespaces()).includes(ownNamespace))
})

t.test('io measures rates and CPU beside fio and python3-rbd, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let image = ''
  const rows = await withPlace(signal, place => {
    image = place.namespace
    return measureIo(
      { ...place, quick: true, signal },
      { size: 16 * MiB, depths: [32], processes: 1, turns: 1, seconds: 0.4 },
    )
  })
  const random = [
    ['rate', 'fio', 0.95],
    ['client CPU', 'fio', 1 / 1.3],
    ['rate', 'python3-rbd', 1.1],
    ['client CPU', 'python3-rbd', 1],
  ]
  const sequential = [
    ['bandwidth', 'fio', 0.97],
    ['bandwidth', 'python3-rbd', null],
  ]
  t.same(
    rows.map(({ load, metric, peerName, need }) => [load, metric, peerName, need]),
    [
      ...random.map(row => ['4 KiB random read, depth 32', ...row]),
      ...random.map(row => ['4 KiB random write, depth 32', ...row]),
      ...sequential.map(row => ['4 MiB sequential read, depth 8', ...row]),
      ...sequential.map(row => ['4 MiB sequential write, depth 8', ...row]),
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listImages()).some(({ name }) => name === image))
})

t.test('loop measures the event loop and memory of a busy process, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let ownNamespace = ''
  const rows = await withPlace(signal, place => {
    ownNamespace = place.namespace
    const scale = { size: 16 * MiB, turns: 1, seconds: 0.3, memorySeconds: 1.2 }
    return measureLoop({ ...place, quick: true, signal }, scale)
  })
  t.same(
    rows.map(({ load, need }) => [load.replace(/.*writes, /, ''), need]),
    [
      ['1000 in flight', 1],
      ['1000 in flight', null],
      ['1000 in flight', null],
      ['128 in flight for 1.2 s', 0.95],
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listNamespaces()).includes(ownNamespace))
})

t.test('agent measures jobs beside the bare library, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let namespace = ''
  const rows = await withPlace(signal, place => {
    namespace = place.namespace
    const loads = [2, 4].map(prefetch => ({ prefetch, jobs: 4 }))
    return measureAgent({ ...place, quick: true, signal }, { loads, turns: 1, counted: 3 })
  })
  t.same(
    rows.map(({ load, metric, peerName, need }) => [load.split(', ')[1], metric, peerName, need]),
    [
      ...['2', '4'].flatMap(count => [
        [`prefetch ${count}`, 'rate', `bare library, ${count} at once`, 0.6],
        [`prefetch ${count}`, 'client CPU', `bare library, ${count} at once`, null],
        [`prefetch ${count}`, 'OSD operations a job', `bare library, ${count} at once`, null],
      ]),
      ['one after the other', 'journal, round trips a job', 'its RADOS operations', null],
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const journal = rows.at(-1)
  t.equal(journal?.peer, 7, 'operations')
  // Five; which of them overlap is the machine's to say.
  const trips = journal?.ours ?? 0
  t.ok(trips > 4 && trips < 6, `${trips} round trips, one of which is beside the publishing of the result`)
  const cluster = await testCluster(t)
  t.same(
    (await cluster.listPools()).filter(name => name.startsWith(namespace)),
    [],
  )
  const pool = await cluster.openPool('rbd')
  t.notOk((await pool.listNamespaces()).includes(namespace))
  const connection = await connect(process.env.BROKER_URL ?? '')
  t.teardown(() => connection.close())
  for (const queue of ['tasks', 'results', 'dead']) {
    const channel = await connection.createChannel()
    channel.on('error', () => {}) // what is asked rejects with it
    await t.rejects(channel.checkQueue(`${namespace}-2.${queue}`), { code: 404 }, `there is no queue of its ${queue}`)
  }
})

t.test('iscsi measures a target beside fio, and jobs beside commands, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  const tgt = await Tgt.start(t)
  Object.assign(process.env, tgt.environment)
  let namespace = ''
  const rows = await withPlace(signal, place => {
    namespace = place.namespace
    const scale = { size: 16 * MiB, depth: 32, turns: 1, seconds: 0.1, logins: 1 }
    return measureIscsi({ ...place, quick: true, signal }, scale)
  })
  t.same(
    rows.map(({ load, metric, peerName, need }) => [load, metric, peerName, need]),
    [
      ['4 KiB random read, depth 32', 'rate', 'fio, rbd', null],
      ['4 KiB random write, depth 32', 'rate', 'fio, rbd', null],
      ['storage.expose to first login', 'p50', 'tgtadm, three commands', null],
      ['storage.create to first login', 'p50', 'rbd create and the same', null],
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  t.same(await tgt.names(), [])
  const cluster = await testCluster(t)
  t.same(
    (await cluster.listPools()).filter(name => name.startsWith(namespace)),
    [],
  )
})

t.test('cephfs measures tenants beside processes on a mount, and leaves nothing behind', async t => {
  const { signal } = new AbortController()
  let namespace = ''
  const rows = await withPlace(signal, place => {
    namespace = place.namespace
    return measureCephfs({ ...place, quick: true, signal }, { tenants: 64, byScript: 4, turns: 2 })
  })
  t.same(
    rows.map(({ load, peerName, need }) => [load, peerName, need]),
    [
      ['ensure 64 tenants', 'install, setfattr, getfattr', 20],
      ['ensure anew 64 tenants', 'install, setfattr, getfattr', null],
      ['report of 64 tenants', 'getfattr', 20],
      ['ensure, the last of 64 tenants', 'the first of them', 0.5],
    ],
  )
  t.ok(rows.every(({ ours, peer }) => ours > 0 && peer > 0))
  const cluster = await testCluster(t)
  await using files = await cluster.mountFileSystem()
  t.notOk((await files.readdir('/')).some(({ name }) => name === namespace))
})
