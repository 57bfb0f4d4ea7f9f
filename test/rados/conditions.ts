/** Write operations: all steps or none, and only if their conditions hold. */
import t from 'tap'
import { type Comparison, type OmapComparison, WriteOperation } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

t.test('an operation does all of its steps', async t => {
  const pool = await testPool(t)
  const object = pool.object('object')
  await object.operate(
    new WriteOperation()
      .create()
      .writeFull('data')
      .write('D')
      .append('!')
      .setXattr('a', '1')
      .setXattr('b', '2')
      .removeXattr('a')
      .setOmap({ gone: '' })
      .clearOmap()
      .setOmap({ k: 'v', l: 'w' })
      .removeOmap(['l']),
  )
  t.equal((await object.read()).toString(), 'Data!')
  t.same([...(await object.getXattrs()).keys()], ['b'])
  t.same([...(await object.getOmapPage()).entries.keys()], ['k'])
  await object.operate(new WriteOperation().remove())
  t.notMatch(await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls'), /^object$/m)
})

t.test('an operation whose condition does not hold does nothing', async t => {
  const pool = await testPool(t)
  const object = pool.object('object')
  const version = await object.operate(new WriteOperation().create().setXattr('a', 'm').setOmap({ k: 'm' }))
  const missing = pool.object('missing')
  const attempt = (operation: WriteOperation, on = object) => on.operate(operation.writeFull('changed'))
  const conflict = { name: 'ConflictError', retryable: false, syscall: 'rados_aio_write_op_operate' }
  const notFound = { name: 'ObjectNotFoundError', code: 'ENOENT' }
  await fails(t, {
    'exclusive create': [() => attempt(new WriteOperation().create()), { name: 'ObjectExistsError', code: 'EEXIST' }],
    'a newer version': [
      () => attempt(new WriteOperation().assertVersion(version - 1)),
      { ...conflict, code: 'ERANGE' },
    ],
    'an older version': [
      () => attempt(new WriteOperation().assertVersion(version + 1000)),
      { ...conflict, code: 'EOVERFLOW' },
    ],
    'another attribute': [
      () => attempt(new WriteOperation().compareXattr('a', 'eq', 'x')),
      { ...conflict, code: 'ECANCELED' },
    ],
    'another value': [
      () => attempt(new WriteOperation().compareOmap('k', 'eq', 'x')),
      { ...conflict, code: 'ECANCELED' },
    ],
    'one of several': [
      () => attempt(new WriteOperation().compareOmap('k', 'eq', 'm').compareXattr('a', 'eq', 'x')),
      conflict,
    ],
    'no object': [() => attempt(new WriteOperation().assertExists(), missing), notFound],
    'no object, and so no value': [() => attempt(new WriteOperation().compareOmap('k', 'eq', ''), missing), notFound],
  })
  t.equal((await object.stat()).size, 0)
  await fails(t, { 'nor was the other made': [() => missing.stat(), notFound] })
})

t.test('an operation whose condition holds is done', async t => {
  const object = (await testPool(t)).object('object')
  await object.operate(new WriteOperation().create({ exclusive: false }))
  const version = await object.operate(new WriteOperation().create({ exclusive: false }).assertExists())
  await object.operate(new WriteOperation().assertVersion(version).setOmap({ state: 'begun' }))
  await object.operate(new WriteOperation().compareOmap('state', 'eq', 'begun').setOmap({ state: 'done' }))
  await object.operate(new WriteOperation().compareOmap('absent', 'eq', '').compareXattr('absent', 'eq', ''))
  t.equal((await object.getOmap(['state'])).entries.get('state')?.toString(), 'done')
})

t.test('of writers that compare and swap, one wins each time', async t => {
  const object = (await testPool(t)).object('counter')
  await object.setOmap({ count: '0' })
  const increment = async (): Promise<void> => {
    const count = (await object.getOmap(['count'])).entries.get('count') ?? Buffer.alloc(0)
    const operation = new WriteOperation().compareOmap('count', 'eq', count).setOmap({ count: `${Number(count) + 1}` })
    await object.operate(operation).catch(error => {
      if (error.name !== 'ConflictError') throw error
      return increment()
    })
  }
  await Promise.all(Array.from({ length: 20 }, increment))
  t.equal((await object.getOmap(['count'])).entries.get('count')?.toString(), '20')
})

t.test('attributes and values compare to what is given', async t => {
  const object = (await testPool(t)).object('object')
  const holds: Record<Comparison, string[]> = {
    eq: ['m'],
    ne: ['a', 'z'],
    gt: ['a'],
    gte: ['a', 'm'],
    lt: ['z'],
    lte: ['m', 'z'],
  }
  const whichHold = async (compare: (value: string) => WriteOperation) => {
    const held: string[] = []
    for (const value of ['a', 'm', 'z']) {
      const done = object.operate(compare(value).setXattr('a', 'm').setOmap({ k: 'm' }))
      await done.then(() => held.push(value)).catch(error => t.equal(error.code, 'ECANCELED'))
    }
    return held
  }
  await object.operate(new WriteOperation().setXattr('a', 'm').setOmap({ k: 'm' }))
  for (const [comparison, values] of Object.entries(holds) as [Comparison, string[]][]) {
    t.same(await whichHold(v => new WriteOperation().compareXattr('a', comparison, v)), values, `'m' ${comparison}`)
  }
  for (const comparison of ['eq', 'gt', 'lt'] as OmapComparison[]) {
    const held = await whichHold(v => new WriteOperation().compareOmap('k', comparison, v))
    t.same(held, holds[comparison], `'m' ${comparison}, in the omap`)
  }
})
