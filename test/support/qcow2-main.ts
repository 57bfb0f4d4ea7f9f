/**
 * Imports a qcow2 file, and says `begun` when some of it is written: `qcow2-main.js import POOL NAMESPACE FILE`. Or exports an image to
 * one without file descriptors to begin qemu-img with, and says what became of it: `qcow2-main.js export POOL NAMESPACE FILE`.
 */
import { closeSync, openSync } from 'node:fs'
import { Cluster } from '../../lib/index.js'

const [what, poolName = '', namespace = '', path = ''] = process.argv.slice(2)
await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })
if (what === 'import') {
  await pool.importImage('new', path, {
    format: 'qcow2',
    onProgress(done) {
      if (done > 0) console.log('begun')
    },
  })
} else {
  await using image = await pool.openImage('disk')
  const taken: number[] = []
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'))
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EMFILE') throw error
  }
  // For the file, the one of the settings, and half of what pipes take.
  for (const descriptor of taken.splice(0, 4)) closeSync(descriptor)
  const code = await image.exportTo(path, { format: 'qcow2' }).then(
    () => 'done',
    error => error.code,
  )
  for (const descriptor of taken) closeSync(descriptor)
  console.log(code)
}
