/**
 * Not a test: a process that removes a tenant.
 *
 *   node delete-tenant.js BASE NAME
 */
import { Cluster } from '../../lib/index.js'
import { Tenants } from '../../src/cephfs/tenants.js'

const [, , root = '', name = ''] = process.argv
const cluster = await Cluster.connect()
await new Tenants(await cluster.mountFileSystem({ root, uid: 0, gid: 0 })).delete(name)
await cluster.close()
