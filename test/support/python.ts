/** python3-rados and python3-rbd: they read what cephkit made, and make what it reads. */
import type { Pool } from '../../lib/index.js'
import { run } from './cluster.js'

/** Debian's own, for the modules are Debian's packages. */
const interpreter = '/usr/bin/python3'

const prelude = `
import json, os, rados, rbd, sys
cluster = rados.Rados(conffile=os.environ['CEPH_CONF'])
cluster.connect()
ioctx = cluster.open_ioctx(sys.argv[1])
ioctx.set_namespace(sys.argv[2])
images = rbd.RBD()
def answer(value):
    print(json.dumps(value, default=lambda other: other.decode() if isinstance(other, bytes) else str(other)))
`

/**
 * Runs a script that knows `cluster`, `ioctx` (the pool's) and `images` (an rbd.RBD); gives what it calls `answer()`
 * with.
 */
// biome-ignore lint/suspicious/noExplicitAny: the shape is the script's own
export async function python(pool: Pool, script: string): Promise<any> {
  const output = await run(interpreter, '-c', prelude + script, pool.name, pool.namespace)
  return output === '' ? undefined : JSON.parse(output)
}
