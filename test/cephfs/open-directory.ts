/** Directories that are held open, and what is made, told and removed below them. */
import t from 'tap'
import { python, testFileSystem } from '../support/file-system.js'
import { evictProcess, ownersBelow } from '../support/tenants.js'

t.test('a directory is the same one, whatever becomes of its path', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/a/b', { recursive: true })
  await using held = await files.openDirectory('/a/b')
  t.equal(held.path, `${root}/a/b`)
  await files.rename('/a/b', '/a/moved')
  await files.mkdir('/a/b')
  await held.setQuota({ maxFiles: 7, maxBytes: 4096 })
  await held.setXattr('user.key', 'value')
  await held.ensureDirectories([{ path: 'inner', uid: 5, gid: 6, mode: 0o2750 }])
  t.strictSame(await files.getQuota('/a/moved'), { maxFiles: 7, maxBytes: 4096 })
  t.strictSame(await held.getQuota(), { maxFiles: 7, maxBytes: 4096 })
  t.equal((await files.getXattr('/a/moved', 'user.key')).toString(), 'value')
  t.equal((await held.getXattr('user.key')).toString(), 'value')
  await t.rejects(held.getXattr('user.none'), { name: 'XattrNotFoundError', code: 'ENODATA', resource: held.path })
  await t.rejects(held.setXattr('user.key', 'x', { only: 'create' }), { name: 'FileExistsError' })
  t.match(await held.usage(), { bytes: 0, files: 0 })
  t.equal((await held.stat()).ino, (await files.stat('/a/moved')).ino)
  t.strictSame(await ownersBelow(root, '/a'), {
    '/a': ['0o755', 0, 0],
    '/a/b': ['0o755', 0, 0],
    '/a/moved': ['0o755', 0, 0],
    '/a/moved/inner': ['0o2750', 5, 6],
  })
})

t.test('no symbolic link is followed on the way', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/a/b', { recursive: true })
  await files.symlink('a', '/link')
  await files.symlink('../a', '/a/link')
  await files.writeFile('/a/file', '')
  for (const path of ['/link', '/link/b', '/a/link', '/a/link/b', '/a/file'])
    await t.rejects(files.openDirectory(path), /ELOOP|ENOTDIR/, path)
  await t.rejects(files.openDirectory('/none'), { name: 'FileNotFoundError' })
  await t.rejects(files.openDirectory('/a/none/x'), { name: 'FileNotFoundError' })
  await using root = await files.openDirectory('/')
  for (const path of ['link/new', 'a/link/new', 'a/file/new'])
    await t.rejects(root.ensureDirectories([{ path, uid: 1, gid: 1, mode: 0o700 }]), /ELOOP|ENOTDIR/, path)
  for (const path of ['link', 'a/link', 'a/file'])
    await t.rejects(root.ensureDirectories([{ path, uid: 1, gid: 1, mode: 0o700 }]), { name: 'NotDirectoryError' })
  await t.rejects(root.ensureDirectories([{ path: 'none/x', uid: 1, gid: 1, mode: 0o700 }]), {
    name: 'FileNotFoundError',
  })
})

t.test('directories are made, and mended where they are otherwise', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/base/there', { recursive: true })
  await files.mkdir('/base/right', { mode: 0o1777 })
  await using base = await files.openDirectory('/base')
  const ensured = await base.ensureDirectories([
    { path: '.', uid: 1, gid: 2, mode: 0o711 },
    { path: 'there', uid: 3, gid: 4, mode: 0o700 },
    { path: 'right/', uid: 0, gid: 0, mode: 0o1777 },
    { path: 'new', uid: 5, gid: 6, mode: 0o6770 },
    { path: 'new/inner', uid: 7, gid: 8, mode: 0 },
  ])
  const was = { uid: 0, gid: 0, mode: 0o755 }
  t.strictSame(ensured, [
    { path: '.', made: false, was },
    { path: 'there', made: false, was },
    { path: 'right', made: false },
    { path: 'new', made: true },
    { path: 'new/inner', made: true },
  ])
  t.strictSame(await ownersBelow(root, '/base'), {
    '/base': ['0o711', 1, 2],
    '/base/there': ['0o700', 3, 4],
    '/base/right': ['0o1777', 0, 0],
    '/base/new': ['0o6770', 5, 6],
    '/base/new/inner': ['0o0', 7, 8],
  })
  t.same(await base.ensureDirectories([]), [])
})

t.test('who mounts for another user makes directories with his rights alone', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  for (const path of ['/his', '/everybodys', '/groups']) await files.mkdir(path)
  await files.chown('/his', 1234, 1235)
  await files.chmod('/everybodys', 0o777)
  await files.chmod('/groups', 0o775)
  await using his = await cluster.mountFileSystem({ root, uid: 1234, gid: 1235 })
  await using base = await his.openDirectory('/')
  const own = { uid: 1234, gid: 1235, mode: 0o700 }
  t.match(await base.ensureDirectories([{ path: 'his/a', ...own }]), [{ made: true }])
  await t.rejects(base.ensureDirectories([{ path: 'groups/a', ...own }]), { name: 'PermissionError' })
  const others = { uid: 4321, gid: 4321, mode: 0o700 }
  await t.rejects(base.ensureDirectories([{ path: 'everybodys/a', ...others }]), { name: 'PermissionError' })
  t.not((await files.stat('/everybodys/a')).uid, 4321)
})

t.test('what a directory is in lends it no rights', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/shared')
  await files.chown('/shared', 7, 8)
  await files.chmod('/shared', 0o2777)
  await using base = await files.openDirectory('/')
  const wanted = { uid: 1234, gid: 1235, mode: 0o750 }
  t.match(await base.ensureDirectories([{ path: 'shared/a', ...wanted }]), [{ made: true }])
  t.strictSame((await ownersBelow(root, '/shared'))['/shared/a'], ['0o750', 1234, 1235])
})

t.test('a read-only mount changes nothing', async t => {
  const { cluster, root, files } = await testFileSystem(t)
  await files.mkdir('/a')
  await using mounted = await cluster.mountFileSystem({ root, readOnly: true })
  await using held = await mounted.openDirectory('/a')
  const refusal = { name: 'ReadOnlyFileSystemError' }
  await t.rejects(held.setQuota({ maxFiles: 5 }), refusal)
  await t.rejects(held.setXattr('user.a', 'b'), refusal)
  await t.rejects(held.ensureDirectories([{ path: 'b', uid: 1, gid: 1, mode: 0o700 }]), refusal)
  await t.rejects(mounted.removeTree('/a'), refusal)
  t.strictSame(await held.getQuota(), {})
})

t.test('what is in a tree is removed past what cannot be', async t => {
  const { files, root } = await testFileSystem(t)
  for (const path of ['/tree/a/b', '/tree/c/d', '/tree/e']) await files.mkdir(path, { recursive: true })
  for (const path of ['/tree/a/b/file', '/tree/c/file', '/tree/file']) await files.writeFile(path, 'x')
  await files.createSnapshot('/tree/c/d', 'one')
  await files.createSnapshot('/tree/c/d', 'two')
  const { removed, kept } = await files.removeTree('/tree')
  t.equal(removed, 6)
  t.equal(kept.length, 1, 'what it is in is not told of')
  t.match(kept[0], { path: `${root}/tree/c/d`, error: { name: 'DirectoryNotEmptyError' } })
  t.same(kept[0]?.snapshots.sort(), ['one', 'two'])
  await t.rejects(files.rm('/tree', { recursive: true }), {
    name: 'DirectoryNotEmptyError',
    resource: `${root}/tree/c/d`,
  })
  t.strictSame(await files.removeTree('/tree', { snapshots: true }), { removed: 3, kept: [] })
  await t.rejects(files.removeTree('/tree'), { name: 'FileNotFoundError' })
  await files.symlink('nowhere', '/link')
  t.strictSame(await files.removeTree('/link'), { removed: 1, kept: [] })
  t.same(await files.readdir('/'), [])
})

t.test('a directory whose snapshots nobody may look at is told of, and the rest goes', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  for (const path of ['/tree', '/tree/locked', '/tree/a', '/tree/z']) {
    await files.mkdir(path)
    await files.chown(path, 1234, 1234)
  }
  await files.createSnapshot('/tree/locked', 'one')
  await files.chmod('/tree/locked', 0o600)
  await using his = await cluster.mountFileSystem({ root, uid: 1234, gid: 1234 })
  const { removed, kept } = await his.removeTree('/tree', { snapshots: true })
  t.equal(removed, 2)
  t.equal(kept.length, 1)
  t.match(kept[0], { path: `${root}/tree/locked`, error: { name: 'PermissionError', code: 'EACCES' }, snapshots: [] })
  t.strictSame(await files.removeTree('/tree', { snapshots: true }), { removed: 2, kept: [] })
})

t.test('two remove the same snapshots at once, and both mounts are closed', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  const names = Array.from({ length: 30 }, (_, i) => `snapshot-${i}`)
  await using other = await cluster.mountFileSystem({ root })
  const makeTree = async () => {
    await files.mkdir('/tree')
    for (const name of names) await files.createSnapshot('/tree', name)
  }
  await makeTree()
  let beaten = 0
  for (const name of names) {
    const removals = [files, other].map(each => each.removeSnapshot('/tree', name))
    const [first, second] = (await Promise.allSettled(removals)).sort((a, b) => a.status.localeCompare(b.status))
    t.match(first, { status: 'fulfilled' })
    if (second?.status !== 'rejected') continue
    t.match(second.reason, { code: 'ENOENT' })
    beaten++
  }
  t.ok(beaten > 0, `${beaten} of ${names.length} at the same moment`)
  await files.rmdir('/tree')
  await makeTree()
  const faster = async () => {
    for (const name of names.toReversed()) {
      await other.removeSnapshot('/tree', name).catch(error => t.match(error, { code: 'ENOENT' }))
    }
  }
  const [{ kept }] = await Promise.all([files.removeTree('/tree', { snapshots: true }), faster()])
  t.same(kept, [])
  t.same(await files.readdir('/'), [])
  await Promise.all([files.close(), other.close()])
  await cluster.close()
  await evictProcess(process.pid)
})

t.test('a symbolic link does not lead to where snapshots are made and removed', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/tree')
  await files.createSnapshot('/tree', 'one')
  await files.symlink('/tree/.snap', '/link')
  const refusal = { name: 'ReadOnlyFileSystemError', code: 'EROFS' }
  for (const path of ['/link/one', '/link/none']) {
    await t.rejects(files.rmdir(path), refusal)
    await t.rejects(files.unlink(path), refusal)
    await t.rejects(files.mkdir(path), refusal)
    await t.rejects(files.rename(path, '/link/other'), refusal)
  }
  await t.rejects(files.removeTree('/link/one'), refusal)
  t.match(await files.listSnapshots('/tree'), [{ name: 'one' }])
  await files.removeSnapshot('/tree', 'one')
})

t.test('quota and usage of all directories in one', async t => {
  const { files, root } = await testFileSystem(t)
  await python(
    root,
    `
for i in range(100): files.mkdir('/%d' % i, 0o755)
files.mkdir(b'/\\xff', 0o755)
files.setxattr('/7', 'ceph.quota.max_bytes', b'4096', 0)
files.setxattr('/7', 'user.key', b'value', 0)
files.symlink('7', '/link')
write('/file', b'x')`,
  )
  const found = []
  for await (const each of files.listUsage('/', { xattrs: ['user.key', 'user.none'] })) found.push(each)
  t.equal(found.length, 101)
  t.ok(found.some(({ name }) => name.equals(Buffer.from([0xff]))))
  const seventh = found.find(({ name }) => name.toString() === '7')
  t.match(seventh, { quota: { maxBytes: 4096 }, usage: { bytes: 0, files: 0, directories: 1 } })
  t.same(
    [...(seventh?.xattrs ?? [])].map(([key, value]) => [key, value.toString()]),
    [['user.key', 'value']],
  )
  t.equal(found.filter(({ xattrs }) => xattrs.size > 0).length, 1)
  await t.rejects(files.listUsage('/none').next(), { name: 'FileNotFoundError' })
  await t.rejects(files.listUsage('/file').next(), { name: 'NotDirectoryError' })
  // Whoever stops in the middle leaves nothing open.
  for await (const _ of files.listUsage('/')) break
})
