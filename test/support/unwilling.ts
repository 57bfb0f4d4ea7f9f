/**
 * Not a test: a process that never quiesces an image, says so when it is asked to, and then ends in the middle of it.
 *
 *   node unwilling.js NAMESPACE IMAGE ENDING
 */
import { Cluster } from '../../lib/index.js'

const [, , namespace, imageName = '', ending] = process.argv
const cluster = await Cluster.connect()
const pool = await cluster.openPool('rbd', { namespace })
const image = await pool.openImage(imageName)
await image.watchQuiesce({
  quiesce() {
    setTimeout(() => {
      if (ending === 'exception') throw new Error('on purpose')
      process.exit()
    }, 100)
    return new Promise(() => {})
  },
})
console.log('watching')
