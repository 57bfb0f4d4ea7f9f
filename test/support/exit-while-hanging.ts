/**
 * Not a test: a process that stops the OSD under its own feet, and exits.
 *
 *   node exit-while-hanging.js CALLS OSD_PID
 */
import { Cluster, MiB } from '../../lib/index.js'
import { hang } from './hang.js'

const [calls, osdPid] = process.argv.slice(2)
const cluster = await Cluster.connect()
const pool = await cluster.openPool('rbd')
const disk = await pool.openImage('disk')
hang(Number(osdPid))
for (let i = 0; i < 100; i++) {
  if (calls === 'reads') disk.read(i * 4096, 4096).catch(() => {})
  if (calls === 'writes') disk.write(i * 4096, Buffer.alloc(4096)).catch(() => {})
  if (calls === 'blocking calls') pool.createImage(`made-${i}`, { size: MiB }).catch(() => {})
}
process.exit(3)
