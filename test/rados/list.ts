import t from 'tap'
import { run, testCluster } from '../support/cluster.js'

const many = 2500 // more than one batch

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

t.test('a listing of objects', async t => {
  const cluster = await testCluster(t)
  const pool = await cluster.openPool('rbd', { namespace: `list-${process.pid}` })
  t.same(await collect(pool.listObjects()), [], 'is empty where nothing is')

  const names = Array.from({ length: many }, (_, i) => `object-${i}`)
  await Promise.all(names.map(name => pool.object(name).writeFull('')))

  await t.test('has each object once, as rados has', async t => {
    const listed = (await collect(pool.listObjects())).map(({ name }) => name)
    t.same(listed.sort(), names.sort())
    t.same((await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls')).trim().split('\n').sort(), listed)
  })

  await t.test('can be left in the middle', async t => {
    let seen = 0
    for await (const { namespace } of pool.listObjects()) {
      t.equal(namespace, pool.namespace)
      if (++seen === 3) break
    }
    await t.resolves(pool.close(), 'and leaves nothing open')
  })

  await t.test('covers one namespace, or all', async t => {
    const whole = await cluster.openPool('rbd')
    const here = new Set((await collect(whole.listObjects())).map(({ namespace }) => namespace))
    t.notOk(here.has(pool.namespace))
    const all = await collect(whole.listObjects({ allNamespaces: true }))
    t.equal(all.filter(({ namespace }) => namespace === pool.namespace).length, many)
  })

  await t.test('tells what places an object, where that is not its name', async t => {
    const here = await cluster.openPool('rbd', { namespace: `${pool.namespace}-locator` })
    const file = `${t.testdir({ data: 'x' })}/data`
    await run('rados', '-p', 'rbd', '-N', here.namespace, '--object-locator', 'elsewhere', 'put', 'placed', file)
    t.same(await collect(here.listObjects()), [{ name: 'placed', namespace: here.namespace, locator: 'elsewhere' }])
  })
})
