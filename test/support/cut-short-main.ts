/**
 * Dies in the middle of a `flatten`, a `rollback` to `base`, or the `removal` of `last`; `flatten-all` is for others to kill:
 * `cut-short-main.js OPERATION POOL NAMESPACE IMAGE`
 */
import { Cluster, type Image, ObjectNotFoundError } from '../../lib/index.js'
import { objectMapObject } from '../../lib/rbd/object-class.js'

const die = () => process.kill(process.pid, 'SIGKILL')

/** Dies when the object map of the snapshot is gone, and the snapshot is not. */
async function remove(image: Image): Promise<void> {
  const { id } = await image.stat()
  const snapshot = (await image.listSnapshots()).find(({ name }) => name === 'last')
  const map = image.pool.object(objectMapObject(id, snapshot?.id))
  const removing = image.snapshot('last').remove()
  for (;;) {
    try {
      await map.stat()
    } catch (error) {
      if (error instanceof ObjectNotFoundError) break
      throw error
    }
  }
  die()
  await removing
}

const [operation, poolName = '', namespace = '', name = ''] = process.argv.slice(2)
await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })
await using image = await pool.openImage(name)
const onProgress = (done: number, total: number) => {
  if (done > total / 4) die()
}
if (operation === 'flatten-all') await image.flatten()
else if (operation === 'flatten') await image.flatten({ onProgress })
else if (operation === 'rollback') await image.snapshot('base').rollback({ onProgress })
else await remove(image)
