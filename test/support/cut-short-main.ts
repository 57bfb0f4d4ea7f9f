/** Dies in the middle of `flatten` or `rollback` (to `base`): `cut-short-main.js OPERATION POOL NAMESPACE IMAGE` */
import { Cluster } from '../../lib/index.js'

const [operation, poolName = '', namespace = '', name = ''] = process.argv.slice(2)
await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })
await using image = await pool.openImage(name)
const onProgress = (done: number, total: number) => {
  if (done > total / 4) process.kill(process.pid, 'SIGKILL')
}
if (operation === 'flatten') await image.flatten({ onProgress })
else await image.snapshot('base').rollback({ onProgress })
