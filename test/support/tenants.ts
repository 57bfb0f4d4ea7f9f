/** Tenants in a directory of the test's own. */
import type { Test } from 'tap'
import type { Cluster, FileSystem } from '../../lib/index.js'
import { Tenants } from '../../src/cephfs/tenants.js'
import { run } from './cluster.js'
import { python, type TestFileSystem, testFileSystem } from './file-system.js'

export const acme = { name: 'acme', uid: 20_001, gid: 20_002 }

export interface TestTenants extends TestFileSystem {
  tenants: Tenants
  /** In the test's own root, as others see it. */
  base: string
}

export async function testTenants(t: Test): Promise<TestTenants> {
  const own = await testFileSystem(t)
  await own.files.mkdir('/tenants')
  return { ...own, tenants: await mountTenants(t, own), base: '/tenants' }
}

/** Those of another node. */
export async function mountTenants(t: Test, { cluster, root }: TestFileSystem): Promise<Tenants> {
  const files = await cluster.mountFileSystem({ root: `${root}/tenants`, uid: 0, gid: 0 })
  t.teardown(() => files.close())
  return new Tenants(files)
}

type Owners = Record<string, [string, number, number]>

/** As `ownersBelow()`, by the mount that the test looks through, which is quicker. */
export async function owners(files: FileSystem, path: string): Promise<Owners> {
  const { mode, uid, gid } = await files.lstat(path)
  const found: Owners = { [path]: [`0o${(mode & 0o7777).toString(8)}`, uid, gid] }
  if ((mode & 0o170000) !== 0o040000) return found
  for (const { name } of await files.readdir(path))
    Object.assign(found, await owners(files, path === '/' ? `/${name}` : `${path}/${name}`))
  return found
}

/** Of a directory and all below it, by another program: mode, owner and group, by path. Symbolic links are not followed. */
export async function ownersBelow(root: string, path: string): Promise<Owners> {
  return python(
    root,
    `
found = {}
def look(path):
    s = files.lstat(path)
    found[path] = [oct(s.st_mode & 0o7777), s.st_uid, s.st_gid]
    if s.st_mode & 0o170000 != 0o040000: return
    with files.opendir(path) as d:
        names = [e.d_name for e in iter(d.readdir, None)]
    for name in names:
        if name not in (b'.', b'..'): look(path + '/' + name.decode())
look(${JSON.stringify(path)})
answer(found)`,
  )
}

/** A user with these MDS caps, who goes when the test is over. */
export async function userWith(
  t: Test,
  cluster: Cluster,
  mds: string,
  { mon = 'allow r', osd = 'allow rw tag cephfs data=cephfs' } = {},
): Promise<{ user: string; key: string }> {
  const user = `cephfs-test-${process.pid}-${mds.replace(/\W+/g, '-')}`
  const caps = ['mds', mds, 'mon', mon, 'osd', osd]
  const entity = `client.${user}`
  const [{ key }] = await cluster.monCommand<[{ key: string }]>({ prefix: 'auth get-or-create', entity, caps })
  t.teardown(() => cluster.monCommand({ prefix: 'auth rm', entity }))
  return { user, key }
}

/**
 * Has the MDS let go of what a process had that was killed. It would wait a minute for it, and so would whoever wants to have
 * that: the root of the file system, which other tests go through.
 */
export async function evictProcess(pid: number | undefined): Promise<void> {
  const tell = (...command: string[]) => run('ceph', 'tell', 'mds.cephfs:0', ...command, '--format', 'json')
  const sessions: { id: number; client_metadata: { pid?: string } }[] = JSON.parse(await tell('session', 'ls'))
  for (const { id, client_metadata } of sessions)
    if (client_metadata.pid === String(pid)) await tell('client', 'evict', `id=${id}`)
}
