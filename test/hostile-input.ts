/**
 * Wrong input at every entry is a TypeError or RangeError with a code, before anything reaches C: a rejection where a
 * promise is promised, and an exception elsewhere.
 */
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { Cluster, WriteOperation } from '../lib/index.js'
import { createAgent, importCatalogImage, readConfig } from '../src/agent/index.js'
import { allCalls, subjects } from './support/calls.js'
import { run, testPool } from './support/cluster.js'

/** One of each type, to leave out what a parameter does take. */
const ofType = {
  undefined: undefined,
  null: null,
  boolean: true,
  number: 5,
  string: 'text',
  bigint: 5n,
  symbol: Symbol('s'),
  function: () => {},
  array: ['a'],
  date: new Date(),
  object: { some: 'thing' },
}
type Type = keyof typeof ofType
const allBut = (...types: Type[]) =>
  Object.entries(ofType).flatMap(([type, value]) => (types.includes(type as Type) ? [] : [value]))

const shared = new Uint8Array(new SharedArrayBuffer(8))
/** Memory that can be made smaller, or is gone, under the feet of whoever uses it in place. */
const views = [Uint8Array, Uint16Array, DataView] as (new (buffer: ArrayBuffer) => NodeJS.ArrayBufferView)[]
const notInPlace = views.flatMap(View => {
  // ES2024's, which TypeScript does not check against.
  const Resizable = ArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => ArrayBuffer
  const buffer = new ArrayBuffer(8)
  const detached = new View(buffer)
  structuredClone(buffer, { transfer: [buffer] })
  return [new View(new Resizable(8, { maxByteLength: 16 })), detached]
})
const malformed = ['with\0NUL', 'a lone \ud800 surrogate']
const notText = [...allBut('string'), ...malformed]
const notKey = [...notText, '']
const notObjectName = [...notKey, 'n'.repeat(10_000)]
const notName = [...notObjectName, 'a/b', 'a@b', '/', '@']
const notNatural = [...allBut('number'), '5', Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, 2 ** 53, -(2 ** 53)]
const notPositive = [...notNatural, 0]
const notBoolean = allBut('boolean')
const notData = [...allBut('string'), 'a lone \ud800', new ArrayBuffer(8), new DataView(new ArrayBuffer(8)), shared]
const notView = [...allBut(), new ArrayBuffer(8), shared, new DataView(shared.buffer), ...notInPlace]
const notViews = [...allBut('array'), Buffer.alloc(1), ...notView.map(view => [Buffer.alloc(1), view])]
const notKeys = [...allBut('array'), [5], ['a', ''], ['a\0'], [undefined], new Array(1)]
const notFeatures = [
  ...allBut('array'),
  ['no-such'],
  [5],
  [null],
  ['operations'],
  ['data-pool'],
  'layering',
  new Array(1),
]
const notObjectSize = [...notPositive, 2048, 5000, 2 ** 26]
const notOptions = [...allBut('undefined', 'object'), new Map(), new AbortController().signal]
const optional = (wrong: unknown[]) => wrong.filter(value => value !== undefined)

type Entries = Record<string, (value: never) => unknown>
type Table = [wrong: unknown[], entries: Entries][]

function show(value: unknown): string {
  try {
    return inspect(value, { depth: 1 }).slice(0, 40)
  } catch {
    return 'something detached'
  }
}

/** Why this is not as it must be, if so. */
async function complaint(entry: Entries[string], value: unknown, promised: boolean): Promise<string | undefined> {
  const shown = show(value)
  let result: unknown
  try {
    result = entry(value as never)
    if (!promised) return `${shown} is taken`
  } catch (error) {
    if (promised) return `${shown} throws at once: ${error}`
    result = Promise.reject(error)
  }
  try {
    await result
    return `${shown} is taken`
  } catch (error) {
    const { code = '' } = error as { code?: string }
    const typed = (error instanceof TypeError || error instanceof RangeError) && code.startsWith('ERR_')
    return typed ? undefined : `${shown}: ${error}`
  }
}

async function refuses(t: Test, table: Table, promised = true): Promise<void> {
  for (const [wrong, entries] of table) {
    for (const [name, entry] of Object.entries(entries)) {
      const complaints = []
      for (const value of wrong) complaints.push(await complaint(entry, value, promised))
      t.same(complaints.filter(Boolean), [], `${name}, ${wrong.length} times`)
    }
  }
}

t.test('wrong input is refused', async t => {
  const all = await subjects(await testPool(t))
  const { cluster, pool, image, snapshot, object } = all

  await t.test('for options', async t => {
    const wrong = [...notOptions, { sginal: 1 }, { signal: 1 }, { signal: null }, { signal: {} }, { onProgress: 5 }]
    // These are called with more options than the table's.
    const others = ['pool.createImage', 'pool.listObjects of all', 'image.formatEncryption', 'image.loadEncryption']
    const entries = allCalls.filter(({ name }) => !others.includes(name))
    await refuses(t, [
      [wrong, Object.fromEntries(entries.map(({ name, call }) => [name, v => call(all, v)]))],
      [[...wrong, undefined, {}], { 'pool.createImage': v => pool.createImage('new', v) }],
      [[...wrong, undefined, {}], { formatEncryption: v => image.formatEncryption(v) }],
      [[...wrong, undefined, {}], { loadEncryption: v => image.loadEncryption(v) }],
      [wrong, { 'Cluster.connect': v => Cluster.connect(v) }],
    ])
  })

  await t.test('for a connection', async t => {
    await refuses(t, [
      [
        optional(notKey),
        {
          user: v => Cluster.connect({ user: v }),
          clusterName: v => Cluster.connect({ clusterName: v }),
          keyring: v => Cluster.connect({ keyring: v }),
        },
      ],
      [optional(notKey).filter(v => v !== null), { configFile: v => Cluster.connect({ configFile: v }) }],
      [[...optional(notNatural), 2 ** 32], { timeout: v => Cluster.connect({ timeout: v }) }],
      [optional(allBut('object')), { options: v => Cluster.connect({ options: v }) }],
      [notText, { 'the value of an option': v => Cluster.connect({ options: { rbd_cache: v } }) }],
      [['', 'a\0', '\ud800'], { 'the name of an option': v => Cluster.connect({ options: { [v as string]: '1' } }) }],
    ])
    const secret = await Cluster.connect({ options: { key: 'AQBSecret\0' } }).catch(error => error)
    t.notMatch(secret.message, 'AQBSecret', 'and its value, which may be a key, is not told')
  })

  await t.test('for a cluster', async t => {
    const notCommand = [...allBut('object'), {}, { prefix: 5 }, { prefix: '' }, { prefix: 'status', a: 5n }]
    await refuses(t, [
      [
        notName,
        {
          createPool: v => cluster.createPool(v),
          deletePool: v => cluster.deletePool(v),
          openPool: v => cluster.openPool(v),
          poolId: v => cluster.poolId(v),
        },
      ],
      [optional(notName).filter(v => v !== ''), { namespace: v => cluster.openPool('rbd', { namespace: v }) }],
      [
        [...optional(allBut()), 'WAIT', ''],
        {
          'whenFull of a pool': v => cluster.openPool('rbd', { whenFull: v }),
          'whenFull of a connection': v => Cluster.connect({ whenFull: v }),
        },
      ],
      [notKey, { getOption: v => cluster.getOption(v), setOption: v => cluster.setOption(v, '1') }],
      [notText, { 'setOption value': v => cluster.setOption('rbd_cache', v) }],
      [notKey, { pgCommand: v => cluster.pgCommand(v, { prefix: 'query' }), blocklist: v => cluster.blocklist(v) }],
      [
        notNatural,
        { poolName: v => cluster.poolName(v), osdCommand: v => cluster.osdCommand(v, { prefix: 'version' }) },
      ],
      [[2 ** 31], { osdCommand: v => cluster.osdCommand(v, { prefix: 'version' }) }],
      [
        [...optional(notPositive), (2 ** 32 - 1) * 1000 + 1],
        { duration: v => cluster.blocklist('127.0.0.1:0/1', { duration: v }) },
      ],
      [
        notCommand,
        {
          monCommand: v => cluster.monCommand(v),
          mgrCommand: v => cluster.mgrCommand(v),
          osdCommand: v => cluster.osdCommand(0, v),
          pgCommand: v => cluster.pgCommand('1.0', v),
        },
      ],
      [optional(notData), { input: v => cluster.monCommand({ prefix: 'status' }, { input: v }) }],
    ])
  })

  await t.test('for a pool', async t => {
    const parent = { imageName: 'disk', name: 'one' }
    await refuses(t, [
      [
        notName,
        {
          createNamespace: v => pool.createNamespace(v),
          removeNamespace: v => pool.removeNamespace(v),
          namespaceExists: v => pool.namespaceExists(v),
          createImage: v => pool.createImage(v, { size: 1 }),
          openImage: v => pool.openImage(v),
          finishFlatten: v => pool.finishFlatten(v),
          removeImage: v => pool.removeImage(v),
          renameImage: v => pool.renameImage(v, 'new'),
          'renameImage to': v => pool.renameImage('other', v),
          cloneImage: v => pool.cloneImage(parent, v),
          'the name of a parent': v => pool.cloneImage({ ...parent, imageName: v }, 'new'),
          'the name of its snapshot': v => pool.cloneImage({ ...parent, name: v }, 'new'),
        },
      ],
      [
        notKey,
        {
          openImageById: v => pool.openImageById(v),
          finishFlattenById: v => pool.finishFlattenById(v),
          enableApplication: v => pool.enableApplication(v),
        },
      ],
      [allBut(), { parent: v => pool.cloneImage(v, 'new') }],
      [optional(allBut()), { 'the pool of a parent': v => pool.cloneImage({ ...parent, pool: v }, 'new') }],
      [
        optional(notName),
        {
          'openImage snapshot': v => pool.openImage('disk', { snapshot: v }),
          dataPool: v => pool.createImage('new', { size: 1, dataPool: v }),
        },
      ],
      [
        optional(notBoolean),
        {
          readOnly: v => pool.openImage('disk', { readOnly: v }),
          'initialize force': v => pool.initialize({ force: v }),
          'enableApplication force': v => pool.enableApplication('rbd', { force: v }),
          allNamespaces: v => pool.listObjects({ allNamespaces: v }).next(),
        },
      ],
      [notNatural, { size: v => pool.createImage('new', { size: v }) }],
      [[...optional(notPositive), 2 ** 26], { stripeUnit: v => pool.createImage('new', { size: 1, stripeUnit: v }) }],
      [[...optional(notPositive), 2 ** 32], { stripeCount: v => pool.createImage('new', { size: 1, stripeCount: v }) }],
      [optional(notObjectSize), { objectSize: v => pool.createImage('new', { size: 1, objectSize: v }) }],
      [optional(notFeatures), { features: v => pool.createImage('new', { size: 1, features: v }) }],
      [[...optional(allBut()), 0, 3, '2'], { cloneFormat: v => pool.cloneImage(parent, 'new', { cloneFormat: v }) }],
    ])
  })

  await t.test('for the trash, metadata and settings', async t => {
    const { trash, metadata, config } = pool
    const notLimit = [
      ...optional(allBut('null', 'object')),
      {},
      { limit: 0 },
      { limit: 1.5 },
      { limit: '1' },
      { burst: 1 },
    ]
    await refuses(t, [
      [notName, { move: v => trash.move(v) }],
      [optional(notName), { 'restore name': v => trash.restore('0123', { name: v }) }],
      [notKey, { get: v => trash.get(v), restore: v => trash.restore(v), remove: v => trash.remove(v) }],
      [[...optional(notNatural), (2 ** 32 - 1) * 1000 + 1], { delay: v => trash.move('other', { delay: v }) }],
      [optional(notBoolean), { force: v => trash.remove('0123', { force: v }) }],
      [[...optional(notNatural), 101], { threshold: v => trash.purge({ threshold: v }) }],
      [
        [...optional(allBut('date')), new Date(Number.NaN), new Date(-1)],
        { expiredBefore: v => trash.purge({ expiredBefore: v }) },
      ],
      [
        notKey,
        {
          'metadata.get': v => metadata.get(v),
          'metadata.set': v => metadata.set(v, ''),
          'metadata.remove': v => metadata.remove(v),
          'config.set': v => config.set(v, '1'),
          'config.remove': v => image.config.remove(v),
        },
      ],
      [notText, { value: v => metadata.set('new', v), setting: v => image.config.set('rbd_cache', v) }],
      [[...allBut(), { iosp: { limit: 1 } }, { signal: null }], { setQos: v => image.config.setQos(v) }],
      [
        [...notLimit, { limit: 5, burst: 4 }, { limit: 5, burst: null }, { limit: 5, brust: 6 }],
        { iops: v => image.config.setQos({ iops: v }), bps: v => image.config.setQos({ writeIops: null, bps: v }) },
      ],
    ])
  })

  await t.test('for an image', async t => {
    const one = Buffer.alloc(1)
    await refuses(t, [
      [
        notName,
        {
          copy: v => image.copy(pool, v),
          deepCopy: v => image.deepCopy(pool, v),
          createSnapshot: v => image.createSnapshot(v),
          rename: v => snapshot.rename(v),
        },
      ],
      [optional(notName), { from: v => image.usedBytes({ from: v }) }],
      [optional(notName), { from: v => image.diff({ from: v }).next() }],
      [
        optional(notNatural),
        { offset: v => image.diff({ offset: v }).next(), length: v => image.diff({ length: v }).next() },
      ],
      [
        optional(notBoolean),
        {
          'diff wholeObject': v => image.diff({ wholeObject: v }).next(),
          'diff includeParent': v => image.diff({ includeParent: v }).next(),
        },
      ],
      [
        notKey,
        {
          exportTo: v => image.exportTo(v),
          importFrom: v => image.importFrom(v),
          importImage: v => pool.importImage('new', v),
        },
      ],
      [notName, { 'importImage name': v => pool.importImage(v, '/dev/null') }],
      [
        [...optional(allBut()), '', 'vmdk'],
        {
          'exportTo format': v => image.exportTo('/dev/null', { format: v }),
          'importImage format': v => pool.importImage('new', '/dev/null', { format: v }),
        },
      ],
      [['/dev/null', '/'], { 'no regular file': v => pool.importImage('new', v) }],
      [allBut(), { importDiff: v => image.importDiff(v) }],
      [
        [...allBut(), image],
        { 'copy pool': v => image.copy(v, 'new'), 'deepCopy pool': v => image.deepCopy(v, 'new') },
      ],
      [
        notNatural,
        {
          resize: v => image.resize(v),
          'read offset': v => image.read(v, 1),
          'read length': v => image.read(0, v),
          'readv offset': v => image.readv(v, [Buffer.alloc(1)]),
          'write offset': v => image.write(v, Buffer.alloc(1)),
          'writev offset': v => image.writev(v, [Buffer.alloc(1)]),
          'discard offset': v => image.discard(v, 1),
          'discard length': v => image.discard(0, v),
          'writeZeroes offset': v => image.writeZeroes(v, 1),
          'writeZeroes length': v => image.writeZeroes(0, v),
          'writeSame offset': v => image.writeSame(v, 1, Buffer.alloc(1)),
          'writeSame length': v => image.writeSame(0, v, Buffer.alloc(1)),
          'compareAndWrite offset': v => image.compareAndWrite(v, Buffer.alloc(1), Buffer.alloc(1)),
          removeSnapshotById: v => image.removeSnapshotById(v),
        },
      ],
      [[2 ** 31], { 'read length': v => image.read(0, v), 'writeSame length': v => image.writeSame(0, v, one) }],
      [[1, 1025], { 'writeSame length': v => image.writeSame(0, v, Buffer.alloc(2)) }],
      [notNatural.filter(v => v !== null), { setSnapshotLimit: v => image.setSnapshotLimit(v) }],
      [[...notView, 'text'], { write: v => image.write(0, v) }],
      [notView.filter(v => typeof v !== 'number'), { 'read into': v => image.read(0, v) }],
      [
        [...notView, Buffer.alloc(0)],
        {
          writeSame: v => image.writeSame(0, 8, v),
          'compareAndWrite expected': v => image.compareAndWrite(0, v, one),
          'compareAndWrite data': v => image.compareAndWrite(0, one, v),
        },
      ],
      [[Buffer.alloc(2)], { 'compareAndWrite of two lengths': v => image.compareAndWrite(0, one, v) }],
      [notViews, { readv: v => image.readv(0, v), writev: v => image.writev(0, v) }],
      [
        [...optional(allBut('array')), ['no-such'], ['RANDOM'], [5], 'random', new Array(1)],
        {
          'read fadvise': v => image.read(0, 1, { fadvise: v }),
          'write fadvise': v => image.write(0, one, { fadvise: v }),
          'writeZeroes fadvise': v => image.writeZeroes(0, 1, { fadvise: v }),
          'writeSame fadvise': v => image.writeSame(0, 1, one, { fadvise: v }),
          'compareAndWrite fadvise': v => image.compareAndWrite(0, one, one, { fadvise: v }),
        },
      ],
      [
        [...optional(notPositive), 3, 5000],
        { sparsify: v => image.sparsify({ sparseSize: v }), copy: v => image.copy(pool, 'new', { sparseSize: v }) },
      ],
      [notFeatures, { enableFeatures: v => image.enableFeatures(v), disableFeatures: v => image.disableFeatures(v) }],
      [
        optional(notBoolean),
        {
          allowShrink: v => image.resize(1, { allowShrink: v }),
          thickProvision: v => image.writeZeroes(0, 1, { thickProvision: v }),
          includeParent: v => image.usedBytes({ includeParent: v }),
          flatten: v => image.deepCopy(pool, 'new', { flatten: v }),
          protect: v => image.createSnapshot('new', { protect: v }),
          skipQuiesce: v => image.createSnapshot('new', { skipQuiesce: v }),
          ignoreQuiesceError: v => image.createSnapshot('new', { ignoreQuiesceError: v }),
          unprotect: v => snapshot.remove({ unprotect: v }),
          flattenClones: v => snapshot.remove({ flattenClones: v }),
        },
      ],
      [[...optional(allBut()), 0, 3], { cloneFormat: v => image.deepCopy(pool, 'new', { cloneFormat: v }) }],
      [
        notKey,
        {
          'exclusiveLock.break': v => image.exclusiveLock.break(v),
          'advisoryLock.acquire': v => image.advisoryLock.acquire(v),
          'advisoryLock.release': v => image.advisoryLock.release(v),
          'advisoryLock.break': v => image.advisoryLock.break(v, 'cookie'),
          'advisoryLock.break cookie': v => image.advisoryLock.break('client.1', v),
        },
      ],
      [optional(notText), { shared: v => image.advisoryLock.acquire('cookie', { shared: v }) }],
      [[{ from: 'one' }, { size: 1 }], { 'the options of other methods': v => image.stat(v) }],
    ])
    const tooLong = new DataView(new ArrayBuffer(2 ** 31))
    const half = new Uint8Array(tooLong.buffer, 0, 2 ** 30)
    await refuses(t, [
      [
        [tooLong],
        {
          'more data than librbd takes': v => image.write(0, v),
          'a larger buffer than librbd fills': v => image.read(0, v),
          'more to compare': v => image.compareAndWrite(0, v, v),
          'more of the same': v => image.writeSame(0, 2 ** 31, v),
        },
      ],
      [[[half, half]], { 'more data in parts': v => image.writev(0, v), 'larger buffers': v => image.readv(0, v) }],
    ])
  })

  await t.test('for a stream of an image', async t => {
    const entries: Table = [
      [
        optional(notNatural),
        {
          start: v => image.createReadStream({ start: v }),
          end: v => image.createReadStream({ end: v }),
          'writing from': v => image.createWriteStream({ start: v }),
        },
      ],
      [[4], { 'an end before the start': v => image.createReadStream({ start: 5, end: v }) }],
      [optional(notPositive), { highWaterMark: v => image.createReadStream({ highWaterMark: v }) }],
      [
        optional(notBoolean),
        {
          skipHoles: v => image.createReadStream({ skipHoles: v }),
          wholeObject: v => image.exportDiff({ wholeObject: v }),
        },
      ],
      [optional(notName), { from: v => image.exportDiff({ from: v }) }],
      [[{ sginal: 1 }, { signal: 1 }, { onProgress: 5 }], { exportDiff: v => image.exportDiff(v) }],
    ]
    await refuses(t, entries, false)
  })

  await t.test('for an object', async t => {
    await refuses(t, [
      [allBut(), { operate: v => object.operate(v) }],
      [allBut('function'), { watch: v => object.watch(v) }],
      [
        optional(notNatural),
        {
          offset: v => object.read({ offset: v }),
          length: v => object.read({ length: v }),
          'write offset': v => object.write('x', v),
          'watch timeout': v => object.watch(() => {}, { timeout: v }),
        },
      ],
      [notNatural, { truncate: v => object.truncate(v) }],
      [
        optional(notPositive),
        {
          limit: v => object.getOmapPage({ limit: v }),
          duration: v => object.lockExclusive('lock', { duration: v }),
          'notify timeout': v => object.notify('', { timeout: v }),
        },
      ],
      [[2 ** 31 * 1000 + 1], { duration: v => object.lockShared('lock', 'tag', { duration: v }) }],
      [
        notData,
        {
          write: v => object.write(v),
          writeFull: v => object.writeFull(v),
          append: v => object.append(v),
          setXattr: v => object.setXattr('a', v),
          setOmap: v => object.setOmap({ a: v }),
        },
      ],
      [optional(notData), { notify: v => object.notify(v) }],
      [
        notKey,
        {
          setXattr: v => object.setXattr(v, ''),
          removeXattr: v => object.removeXattr(v),
          lockExclusive: v => object.lockExclusive(v),
          lockShared: v => object.lockShared(v, 'tag'),
          unlock: v => object.unlock(v),
          breakLock: v => object.breakLock(v, 'client.1', ''),
          'breakLock client': v => object.breakLock('lock', v, ''),
          listLockers: v => object.listLockers(v),
        },
      ],
      [notText, { tag: v => object.lockShared('lock', v), 'a cookie': v => object.breakLock('lock', 'client.1', v) }],
      [
        optional(notText),
        {
          after: v => object.getOmapPage({ after: v }),
          prefix: v => object.listOmap({ prefix: v }).next(),
          cookie: v => object.lockExclusive('lock', { cookie: v }),
          description: v => object.lockExclusive('lock', { description: v }),
          'unlock cookie': v => object.unlock('lock', { cookie: v }),
        },
      ],
      [[...optional(allBut()), 'maybe', 'toString'], { renew: v => object.lockExclusive('lock', { renew: v }) }],
      [notKeys, { getOmap: v => object.getOmap(v), removeOmap: v => object.removeOmap(v) }],
      [[...allBut('object', 'date'), { '': 'x' }, [['a']], [[5, '']], [5]], { setOmap: v => object.setOmap(v) }],
    ])
  })

  await t.test('at once, where nothing is promised', async t => {
    const operation = () => new WriteOperation()
    await refuses(
      t,
      [
        [notObjectName, { object: v => pool.object(v) }],
        [notName, { snapshot: v => image.snapshot(v) }],
        [[...notOptions, { exlcusive: true }, { exclusive: 1 }], { create: v => operation().create(v) }],
        [notPositive, { assertVersion: v => operation().assertVersion(v) }],
        [[...allBut(), 'equals'], { comparison: v => operation().compareXattr('a', v, '') }],
        [[...allBut(), 'ne', 'gte'], { 'comparison of the omap': v => operation().compareOmap('a', v, '') }],
        [
          notKey,
          {
            compareXattr: v => operation().compareXattr(v, 'eq', ''),
            compareOmap: v => operation().compareOmap(v, 'eq', ''),
            setXattr: v => operation().setXattr(v, ''),
            removeXattr: v => operation().removeXattr(v),
          },
        ],
        [
          notData,
          {
            compareXattr: v => operation().compareXattr('a', 'eq', v),
            compareOmap: v => operation().compareOmap('a', 'eq', v),
            write: v => operation().write(v),
            writeFull: v => operation().writeFull(v),
            append: v => operation().append(v),
            setXattr: v => operation().setXattr('a', v),
            setOmap: v => operation().setOmap({ a: v }),
          },
        ],
        [
          notNatural,
          {
            truncate: v => operation().truncate(v),
            zero: v => operation().zero(v, 1),
            'zero length': v => operation().zero(0, v),
          },
        ],
        [optional(notNatural), { 'write offset': v => operation().write('', v) }],
        [notKeys, { removeOmap: v => operation().removeOmap(v) }],
      ],
      false,
    )
  })

  await t.test('for an agent, and its catalog', async t => {
    const config = readConfig({ BROKER_URL: 'amqp://localhost', ISCSI_DRIVER: 'none' })
    const noConfig = [...allBut(), {}, { ...config, agentId: 5 }]
    await refuses(
      t,
      [
        [[...allBut(), {}, { config, more: 1 }], { 'createAgent options': v => createAgent(v) }],
        [noConfig, { 'createAgent config': v => createAgent({ config: v }) }],
      ],
      false,
    )
    const file = '/none'
    await refuses(t, [
      [allBut(), { 'import pool': v => importCatalogImage(v, 'new', file) }],
      [notName, { 'import name': v => importCatalogImage(pool, v, file) }],
      [notKey, { 'import source': v => importCatalogImage(pool, 'new', v) }],
      [
        [...notOptions, { sha1: '' }, { signal: 1 }],
        { 'import options': v => importCatalogImage(pool, 'new', file, v) },
      ],
      [
        [...optional(notText), 'text', 'g'.repeat(64)],
        { sha256: v => importCatalogImage(pool, 'new', file, { sha256: v }) },
      ],
    ])
  })

  await t.test('and has done nothing', async t => {
    t.same(
      (await pool.listImages()).map(({ name }) => name),
      ['disk', 'other'],
    )
    t.match(await image.stat(), { size: 2 ** 20, operationFeatures: [], flags: [] })
    t.same(
      (await image.listSnapshots()).map(({ name }) => name),
      ['one'],
    )
    t.same(await image.config.getQos(), {})
    t.equal((await object.stat()).size, 0)
    t.same([...(await object.getOmapPage()).entries.keys()], ['key'])
    t.same((await object.listLockers('lock')).lockers, [])
    t.equal(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'listwatchers', 'object'), '')
  })
})
