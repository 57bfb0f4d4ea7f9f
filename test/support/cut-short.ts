/** Operations on images that are killed in the middle. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Pool } from '../../lib/index.js'

const victim = fileURLToPath(new URL('cut-short-main.js', import.meta.url))

/** Kills a process that does it, and ends what Ceph would wait for half a minute for. */
export async function cutShort(operation: 'flatten' | 'rollback' | 'removal', pool: Pool, name: string): Promise<void> {
  const args = [victim, operation, pool.name, pool.namespace, name]
  const [, signal] = await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')
  if (signal !== 'SIGKILL') throw new Error(`the ${operation} came to its end`)
  await using image = await pool.openImage(name, { readOnly: true })
  for (const { address } of await image.watchers()) await pool.cluster.blocklist(address)
}

/**
 * Kills a process that removes the snapshot `last` when that has no object map any more, and is still there.
 *
 * @param makeLast - Makes that snapshot; again where it was gone by then.
 */
export async function cutRemovalShort(pool: Pool, name: string, makeLast: () => Promise<unknown>): Promise<void> {
  for (let attempts = 0; attempts < 5; attempts++) {
    await makeLast()
    await cutShort('removal', pool, name)
    await using image = await pool.openImage(name, { readOnly: true })
    if ((await image.listSnapshots()).some(({ originalName }) => originalName === 'last')) return
  }
  throw new Error('all of them came to their end')
}
