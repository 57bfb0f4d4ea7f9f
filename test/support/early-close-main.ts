/** Opens an image at a snapshot, and closes it, many times over: pool, namespace, image, snapshot. */
import { Cluster } from '../../lib/index.js'

const [poolName = '', namespace = '', imageName = '', snapshot = ''] = process.argv.slice(2)
const atOnce = 16
let left = 600

await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    while (left-- > 0) await (await pool.openImage(imageName, { snapshot })).close()
  }),
)
