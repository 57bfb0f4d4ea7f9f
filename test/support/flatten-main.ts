/** Flattens an image, says so when it begins, and is killed: `flatten-main.js POOL NAMESPACE IMAGE` */
import { Cluster } from '../../lib/index.js'

const [poolName = '', namespace = '', name = ''] = process.argv.slice(2)
await using cluster = await Cluster.connect()
await using pool = await cluster.openPool(poolName, { namespace })
await using image = await pool.openImage(name)
process.stdout.write('begins\n')
await image.flatten()
