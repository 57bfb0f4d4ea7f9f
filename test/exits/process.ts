/** A process that ends, in whatever stage of life, ends as it would without cephkit: same status, at once, no signal. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'
import { type Ending, endings, type Stage, stages } from '../support/life.js'

const life = fileURLToPath(new URL('../support/life.js', import.meta.url))
const statusOf: Record<Ending, number> = { 'process.exit': 3, exception: 1, 'end of program': 0 }
const limitMs = 60_000

function end(stage: Stage, ending: Ending, namespace: string) {
  return new Promise<{ status: number | null; signal: string | null; stderr: string }>(resolve => {
    const child = spawn(process.execPath, [life, stage, ending], {
      env: { ...process.env, LIFE_NAMESPACE: namespace },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: limitMs,
      killSignal: 'SIGKILL',
    })
    let stderr = ''
    child.stderr.on('data', text => {
      stderr += text
    })
    child.on('close', (status, signal) => resolve({ status, signal, stderr }))
  })
}

for (const ending of endings) {
  t.test(`a process ends by ${ending}`, async t => {
    const pool = await testPool(t)
    for (const stage of stages) {
      await t.test(`with ${stage}`, async t => {
        await pool.createImage('disk', { size: 64 * MiB })
        const { status, signal, stderr } = await end(stage, ending, pool.namespace)
        t.equal(signal, null, 'no crash, no hang')
        t.equal(status, statusOf[ending])
        t.equal(stderr.replace(/.*on purpose.*/s, ''), '', 'nothing but its own words on stderr')
        await pool.removeImage('disk')
      })
    }
  })
}
