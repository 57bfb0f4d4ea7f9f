/**
 * librbd 16.2 is not done with an image at a snapshot when it says that it is open. What it does with one that is closed, and so
 * freed, by then shows where freed memory is overwritten, as glibc does on request.
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { testPool } from '../support/cluster.js'

const program = fileURLToPath(new URL('../support/early-close-main.js', import.meta.url))

t.test(
  'an image at a snapshot, and a clone, can be closed as soon as they are open, and a parent can be refused',
  async t => {
    const pool = await testPool(t)
    await pool.createImage('disk', { size: MiB })
    await using image = await pool.openImage('disk')
    await pool.cloneImage(await image.createSnapshot('s'), 'clone', { cloneFormat: 2 })
    const env = { ...process.env, MALLOC_PERTURB_: '165' }
    await promisify(execFile)(process.execPath, [program, pool.name, pool.namespace, 'disk', 's', 'clone'], {
      env,
      timeout: 60_000,
    })
    t.pass('in a process that goes on')
  },
)
