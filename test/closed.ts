/** What is closed says so, whatever is asked of it; and closing waits. */
import t from 'tap'
import {
  AdvisoryLock,
  Cluster,
  Config,
  ExclusiveLock,
  Image,
  Metadata,
  MiB,
  Pool,
  RadosObject,
  Snapshot,
  Trash,
} from '../lib/index.js'
import { allCalls, subjects } from './support/calls.js'
import { run, testCluster, testPool } from './support/cluster.js'

/** By the beginning of the names of their calls. */
const classes: Record<string, { prototype: object }> = {
  cluster: Cluster,
  pool: Pool,
  object: RadosObject,
  image: Image,
  snapshot: Snapshot,
  'pool.trash': Trash,
  'image.exclusiveLock': ExclusiveLock,
  'image.advisoryLock': AdvisoryLock,
  'image.metadata': Metadata,
  'image.config': Config,
}

/** What these classes have besides methods that call Ceph. */
const noCalls = [
  'constructor',
  'close',
  'closed',
  'path',
  'object',
  'snapshot',
  'pool',
  'imageName',
  'forgetSize',
  'isSameAs',
]

/** Inherited ones too. */
function namesOf(prototype: object): string[] {
  if (prototype === Object.prototype) return []
  return [...Object.getOwnPropertyNames(prototype), ...namesOf(Object.getPrototypeOf(prototype))]
}

t.test('the table of calls has every method', async t => {
  const called = allCalls.map(({ name }) => name)
  for (const [prefix, { prototype }] of Object.entries(classes)) {
    const methods = namesOf(prototype).filter(name => !noCalls.includes(name))
    t.same(
      methods.filter(name => !called.includes(`${prefix}.${name}`)),
      [],
      prefix,
    )
  }
})

const closedError = { name: 'ClosedError', code: 'EBADF', retryable: false }

t.test('after close()', async t => {
  for (const closed of ['cluster', 'pool', 'image'] as const) {
    await t.test(`of the ${closed}`, async t => {
      const all = await subjects(await testPool(t))
      await all[closed].close()
      const { cluster, pool, image } = all
      const order = [cluster, pool, image]
      t.same(
        order.map(each => each.closed),
        order.map(each => order.indexOf(each) >= order.indexOf(all[closed])),
      )
      for (const { name, call } of allCalls) {
        const isClosed = {
          cluster: true,
          pool: !name.startsWith('cluster.'),
          image: /^(image|snapshot)\./.test(name),
        }[closed]
        if (isClosed) await t.rejects(call(all, {} as never), closedError, name)
      }
    })
  }
})

t.test('close() is safe twice, and at once', async t => {
  const { cluster, pool, image, object } = await subjects(await testPool(t))
  const watch = await object.watch(() => {})
  for (const [name, handle] of Object.entries({ watch, image, pool, cluster })) {
    t.equal(handle.closed, false)
    const closing = Promise.all([handle.close(), handle.close(), handle[Symbol.asyncDispose]()])
    t.equal(handle.closed, true, 'from the moment it is asked for')
    await t.resolves(closing, `${name}, at once`)
    await t.resolves(handle.close(), `${name}, again`)
  }
})

t.test('close() of a pool or a cluster closes what was opened through it', async t => {
  const pool = await testPool(t)
  const inner = await pool.cluster.openPool('rbd', { namespace: pool.namespace })
  const { image, object } = await subjects(inner)
  const watch = await object.watch(() => {})
  const reader = await inner.openImage('disk', { readOnly: true })
  await inner.close()
  t.ok(image.closed && watch.closed && reader.closed)
  t.notMatch(await run('rbd', 'status', `${pool.path}/disk`), /watcher=/)
  t.equal(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'listwatchers', 'object'), '')
  t.notOk(pool.closed, 'and nothing else')
  await t.resolves(pool.listImages())
})

t.test('close() of several at once, in any order', async t => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const all = await subjects(await testPool(t))
    const handles = [all.cluster, all.pool, all.image]
    await t.resolves(Promise.all(order.map(index => handles[index]?.close())), order.join())
  }
})

t.test('close() waits for 100 calls in flight, and they all succeed', async t => {
  const hundred = <T>(call: (i: number) => Promise<T>) => Array.from({ length: 100 }, (_, i) => call(i))
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 16 * MiB })
  const image = await pool.openImage('disk')
  const tables: Record<string, [handle: { close(): Promise<void> }, calls: () => Promise<unknown>[]][]> = {
    'an image': [
      [image, () => hundred<unknown>(i => (i % 2 ? image.write(i * 4096, Buffer.alloc(4096, i)) : image.stat()))],
    ],
    'a pool': [[pool, () => hundred(i => pool.createImage(`image-${i}`, { size: MiB }))]],
    'a cluster': [
      [
        pool.cluster,
        () => hundred<unknown>(i => (i % 2 ? pool.cluster.fsid() : pool.cluster.monCommand({ prefix: 'status' }))),
      ],
    ],
  }
  for (const [name, entries] of Object.entries(tables)) {
    for (const [handle, start] of entries) {
      const calls = start()
      let settled = 0
      for (const call of calls) call.then(() => settled++)
      await handle.close()
      t.equal(settled, 100, name)
    }
  }
  const again = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  t.equal((await again.listImages()).length, 101)
  await using disk = await again.openImage('disk')
  t.ok((await disk.read(99 * 4096, 4096)).equals(Buffer.alloc(4096, 99)))
})
