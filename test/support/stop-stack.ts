/** tap runs this after the last test. */
import { stopStack } from '../../src/dev/stack.js'
import { stackDir } from './stack.js'

await stopStack(stackDir)
