import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Image, MiB } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { until } from '../support/process.js'

const limitMs = 10_000

async function disk(t: Test): Promise<Image> {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 4 * MiB })
  return pool.openImage('disk')
}

t.test('a listener hears of changes that others make, and sees them', async t => {
  const image = await disk(t)
  let seen = ''
  await using watch = await image.watch(async () => {
    const { size, features } = await image.stat()
    const keys = []
    for await (const [key] of image.metadata.list()) keys.push(key)
    seen = [size / MiB, features.includes('fast-diff'), (await image.listSnapshots()).length, ...keys].join()
  })
  t.equal(watch.image, image)
  const changes: [command: string, ...rest: (string | number)[]][] = [
    ['8,true,0', 'resize', '--no-progress', '--size', 8, image.path],
    ['8,true,1', 'snap', 'create', '--no-progress', `${image.path}@one`],
    ['8,true,1,key', 'image-meta', 'set', image.path, 'key', 'value'],
    ['8,true,0,key', 'snap', 'rm', '--no-progress', `${image.path}@one`],
    ['8,false,0,key', 'feature', 'disable', image.path, 'fast-diff'],
    ['1,false,0,key', 'resize', '--no-progress', '--allow-shrink', '--size', 1, image.path],
  ]
  for (const [expected, ...command] of changes) {
    await run('rbd', ...command.map(String))
    t.ok(await until(() => seen === expected, limitMs), `rbd ${command.join(' ')}: ${seen}`)
  }
})

t.test('many changes are few calls, and nobody waits for a busy event loop', async t => {
  const image = await disk(t)
  let calls = 0
  await using watch = await image.watch(() => void calls++)
  const script = `
import os, rados, rbd
cluster = rados.Rados(conffile=os.environ['CEPH_CONF'])
cluster.connect()
ioctx = cluster.open_ioctx('${image.pool.name}')
ioctx.set_namespace('${image.pool.namespace}')
with rbd.Image(ioctx, 'disk') as image:
    for i in range(30):
        image.resize(${8 * MiB} + i * 4096)
`
  execFileSync('/usr/bin/python3', ['-c', script], { timeout: limitMs, stdio: 'ignore' })
  t.equal(calls, 0, 'the loop was busy all the time')
  t.ok(await until(() => calls > 0, limitMs))
  t.ok(calls <= 2, `${calls} calls for 30 changes`)
  t.equal(await image.size(), 8 * MiB + 29 * 4096)
  t.notOk(watch.closed)
})

t.test('a listener is called again only when it is done, and then for what came in the meantime', async t => {
  const image = await disk(t)
  let running = 0
  let overlap = false
  let seen = 0
  let calls = 0
  await using watch = await image.watch(async () => {
    overlap ||= running > 0
    running++
    calls++
    const size = await image.size()
    await sleep(100)
    seen = size
    running--
  })
  await using other = await image.pool.openImage('disk')
  for (let i = 1; i <= 20; i++) await other.resize((4 + i) * MiB)
  t.ok(await until(() => seen === 24 * MiB, limitMs), 'the last change is never missed')
  t.notOk(overlap)
  t.ok(calls < 20, `${calls} calls for 20 changes`)
  t.notOk(watch.closed)
})

t.test('an exception in the listener is an error event, and the next change is told', async t => {
  const image = await disk(t)
  const errors: string[] = []
  await using watch = await image.watch(() => Promise.reject(new Error('on purpose')))
  watch.on('error', ({ message }) => errors.push(message))
  await image.resize(5 * MiB)
  t.ok(await until(() => errors.length > 0, limitMs), 'of a change of our own')
  await sleep(200)
  const before = errors.length
  await image.resize(6 * MiB)
  t.ok(await until(() => errors.length > before, limitMs))
  t.same(new Set(errors), new Set(['on purpose']))
})

t.test('several watches of one image all hear', async t => {
  const image = await disk(t)
  const heard = { first: 0, second: 0 }
  await using first = await image.watch(() => void heard.first++)
  const second = await image.watch(() => void heard.second++)
  await image.resize(5 * MiB)
  t.ok(await until(() => heard.first > 0 && heard.second > 0, limitMs))
  await second.close()
  const before = { ...heard }
  await image.resize(6 * MiB)
  t.ok(await until(() => heard.first > before.first, limitMs))
  t.equal(heard.second, before.second, 'not the one that is closed')
  t.notOk(first.closed)
})

t.test('a watch is closed in the middle of changes, with its image or without', async t => {
  const image = await disk(t)
  const { pool } = image
  let changing = true
  const changes = (async () => {
    for (let i = 0; changing; i++) await image.resize((4 + (i % 8)) * MiB, { allowShrink: true })
  })()
  for (let i = 0; i < 20; i++) {
    const watched = await pool.openImage('disk')
    let closed = false
    let late = false
    const watch = await watched.watch(async () => {
      late ||= closed
      await watched.size() // and again, when it may have been closed
      await watched.size()
    })
    await sleep(i)
    if (i % 2) await watch.close()
    else await watched.close()
    closed = true
    t.ok(watch.closed)
    await sleep(5)
    t.notOk(late, 'nothing is told after the close')
    await watched.close()
  }
  changing = false
  await changes
})

t.test('an image opened read-only cannot be watched, for it hears of no changes', async t => {
  const image = await disk(t)
  await using reader = await image.pool.openImage('disk', { readOnly: true })
  const refused = { name: 'ReadOnlyImageError', code: 'EROFS', resource: image.path }
  await t.rejects(
    reader.watch(() => {}),
    { ...refused, syscall: 'rbd_update_watch' },
  )
  await t.rejects(reader.watchQuiesce({ quiesce() {} }), { ...refused, syscall: 'rbd_quiesce_watch' })
})
