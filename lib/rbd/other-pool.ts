import { type CallOptions, closeAfter, open } from '../call.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { IoctxHandle } from '../rados/bindings.js'
import type { Cluster } from '../rados/cluster.js'

/**
 * Another pool than the image's own, for as long as `work` takes.
 *
 * @param about - What the pool is needed for, for errors.
 */
export async function inPool<T>(
  cluster: Cluster,
  { poolId, namespace }: { poolId: number; namespace: string },
  about: Resource,
  options: CallOptions,
  work: (ioctx: IoctxHandle) => Promise<T>,
): Promise<T> {
  const ioctx = await open(about, options, token =>
    native.ioctxOpenById(cluster.handle, poolId, namespace, false, token),
  )
  try {
    return await work(ioctx)
  } finally {
    await closeAfter(ioctx, options)
  }
}
