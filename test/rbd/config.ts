import t from 'tap'
import { MiB, type QosChange } from '../../lib/index.js'
import { rbdJson, run, testPool, testWholePool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

interface Setting {
  name: string
  value: string
  source: string
}

/** The settings that rbd says are overridden, by name. */
async function overrides(...args: string[]): Promise<Record<string, string>> {
  const settings: Setting[] = await rbdJson('config', ...args)
  return Object.fromEntries(settings.filter(each => each.source === args[0]).map(({ name, value }) => [name, value]))
}

t.test('the settings of an image', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const { config } = image

  await t.test('are listed as rbd lists them', async t => {
    // The command changes this one for itself.
    const comparable = (settings: Setting[]) =>
      settings.filter(each => each.name !== 'rbd_cache_writethrough_until_flush')
    t.same(comparable(await config.list()), comparable(await rbdJson('config', 'image', 'ls', image.path)))
  })

  await t.test('are overridden, and rbd sees it', async t => {
    await config.set('rbd_cache', 'false')
    await config.set('rbd_readahead_max_bytes', '0')
    t.same(await overrides('image', 'ls', image.path), { rbd_cache: 'false', rbd_readahead_max_bytes: '0' })
    await config.remove('rbd_cache')
    t.same(await overrides('image', 'ls', image.path), { rbd_readahead_max_bytes: '0' })
    await run('rbd', 'config', 'image', 'set', image.path, 'rbd_cache', 'false')
    t.match(
      (await config.list()).find(({ name }) => name === 'rbd_cache'),
      { value: 'false', source: 'image' },
    )
    for (const name of ['rbd_cache', 'rbd_readahead_max_bytes']) await config.remove(name)
  })

  await t.test('cannot be what they are not', async t => {
    await using reader = await pool.openImage('disk', { readOnly: true })
    const invalid = { name: 'InvalidArgumentError', code: 'EINVAL', message: /no such setting, or no value/ }
    await fails(t, {
      'no such setting': [
        () => config.set('rbd_no_such', '1'),
        { ...invalid, resource: `${image.path}: conf_rbd_no_such` },
      ],
      'no such value': [() => config.set('rbd_cache', 'maybe'), invalid],
      'none to remove': [() => config.remove('rbd_cache'), { name: 'NotFoundError', code: 'ENOENT' }],
      'to who only reads': [() => reader.config.set('rbd_cache', 'false'), { name: 'ReadOnlyImageError' }],
      'nor remove': [() => reader.config.remove('rbd_cache'), { name: 'ReadOnlyImageError' }],
      'nor limit': [() => reader.config.setQos({ iops: { limit: 1 } }), { name: 'ReadOnlyImageError' }],
    })
  })
})

/** By the limit: the settings it is kept in. */
const limits: Record<keyof QosChange, string> = {
  iops: 'rbd_qos_iops',
  readIops: 'rbd_qos_read_iops',
  writeIops: 'rbd_qos_write_iops',
  bps: 'rbd_qos_bps',
  readBps: 'rbd_qos_read_bps',
  writeBps: 'rbd_qos_write_bps',
}

t.test('the limits of an image', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: MiB })
  await using image = await pool.openImage('disk')
  const { config } = image
  t.same(await config.getQos(), {}, 'there are none at first')

  await t.test('go to the settings they are for', async t => {
    for (const [name, option] of Object.entries(limits)) {
      await config.setQos({ [name]: { limit: 100, burst: 200 } })
      t.same(await overrides('image', 'ls', image.path), { [`${option}_limit`]: '100', [`${option}_burst`]: '200' })
      t.same(await config.getQos(), { [name]: { limit: 100, burst: 200 } })
      await config.setQos({ [name]: { limit: 7 } })
      t.same(await overrides('image', 'ls', image.path), { [`${option}_limit`]: '7' }, 'without a burst')
      await config.setQos({ [name]: null })
      t.same(await overrides('image', 'ls', image.path), {}, 'and taken away')
    }
  })

  await t.test('change together, and leave others', async t => {
    await config.setQos({ iops: { limit: 10 }, bps: { limit: Number.MAX_SAFE_INTEGER } })
    await config.setQos({ readIops: { limit: 5 }, bps: null, iops: undefined })
    await config.setQos({ writeBps: null })
    await config.setQos({})
    t.same(await config.getQos(), { iops: { limit: 10 }, readIops: { limit: 5 } })
  })

  await t.test('of rbd are the same here', async t => {
    await run('rbd', 'config', 'image', 'set', image.path, 'rbd_qos_write_bps_limit', '1048576')
    t.same((await config.getQos()).writeBps, { limit: MiB })
  })
})

t.test('the settings of a pool', async t => {
  const pool = await testWholePool(t)
  await pool.createNamespace('tenant')
  const tenant = await pool.cluster.openPool(pool.name, { namespace: 'tenant' })
  await tenant.createImage('disk', { size: MiB })
  const image = await tenant.openImage('disk')

  await t.test('are those of its images, in all namespaces', async t => {
    await pool.config.set('rbd_cache', 'false')
    await pool.config.setQos({ iops: { limit: 10 } })
    t.same(await overrides('pool', 'ls', pool.name), { rbd_cache: 'false', rbd_qos_iops_limit: '10' })
    t.match(
      (await image.config.list()).find(({ name }) => name === 'rbd_cache'),
      { value: 'false', source: 'pool' },
    )
    t.same(await image.config.getQos(), { iops: { limit: 10 } })
    t.same(await tenant.config.list(), await pool.config.list(), 'and can be read in each')
    const invalid = { name: 'InvalidArgumentError', code: 'EINVAL' }
    await fails(t, {
      'no such setting': [() => pool.config.set('rbd_no_such', '1'), invalid],
      'no such value': [() => pool.config.set('rbd_cache', 'maybe'), invalid],
      'none to remove': [() => pool.config.remove('rbd_no_such'), { name: 'NotFoundError' }],
    })
    await image.config.set('rbd_cache', 'true')
    t.match(
      (await image.config.list()).find(({ name }) => name === 'rbd_cache'),
      { value: 'true', source: 'image' },
    )
    await pool.config.remove('rbd_cache')
    await pool.config.setQos({ iops: null })
    t.same(await overrides('pool', 'ls', pool.name), {})
  })

  await t.test('are not set in one namespace, where they would have no effect', async t => {
    const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /without a namespace/ }
    await fails(t, {
      set: [() => tenant.config.set('rbd_cache', 'false'), refused],
      remove: [() => tenant.config.remove('rbd_cache'), refused],
      setQos: [() => tenant.config.setQos({ iops: { limit: 1 } }), refused],
    })
  })
})
