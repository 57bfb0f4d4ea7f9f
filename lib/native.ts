/** The addon, loaded. Only the files of this folder call it. */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'
import type { RuntimeBindings } from './bindings.js'
import type { CephfsBindings } from './cephfs/bindings.js'
import type { RadosBindings } from './rados/bindings.js'
import type { RbdBindings } from './rbd/bindings.js'

export type Native = RuntimeBindings & RadosBindings & RbdBindings & CephfsBindings

/** Which Debian package has the library that the loader did not find. */
const packages: Record<string, string> = { 'librados.so.2': 'librados2', 'librbd.so.1': 'librbd1' }

function load(): Native {
  const require = createRequire(import.meta.url)
  const packageRoot = fileURLToPath(new URL('../..', import.meta.url))
  try {
    return require('node-gyp-build')(packageRoot)
  } catch (error) {
    const message = String((error as Error).message)
    const library = /(lib\w+\.so\.\d+): cannot open shared object file/.exec(message)?.[1]
    const advice = library
      ? `${library} is missing. Install it (Debian: apt-get install ${packages[library] ?? library}).`
      : /No native build was found/.test(message)
        ? 'the addon is not built. Install librbd-dev, librados-dev, libcephfs-dev, make and g++, and run npm rebuild cephkit.'
        : message
    throw new Error(`cephkit cannot load its native part: ${advice}`, { cause: error })
  }
}

export const native: Native = load()

let lastCalled: string | undefined

/**
 * Does what is given, and says which function of the addon it called last before it returned; '' is none. From the first
 * time on, every call of the addon costs a little more: so this is for who wants to know.
 */
export function nameOf<T>(work: () => T): { answer: T; name: string } {
  if (lastCalled === undefined) Object.assign(native, Object.fromEntries(Object.entries(native).map(noting)))
  lastCalled = ''
  const answer = work()
  return { answer, name: lastCalled }
}

function noting([name, work]: [string, (...given: unknown[]) => unknown]) {
  const noted = (...given: unknown[]) => {
    lastCalled = name
    return work(...given)
  }
  return [name, noted] as const
}

// process.exit() runs no cleanup hooks, and exit(3) would take librados apart under the feet of its threads.
process.once('exit', code => native.end(isMainThread ? Number(code) : null))
