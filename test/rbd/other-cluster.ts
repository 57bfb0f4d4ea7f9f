/** Images between two clusters. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Cluster, MiB } from '../../lib/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'

t.test('an image goes to another cluster as a copy, and not as a clone', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'cephkit-other-'))
  const { cephConf, keyring } = await startStack({ dir })
  t.teardown(() => stopStack(dir))
  const there = await Cluster.connect({ configFile: cephConf, keyring })
  t.teardown(() => there.close())
  const other = await there.openPool('rbd')

  const pool = await testPool(t)
  await pool.createImage('golden', { size: 8 * MiB })
  await using golden = await pool.openImage('golden')
  await golden.write(4 * MiB, Buffer.from('golden'))
  const base = await golden.createSnapshot('base', { protect: true })
  await pool.cloneImage(base, 'clone')
  await using clone = await pool.openImage('clone')

  await clone.copy(other, 'copy')
  await clone.deepCopy(other, 'deep copy', { flatten: true })
  const data = await run('rbd', 'export', '--no-progress', clone.path, '-')
  for (const name of ['copy', 'deep copy']) {
    t.equal(
      await run('rbd', '--conf', cephConf, '--keyring', keyring, 'export', '--no-progress', `rbd/${name}`, '-'),
      data,
      name,
    )
  }

  const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /own cluster/ }
  await fails(t, {
    'a clone': [() => other.cloneImage(base, 'clone', { cloneFormat: 2 }), refused],
    'a copy that would be one': [() => clone.deepCopy(other, 'clone'), refused],
  })
  t.same(
    (await other.listImages()).map(({ name }) => name),
    ['copy', 'deep copy'],
  )
  t.same(
    (await golden.children()).map(({ name }) => name),
    ['clone'],
  )
})
