/** Requests over HTTP to hosts that do not answer, or not to an end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { exchange, wasNotSent } from '../../src/iscsi/http-exchange.js'
import { collectGarbage } from '../support/process.js'

const nobody = new AbortController().signal

/** Takes no connections, and says nothing of that: one is waiting already, and there is no room for another. */
const listener = `
import socket, sys
listening = socket.socket()
listening.bind(('127.0.0.1', 0))
listening.listen(0)
print(listening.getsockname()[1], flush=True)
sys.stdin.read()`

async function silentPort(t: Test): Promise<number> {
  const child = spawn('/usr/bin/python3', ['-c', listener], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill())
  const [line] = await once(child.stdout, 'data')
  const port = Number(line)
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    const connected = once(socket, 'connect').then(() => true)
    if (!(await Promise.race([connected, delay(1_000, false)]))) return port
  }
}

function ask(port: number, limitMs: number, signal = nobody) {
  const url = new URL(`http://127.0.0.1:${port}/`)
  return exchange({ method: 'PUT', url, headers: {}, body: 'text', checksCertificate: true, limitMs, signal })
}

t.test('a host that takes no packets is given up soon, and has done nothing', async t => {
  const port = await silentPort(t)
  const error = await ask(port, 600_000).catch(error => error)
  t.match(error, { message: /has not answered for 5 s/ })
  t.equal(wasNotSent(error), true)
  await t.rejects(ask(port, 200), { message: 'no answer for 0.2 s' }, 'sooner, if there is less time')
})

t.test('a host that takes a request and is silent, or never done, may have done it', async t => {
  const server = createServer((request, response) => {
    request.resume()
    if (asked++ === 0) return
    response.writeHead(200).flushHeaders()
    const trickle = setInterval(() => response.write('.'), 20)
    response.on('close', () => clearInterval(trickle))
  })
  let asked = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  // A limit that is collected with the garbage would never come.
  const collecting = setInterval(collectGarbage, 50)
  t.teardown(() => clearInterval(collecting))
  for (const kind of ['silent', 'never done']) {
    const error = await ask(port, 1_000).catch(error => error)
    t.match(error, { message: 'no answer for 1 s' }, kind)
    t.equal(wasNotSent(error), false, kind)
  }
  const stopping = new AbortController()
  const asking = ask(port, 600_000, stopping.signal)
  stopping.abort(new Error('stopping'))
  await t.rejects(asking, { name: 'AbortError' })
})
