import type { ProgressOptions } from '../call.js'
import { ImageNotFoundError } from '../errors.js'
import type { LinkedImage } from './image-info.js'
import type { Snapshot } from './snapshot.js'

/** librbd would do so itself, and not look for objects that are missing. Progress is in clones, and parts of one. */
export async function flattenClones(snapshot: Snapshot, { signal, onProgress }: ProgressOptions): Promise<void> {
  const clones = await listClones(snapshot, { signal })
  for (const [i, clone] of clones.entries()) {
    const part = onProgress && ((done: number, total: number) => onProgress(i + done / total, clones.length))
    await flatten(snapshot, clone, { signal, onProgress: part })
    onProgress?.(i + 1, clones.length)
  }
}

async function listClones({ image, name }: Snapshot, { signal }: ProgressOptions): Promise<LinkedImage[]> {
  const { id, format } = await image.stat({ signal })
  if (format === 1) return []
  await using at = await image.pool.openImageById(id, { snapshot: name, readOnly: true, signal })
  return await at.children({ signal })
}

/** Somebody may have flattened it meanwhile, or removed it. */
async function flatten(
  { pool: { cluster, whenFull } }: Snapshot,
  { pool: poolName, namespace, id }: LinkedImage,
  options: ProgressOptions,
): Promise<void> {
  if (poolName === undefined) return
  const { signal } = options
  await using pool = await cluster.openPool(poolName, { namespace, whenFull, signal })
  try {
    await using clone = await pool.openImageById(id, { signal })
    if ((await clone.parent({ signal })) !== null) await clone.flatten(options)
  } catch (error) {
    if (!(error instanceof ImageNotFoundError)) throw error
  }
}
