/** What the other tests of the lab stand on. */
import t from 'tap'
import { gateways } from '../support/gateway-lab/lab.js'

const { guest } = gateways[0]

t.test('a script that hangs in a guest is ended, and the next one runs', async t => {
  const hanging = guest.run('exec sleep 54321', { limitMs: 1_000 })
  await t.rejects(hanging, { message: 'exec sleep 54321: not done in 1 s' })
  t.equal(await guest.run('pgrep -xf "sleep 54321" || echo none'), 'none\n')
})
