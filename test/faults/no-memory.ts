/** Where there is no memory for a copy of the data, the call fails, and nothing of it is left. */
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { GiB, MiB } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

const data = Buffer.alloc(GiB) // which the kernel has not given any memory yet

/** From now on this process has room for so much more. */
async function limitMemory(t: Test, roomBytes: number): Promise<void> {
  const limit = (soft: string) => run('prlimit', '--pid', `${process.pid}`, `--as=${soft}:`)
  const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0])
  t.teardown(() => limit('unlimited'))
  await limit(`${pages * 4096 + roomBytes}`)
}

t.test('a process without memory', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: GiB })
  const image = await pool.openImage('disk')
  await image.write(0, data.subarray(0, MiB))
  const none = { name: 'CephError', code: 'ENOMEM' }
  await t.test('is told so', async t => {
    await limitMemory(t, 256 * MiB)
    await fails(t, {
      'write()': [() => image.write(0, data), none],
      'once more': [() => image.write(0, data), none],
      'an object': [() => pool.object('object').writeFull(data.subarray(0, 400 * MiB)), none],
      'a smaller one': [() => pool.object('object').writeFull(data.subarray(0, 150 * MiB)), none],
      'writev()': [() => image.writev(0, [data.subarray(0, 512), data.subarray(512)]), none],
    })
  })
  await image.write(0, data.subarray(0, MiB))
  await image.close()
  t.pass('the image can be closed')
})
