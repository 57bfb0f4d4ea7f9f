/** No cluster: the promise rejects in time, whatever it is that does not answer. */
import { createServer } from 'node:net'
import t from 'tap'
import { Cluster, type ConnectOptions } from '../../lib/index.js'

const timeoutMs = 2000

/** What a connection to this monitor rejects with, and after how many milliseconds. */
async function attempt(monHost: string, options: ConnectOptions = {}) {
  const started = performance.now()
  const error = await Cluster.connect({
    configFile: null,
    options: { mon_host: monHost, key: 'AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==' },
    timeout: timeoutMs,
    ...options,
  }).then(
    () => null,
    error => error,
  )
  return { error, ms: performance.now() - started }
}

t.test('nobody listens', async t => {
  const { error, ms } = await attempt('[v2:127.0.0.1:1,v1:127.0.0.1:2]')
  t.match(error, { name: 'TimeoutError', code: 'ETIMEDOUT', syscall: 'rados_connect', retryable: true })
  t.ok(ms < timeoutMs + 1500, `${ms.toFixed(0)} ms`)
})

t.test('somebody listens, and says nothing', async t => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const { error, ms } = await attempt(`v2:127.0.0.1:${port}`)
  t.match(error, { name: 'TimeoutError', code: 'ETIMEDOUT' })
  t.ok(ms < timeoutMs + 1500, `${ms.toFixed(0)} ms`)
})

t.test('an abort does not wait for the time-out', async t => {
  const { error, ms } = await attempt('v2:127.0.0.1:1', { signal: AbortSignal.timeout(200) })
  t.match(error, { name: 'AbortError', cause: { name: 'TimeoutError' } })
  t.ok(ms < 1000, `${ms.toFixed(0)} ms`)
})

t.test('there is no configuration file', async t => {
  await t.rejects(Cluster.connect({ configFile: '/nonexistent/ceph.conf' }), {
    name: 'NotFoundError',
    syscall: 'rados_conf_read_file',
    message: /\/nonexistent\/ceph.conf/,
  })
})

t.test('there is no keyring', async t => {
  await t.rejects(Cluster.connect({ keyring: '/nonexistent/keyring', user: 'nobody' }), { code: /ENOENT|EACCES/ })
})

t.test('the user is not known', async t => {
  await t.rejects(Cluster.connect({ user: 'stranger' }), { code: /ENOENT|EACCES|EPERM/ })
})
