import { resolve } from 'node:path'

/** Where the development stack is that all tests of one run share. */
export const stackDir = resolve('.cephkit/test')
