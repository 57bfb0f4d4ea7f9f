/** A directory of the test's own in the CephFS that all tests share, and other programs that see the same one. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { Test } from 'tap'
import type { Cluster, FileSystem } from '../../lib/index.js'
import { run, testCluster } from './cluster.js'
import { until } from './process.js'

let directories = 0

export interface TestFileSystem {
  cluster: Cluster
  /** Whose root is the test's own directory. */
  files: FileSystem
  /** Where that is in the whole file system. */
  root: string
}

/** It is left behind, for a look at it when the test has failed. */
export async function testFileSystem(t: Test, given?: Cluster): Promise<TestFileSystem> {
  const cluster = given ?? (await testCluster(t))
  const root = `/${basename(process.argv[1] ?? 'test', '.js')}-${process.pid}-${++directories}`
  await using whole = await cluster.mountFileSystem()
  await whole.mkdir(root)
  const files = await cluster.mountFileSystem({ root })
  t.teardown(() => files.close())
  return { cluster, files, root }
}

const prelude = `
import cephfs, json, os, sys
files = cephfs.LibCephFS(conffile=os.environ['CEPH_CONF'])
files.mount(mount_root=sys.argv[1].encode())
def answer(value):
    print(json.dumps(value, default=lambda other: other.decode() if isinstance(other, bytes) else str(other)))
def text(path):
    fd = files.open(path, os.O_RDONLY)
    data = files.read(fd, 0, 1 << 24)
    files.close(fd)
    return data
def write(path, data):
    fd = files.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    files.write(fd, data, 0)
    files.fsync(fd, 0)
    files.close(fd)
`

/** Runs a script of python3-cephfs that knows `files`, mounted at the same root; gives what it calls `answer()` with. */
// biome-ignore lint/suspicious/noExplicitAny: the shape is the script's own
export async function python(root: string, script: string): Promise<any> {
  const output = await run('/usr/bin/python3', '-c', `${prelude}${script}\nfiles.shutdown()\n`, root)
  return output === '' ? undefined : JSON.parse(output)
}

/** Mounts the same with ceph-fuse; answers where. */
export async function fuseMount(t: Test, root: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-fuse-'))
  const args = ['-f', '-c', String(process.env.CEPH_CONF), '-n', 'client.admin', '-r', root, folder]
  const child = spawn('ceph-fuse', args, { stdio: 'ignore' })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill()
    await ended
    await rmdir(folder)
  })
  const isMounted = async () => (await readFile('/proc/self/mounts', 'utf8')).includes(` ${folder} fuse.ceph-fuse `)
  if (!(await until(isMounted, 30_000))) throw new Error(`ceph-fuse has not mounted ${folder}`)
  return folder
}
