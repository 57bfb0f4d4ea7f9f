/**
 * Not a test: a process that stops the MDS under its own feet, and exits.
 *
 *   node exit-while-mds-hangs.js CALLS MDS_PID
 */
import { Cluster } from '../../lib/index.js'
import { hang } from './hang.js'

const [calls = '', pid] = process.argv.slice(2)
const cluster = await Cluster.connect()
const files = await cluster.mountFileSystem()
const file = await files.open(`/${process.pid}`, 'w+')
hang(Number(pid))
if (calls === 'unwritten data') await file.write('x')
for (let i = 0; i < 100; i++) {
  if (calls === 'calls') files.mkdir(`/${process.pid}-${i}`).catch(() => {})
  if (calls === 'reads') file.read(Buffer.alloc(10), { position: i }).catch(() => {})
}
process.exit(3)
