/** A cluster of a test's own, where nobody else's operations are counted. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Pool } from '../../lib/index.js'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { testCluster } from './cluster.js'

export async function ownPool(t: Test): Promise<Pool> {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-own-'))
  t.teardown(() => stopStack(dir))
  const { cephConf, keyring } = await startStack({ dir })
  const cluster = await testCluster(t, { configFile: cephConf, keyring })
  return cluster.openPool('rbd')
}
