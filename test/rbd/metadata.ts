import t from 'tap'
import { type Metadata, MiB } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { python } from '../support/python.js'

async function entries(metadata: Metadata): Promise<[string, string][]> {
  const all: [string, string][] = []
  for await (const entry of metadata.list()) all.push(entry)
  return all
}

t.test('the metadata of an image', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const { metadata } = image

  await t.test('is set, changed and removed, and rbd sees it', async t => {
    t.same(await entries(metadata), [])
    await metadata.set('owner', 'Jürgen')
    await metadata.set('empty', '')
    await metadata.set('owner', 'Zoë 😀')
    await metadata.set('gone', 'x')
    await metadata.remove('gone')
    t.same(await rbdJson('image-meta', 'list', image.path), { empty: '', owner: 'Zoë 😀' })
    t.equal(await metadata.get('owner'), 'Zoë 😀')
    t.equal(await metadata.get('empty'), '', 'an empty value is one')
    t.equal(await metadata.get('gone'), undefined)
  })

  await t.test('of an image that was removed is not taken for none', async t => {
    await pool.createImage('removed', { size: MiB })
    await using removed = await pool.openImage('removed', { readOnly: true })
    t.equal(await removed.metadata.get('key'), undefined)
    await run('rbd', 'rm', '--no-progress', removed.path)
    const gone = { name: 'ImageNotFoundError', resource: removed.path }
    await t.rejects(removed.metadata.get('key'), gone)
    await t.rejects(entries(removed.metadata), gone)
  })

  await t.test('of rbd is the same here, in the order of the keys', async t => {
    await run('rbd', 'image-meta', 'set', image.path, 'b', 'two')
    await run('rbd', 'image-meta', 'set', image.path, 'a', 'one')
    t.same((await entries(metadata)).slice(0, 2), [
      ['a', 'one'],
      ['b', 'two'],
    ])
  })

  await t.test('may be long, and much', async t => {
    const [key, value] = ['k'.repeat(10_000), 'v'.repeat(200_000)]
    await metadata.set(key, value)
    t.equal(await metadata.get(key), value)
    await Promise.all(Array.from({ length: 200 }, (_, i) => metadata.set(`many-${1000 + i}`, `${i}`)))
    const all = await entries(metadata)
    t.equal(all.filter(([each]) => each.startsWith('many-')).length, 200)
    t.same(
      all.map(([each]) => each),
      [...all.map(([each]) => each)].sort(),
    )
    t.ok(all.some(([k, v]) => k === key && v === value))
  })

  await t.test('is refused', async t => {
    await using reader = await pool.openImage('disk', { readOnly: true })
    const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', syscall: 'rbd_metadata_set' }
    const readOnly = { name: 'ReadOnlyImageError', code: 'EROFS' }
    await fails(t, {
      'where there is none to remove': [
        () => metadata.remove('missing'),
        { name: 'NotFoundError', code: 'ENOENT', resource: `${image.path}: missing` },
      ],
      'as an unknown setting': [() => metadata.set('conf_no_such', '1'), invalid],
      'as no value of a setting': [() => metadata.set('conf_rbd_cache', 'maybe'), invalid],
      'to who only reads': [() => reader.metadata.set('a', 'b'), readOnly],
      'and may not remove': [() => reader.metadata.remove('a'), readOnly],
    })
    t.equal(await reader.metadata.get('a'), 'one')
  })
})

t.test('the metadata of a pool', async t => {
  const pool = await testPool(t)
  await pool.metadata.set('owner', 'us')
  await pool.metadata.set('gone', '')
  await pool.metadata.remove('gone')
  t.same(await entries(pool.metadata), [['owner', 'us']])
  t.same(await python(pool, `answer(list(images.pool_metadata_list(ioctx)))`), [['owner', 'us']])
  await python(pool, `images.pool_metadata_set(ioctx, 'theirs', 'value')`)
  t.equal(await pool.metadata.get('theirs'), 'value')
  t.equal(await pool.metadata.get('missing'), undefined)
  await fails(t, { 'none to remove': [() => pool.metadata.remove('missing'), { name: 'NotFoundError' }] })
})
