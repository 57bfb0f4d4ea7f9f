/**
 * Not a test: a process that uses a mount which hangs, and ends.
 *
 *   node exit-while-mount-hangs.js FOLDER exit|return
 */
import { MountedPath } from '../../lib/index.js'

const [folder = '', ending] = process.argv.slice(2)
const mounted = new MountedPath(folder, { timeout: 1000 })
const calls = await Promise.allSettled([
  mounted.probe(),
  mounted.getQuota('/'),
  mounted.usage('/'),
  ...Array.from({ length: 50 }, (_, i) => mounted.setQuota('/', { maxFiles: 1000 + i })),
])
if (calls.filter(({ status }) => status === 'rejected').length === 0) throw new Error('the mount does not hang')
process.exitCode = 3
if (ending === 'exit') process.exit()
