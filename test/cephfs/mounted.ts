/** A CephFS that ceph-fuse has mounted: by its path, and by what other programs set and see there. */
import { mkdir, mkdtemp, readdir, rmdir, symlink, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Cluster, MiB, MountedPath } from '../../lib/index.js'
import { run } from '../support/cluster.js'
import { testFileSystem } from '../support/file-system.js'
import { FuseMount } from '../support/fuse-mount.js'
import { fileDescriptors, threads, until } from '../support/process.js'

/** EDQUOT, which Node 20 has no name for. */
const exceeded = { message: /-122|EDQUOT/ }
const probeName = `.cephkit-probe-${hostname()}`

async function mountedRoot(t: Test) {
  const { files, root, cluster } = await testFileSystem(t)
  const { folder } = await FuseMount.open(t, { root })
  return { files, root, cluster, folder, mounted: new MountedPath(folder, { timeout: 20_000 }) }
}

const attribute = async (name: string, path: string) =>
  (await run('getfattr', '--absolute-names', '--only-values', '-n', name, path)).trim()

/** A user with these MDS caps, who goes when the test is over; and the keyring. */
async function userWith(t: Test, cluster: Cluster, mds: string): Promise<{ name: string; keyring: string }> {
  const name = `mounted-test-${process.pid}`
  const entity = `client.${name}`
  const caps = ['mon', 'allow r', 'mds', mds, 'osd', 'allow rw tag cephfs data=cephfs']
  const [{ key }] = await cluster.monCommand<[{ key: string }]>({ prefix: 'auth get-or-create', entity, caps })
  t.teardown(() => cluster.monCommand({ prefix: 'auth rm', entity }))
  const keyring = join(t.testdir(), 'keyring')
  await writeFile(keyring, `[${entity}]\n\tkey = ${key}\n`, { mode: 0o600 })
  return { name, keyring }
}

t.test('quotas that FileSystem sets', async t => {
  const { files, folder, mounted } = await mountedRoot(t)
  await files.mkdir('/bytes')
  await files.mkdir('/files')
  await files.setQuota('/bytes', { maxBytes: 4 * MiB })
  await files.setQuota('/files', { maxFiles: 4 })
  t.equal(await attribute('ceph.quota.max_bytes', join(folder, 'bytes')), String(4 * MiB))
  t.equal(await attribute('ceph.quota.max_files', join(folder, 'files')), '4')
  t.strictSame(await mounted.getQuota('/bytes'), { maxBytes: 4 * MiB })
  await writeFile(join(folder, 'bytes', 'small'), Buffer.alloc(MiB))
  await t.rejects(writeFile(join(folder, 'bytes', 'large'), Buffer.alloc(8 * MiB)), exceeded, 'stop a writer by bytes')
  for (const name of ['1', '2', '3']) await writeFile(join(folder, 'files', name), name)
  t.ok(await until(async () => (await mounted.usage('/files')).files === 3, 60_000), 'the MDS has counted them')
  await t.rejects(writeFile(join(folder, 'files', '4'), ''), exceeded, 'and by files')
})

t.test('quotas by the mounted path', async t => {
  const { files, folder, mounted } = await mountedRoot(t)
  await files.mkdir('/a/b', { recursive: true })
  t.strictSame(await mounted.getQuota('/a'), {}, 'absent is no quota')
  t.strictSame(await mounted.setQuota('/a', { maxFiles: 7 }), { maxFiles: 7 })
  t.strictSame(await mounted.setQuota('/a', { maxBytes: 2 * MiB }), { maxFiles: 7, maxBytes: 2 * MiB }, 'others stay')
  t.strictSame(await files.getQuota('/a'), { maxFiles: 7, maxBytes: 2 * MiB }, 'for everybody')
  t.equal(await attribute('ceph.quota.max_bytes', join(folder, 'a')), String(2 * MiB))
  const isStopped = () =>
    writeFile(join(folder, 'a/b/large'), Buffer.alloc(8 * MiB)).then(
      () => false,
      ({ message }) => exceeded.message.test(message),
    )
  t.ok(await until(isStopped, 60_000), 'writers are stopped once they have heard of it')
  t.strictSame(await mounted.setQuota('/a', { maxFiles: null }), { maxBytes: 2 * MiB })

  await run('setfattr', '-n', 'ceph.quota.max_files', '-v', '12', join(folder, 'a'))
  t.strictSame(await mounted.getQuota('a'), { maxBytes: 2 * MiB, maxFiles: 12 }, 'what setfattr sets')
  t.strictSame(await files.getQuota('/a'), { maxBytes: 2 * MiB, maxFiles: 12 })
  await mounted.clearQuota('/a')
  t.strictSame(await files.getQuota('/a'), {})
  await t.rejects(attribute('ceph.quota', join(folder, 'a')), { message: /No such attribute/ })
  t.strictSame(await mounted.setQuota('/', { maxFiles: 100 }), { maxFiles: 100 }, 'of the root itself')
})

t.test('usage by the mounted path', async t => {
  const { files, mounted } = await mountedRoot(t)
  await files.mkdir('/a/b', { recursive: true })
  await files.writeFile('/a/b/one', Buffer.alloc(1000))
  await files.symlink('a/b', '/link')
  t.ok(await until(async () => (await mounted.usage('/a')).bytes === 1000, 60_000))
  t.match(await mounted.usage('/a'), { bytes: 1000, files: 1, directories: 2 })
  t.match(await mounted.usage('/link'), { bytes: 1000, files: 1, directories: 1 }, 'of what a symbolic link leads to')
  await t.rejects(mounted.usage('/a/b/one'), { name: 'NotDirectoryError', syscall: 'getxattr' })
  await t.rejects(mounted.usage('/none'), {
    name: 'FileNotFoundError',
    code: 'ENOENT',
    resource: join(mounted.path, 'none'),
  })
})

t.test('what cannot be set says so', async t => {
  const { files, mounted } = await mountedRoot(t)
  await files.writeFile('/file', '')
  await files.symlink('.', '/link')
  const none = { name: 'FileNotFoundError', code: 'ENOENT' }
  await t.rejects(mounted.getQuota('/none'), none)
  await t.rejects(mounted.setQuota('/none', { maxFiles: 5 }), none)
  const noDirectory = { name: 'NotDirectoryError', code: 'ENOTDIR' }
  await t.rejects(mounted.setQuota('/file', { maxFiles: 5 }), noDirectory)
  await t.rejects(mounted.setQuota('/link', { maxFiles: 5 }), noDirectory, 'a symbolic link is not followed')
  t.strictSame(await mounted.getQuota('/link'), {})
  await t.rejects(mounted.setQuota('/', { maxFiles: 0 }), { name: 'RangeError' })
  await t.rejects(mounted.setQuota('/', { maxSize: 1 } as never), { name: 'TypeError' })
})

t.test('no path leads out of the mount', async t => {
  const { folder, mounted } = await mountedRoot(t)
  const outside = await mkdtemp(join(tmpdir(), 'cephkit-outside-'))
  t.teardown(() => rmdir(outside))
  for (const [name, target] of Object.entries({ absolute: outside, relative: '../..', own: folder }))
    await symlink(target, join(folder, name))
  for (const path of ['/absolute', '/relative', '/own', '/absolute/x']) {
    await t.rejects(mounted.usage(path), { name: 'InvalidArgumentError', code: 'EXDEV' }, path)
  }
  for (const path of ['..', '/a/../..', '', 'a\0b']) {
    await t.rejects(mounted.usage(path), { name: 'TypeError' }, JSON.stringify(path))
    await t.rejects(mounted.setQuota(path, { maxFiles: 5 }), { name: 'TypeError' })
  }
  t.throws(() => new MountedPath('relative'), { name: 'TypeError', message: /absolute/ })
  t.throws(() => new MountedPath('/mnt', { timeout: 0 }), { name: 'RangeError' })
  t.throws(() => new MountedPath('/mnt', { timeOut: 1 } as never), { name: 'TypeError' })
})

t.test('a user whose caps have no p', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  await files.mkdir('/a')
  await files.setQuota('/a', { maxFiles: 9 })
  const user = await userWith(t, cluster, 'allow rw')
  const { folder } = await FuseMount.open(t, { root, user })
  const mounted = new MountedPath(folder)
  const refusal = { name: 'PermissionError', message: /allow rwp/, resource: join(folder, 'a'), retryable: false }
  await t.rejects(mounted.setQuota('/a', { maxFiles: 5 }), refusal)
  await t.rejects(mounted.clearQuota('/a'), refusal)
  t.strictSame(await mounted.getQuota('/a'), { maxFiles: 9 }, 'nothing is set')
  t.match(await mounted.probe(), { mounted: true, writable: true }, 'who may write all the same')
})

t.test('a probe', async t => {
  const { folder, mounted, files } = await mountedRoot(t)
  t.equal(await mounted.check(), 'ceph-fuse')
  const before = Date.now()
  const { lastProbeAt, latencyMs, ...found } = await mounted.probe()
  t.strictSame(found, { mounted: true, writable: true })
  t.ok(lastProbeAt.getTime() >= before)
  t.ok(latencyMs !== null && latencyMs > 0 && latencyMs < 20_000, `took ${latencyMs} ms`)
  t.strictSame(await readdir(folder), [], 'leaves nothing')

  for (const [what, leave] of Object.entries({
    'a file': () => writeFile(join(folder, probeName), Buffer.alloc(100_000, 'old')),
    'a file that nobody may write': () => files.writeFile(probeName, 'old', { mode: 0o400 }),
    'a symbolic link': () => symlink('elsewhere', join(folder, probeName)),
  })) {
    await leave()
    t.match(await mounted.probe(), { writable: true }, `takes ${what} away that another one has left`)
    t.strictSame(await readdir(folder), [])
  }
  await mkdir(join(folder, probeName))
  t.match(await mounted.probe(), { mounted: true, writable: false, latencyMs: null, lastError: /EISDIR/ })
  await rmdir(join(folder, probeName))
  const many = await Promise.all(Array.from({ length: 50 }, () => mounted.probe()))
  t.ok(
    many.every(({ writable }) => writable),
    'many at once do not disturb each other',
  )
  t.strictSame(await readdir(folder), [])
})

t.test('where no CephFS is mounted', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-ordinary-'))
  t.teardown(() => rmdir(folder))
  const { folder: mount } = await mountedRoot(t)
  await mkdir(join(mount, 'within'))
  const file = join(mount, 'file')
  await writeFile(file, '')
  for (const [path, code, message] of [
    [folder, 'ENODEV', /nothing is mounted/],
    [join(mount, 'within'), 'ENODEV', /nothing is mounted/],
    ['/proc', 'ENODEV', /another file system/],
    [join(folder, 'none'), 'ENOENT', /no CephFS/],
    [file, 'ENOTDIR', /no CephFS/],
  ] as const) {
    const mounted = new MountedPath(path)
    const error = { name: 'NotMountedError', code, message }
    await t.rejects(mounted.check(), error, path)
    await t.rejects(mounted.getQuota('/'), error)
    await t.rejects(mounted.setQuota('/', { maxFiles: 5 }), error)
    await t.rejects(mounted.usage('/'), error)
    t.match(await mounted.probe(), { mounted: false, writable: false, latencyMs: null, lastError: message })
  }
  t.strictSame(await readdir(folder), [], 'no file is left there')
  t.strictSame(await readdir(join(mount, 'within')), [])
})

t.test('a mount that is gone is not written below', async t => {
  const { root } = await testFileSystem(t)
  const mount = await FuseMount.open(t, { root })
  const mounted = new MountedPath(mount.folder)
  t.match(await mounted.probe(), { mounted: true, writable: true })
  await mount.unmount()
  t.match(await mounted.probe(), { mounted: false, writable: false, lastError: /nothing is mounted/ })
  t.strictSame(await readdir(mount.folder), [])
})

t.test('a mount that is read-only', async t => {
  const { root } = await testFileSystem(t)
  const { folder } = await FuseMount.open(t, { root, mountOptions: 'ro' })
  const mounted = new MountedPath(folder)
  t.match(await mounted.probe(), { mounted: true, writable: false, latencyMs: null, lastError: /EROFS.*read-only/ })
  await t.rejects(mounted.setQuota('/', { maxFiles: 5 }), { name: 'ReadOnlyFileSystemError' })
})

t.test('calls that are made at once take their turns, and few threads', async t => {
  const { files, mounted } = await mountedRoot(t)
  await files.mkdir('/a')
  await files.setQuota('/a', { maxFiles: 9 })
  const before = threads()
  const quotas = Promise.all(Array.from({ length: 300 }, () => mounted.getQuota('/a')))
  let most = 0
  const watching = setInterval(() => {
    most = Math.max(most, threads())
  }, 1)
  t.strictSame(new Set((await quotas).map(({ maxFiles }) => maxFiles)), new Set([9]))
  clearInterval(watching)
  t.ok(most <= before + 4, `${most - before} more threads`)
})

t.test('a signal ends the waiting', async t => {
  const { mounted } = await mountedRoot(t)
  const signal = AbortSignal.abort('enough')
  const aborted = { name: 'AbortError', cause: 'enough' }
  await t.rejects(mounted.check({ signal }), aborted)
  await t.rejects(mounted.probe({ signal }), aborted)
  await t.rejects(mounted.getQuota('/', { signal }), aborted)
  await t.rejects(mounted.usage('/', { signal }), aborted)
  await t.rejects(mounted.clearQuota('/', { signal }), aborted)
})

t.test('a call leaves no process and no descriptor behind', async t => {
  const mounted = new MountedPath('/none')
  const children = () => run('ps', '--no-headers', '--ppid', String(process.pid), '-o', 'stat')
  const before = fileDescriptors()
  for (let i = 0; i < 200; i++) await t.rejects(mounted.check(), { name: 'NotMountedError' })
  t.equal(fileDescriptors(), before)
  t.notMatch(await children(), 'Z', 'no process that nobody has waited for')
})
