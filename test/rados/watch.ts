import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { RadosObject } from '../../lib/index.js'
import { run, testCluster, testPool } from '../support/cluster.js'
import { python } from '../support/python.js'

/** An object, and the same as another client has it. */
async function twoClients(t: Test): Promise<[RadosObject, RadosObject]> {
  const pool = await testPool(t)
  const other = await (await testCluster(t)).openPool('rbd', { namespace: pool.namespace })
  await pool.object('object').writeFull('')
  return [pool.object('object'), other.object('object')]
}

const watchers = async ({ pool, name }: RadosObject) =>
  (await run('rados', '-p', 'rbd', '-N', pool.namespace, 'listwatchers', name)).split('\n').filter(line => line !== '')

t.test('who watches hears who notifies', async t => {
  const [ours, theirs] = await twoClients(t)
  const heard: string[] = []
  const watch = await ours.watch(({ payload, notifier }) => {
    heard.push(`${payload} from ${notifier}`)
    return `re: ${payload}`
  })
  t.equal((await watchers(ours)).length, 1, 'rados sees the watch')

  const client = await ours.pool.cluster.instanceId()
  const { acks, timeouts } = await theirs.notify('hello')
  t.same(heard, [`hello from ${await theirs.pool.cluster.instanceId()}`])
  t.match(acks, [{ client, payload: Buffer.from('re: hello') }])
  t.same(timeouts, [])
  t.equal((await theirs.notify()).acks[0]?.payload.toString(), 're: ', 'the payload may be empty')

  await watch.close()
  t.ok(watch.closed)
  t.same(await watchers(ours), [], 'and no watch, once it is closed')
  t.same((await theirs.notify('again')).acks, [])
  t.equal(heard.length, 2)
})

t.test('the reply of a listener may be a promise, bytes or nothing', async t => {
  const [ours, theirs] = await twoClients(t)
  const replies = [Promise.resolve('later'), Buffer.from([0, 255]), undefined]
  for (const reply of replies) {
    await using watch = await ours.watch(() => reply)
    const [ack] = (await theirs.notify('?')).acks
    t.same(ack?.payload, Buffer.from((await reply) ?? ''))
    t.notOk(watch.closed)
  }
})

t.test('several who watch all reply, with cookies of their own', async t => {
  const [ours, theirs] = await twoClients(t)
  await using first = await ours.watch(() => 'first')
  await using second = await ours.watch(() => 'second')
  await using third = await theirs.watch(() => 'third')
  const { acks } = await theirs.notify('all')
  t.same(acks.map(({ payload }) => payload.toString()).sort(), ['first', 'second', 'third'])
  t.equal(new Set(acks.map(({ client, cookie }) => `${client} ${cookie}`)).size, 3)
  t.notOk(first.closed || second.closed || third.closed)
})

t.test('who does not reply in time is named', async t => {
  const [ours, theirs] = await twoClients(t)
  let reply = (_: string) => {}
  const late = new Promise<string>(resolve => {
    reply = resolve
  })
  await using watch = await ours.watch(() => late)
  const started = Date.now()
  const { acks, timeouts } = await theirs.notify('?', { timeout: 300 })
  t.ok(Date.now() - started < 5000, 'after a whole second')
  t.same(acks, [])
  t.match(timeouts, [{ client: await ours.pool.cluster.instanceId(), cookie: BigInt }])
  reply('too late')
  await sleep(200)
  t.notOk(watch.closed, 'and nothing comes of replying late')
})

t.test('an exception in the listener is an error event, and the notifier does not wait for it', async t => {
  const [ours, theirs] = await twoClients(t)
  await using watch = await ours.watch(() => {
    throw new Error('on purpose')
  })
  const error = once(watch, 'error')
  const { acks } = await theirs.notify('?')
  t.equal(acks[0]?.payload.length, 0)
  t.match(await error, [{ message: 'on purpose' }])

  await using wrong = await ours.watch((() => 5) as unknown as () => string)
  const complaint = once(wrong, 'error')
  watch.on('error', () => {})
  await theirs.notify('?')
  t.match(await complaint, [{ code: 'ERR_INVALID_ARG_TYPE', message: /the reply/ }])
})

t.test('a watch whose object is removed is lost, and can be closed', async t => {
  const [ours, theirs] = await twoClients(t)
  const watch = await ours.watch(() => {}, { timeout: 5000 })
  const lost = once(watch, 'error')
  await theirs.remove()
  t.match(await lost, [{ name: 'NotConnectedError', syscall: 'rados_watch3', resource: ours.path }])
  t.notOk(watch.closed)
  await theirs.writeFull('')
  t.same((await theirs.notify()).acks, [], 'it does not come back with the object')
  await t.resolves(watch.close())
})

t.test('a watch is taken and notified by python-rados', async t => {
  const [ours] = await twoClients(t)
  await using watch = await ours.watch(({ payload }) => `re: ${payload}`)
  t.notOk(watch.closed)
  const acks = await python(ours.pool, `answer(ioctx.notify('object', 'from python', 5000))`)
  t.equal(acks, true)

  const watching = python(
    ours.pool,
    `
import threading, time
heard = threading.Event()
got = []
def callback(notify_id, notifier_id, watch_id, data):
    got.append(data); heard.set()
    return b'from python'
with ioctx.watch('object', callback):
    heard.wait(20)
    time.sleep(0.2)  # for the reply to be sent
answer(got)
`,
  )
  while ((await watchers(ours)).length < 2) await sleep(20)
  const { acks: replies } = await ours.notify('to python')
  t.ok(replies.some(({ payload }) => payload.toString() === 'from python'))
  t.same(await watching, ['to python'])
})
