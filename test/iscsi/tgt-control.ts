/** What a tgtd that dies in the middle of a request does, at moments that cannot be chosen with a real one. */
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { TgtControl } from '../../src/iscsi/tgt-control.js'
import { testFolder } from '../support/golden.js'

/** Takes connections, and ends them without a word. */
async function silentServer(t: Test, onConnection: (server: Server) => void): Promise<TgtControl> {
  const socket = join(await testFolder(t), 'tgt')
  const server = createServer(connection => {
    connection.destroy()
    onConnection(server)
  })
  await new Promise<void>(resolve => server.listen(`${socket}.1`, resolve))
  t.teardown(() => server.listening && new Promise(resolve => server.close(resolve)))
  return new TgtControl({ socket, controlPort: 1 }, new AbortController().signal)
}

const request = { mode: 'target', operation: 'show' } as const

t.test('a tgtd that has been killed is down, although it listens for a moment more', async t => {
  let connections = 0
  const control = await silentServer(t, server => {
    if (connections++ === 0) setTimeout(() => server.close(), 50)
  })
  await t.rejects(control.ask(request), { code: 'ISCSI_DOWN', retryable: true })
})

t.test('one that goes on listening has not answered', async t => {
  const control = await silentServer(t, () => {})
  await t.rejects(control.ask(request), { code: 'ISCSI_NO_ANSWER', retryable: true })
})
