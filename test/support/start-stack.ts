/** tap runs this before the first test. */
import { startStack } from '../../src/dev/stack.js'
import { stackDir } from './stack.js'

if (!process.env.CEPH_CONF) await startStack({ dir: stackDir, services: ['rabbitmq'] })
