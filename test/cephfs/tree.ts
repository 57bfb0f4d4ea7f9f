/** What cephkit makes in a file system, another program sees, and the other way round. */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import t from 'tap'
import { FileNotFoundError, MiB } from '../../lib/index.js'
import { python, testFileSystem } from '../support/file-system.js'

t.test('what is made is there for others', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/a/b', { recursive: true })
  await files.mkdir('/open', { mode: 0o1777 })
  await files.writeFile('/a/text', 'some text', { mode: 0o640 })
  await files.symlink('a/text', '/link')
  await files.link('/a/text', '/a/same')
  await files.chown('/a/text', 1000, 1001)
  await files.lchown('/link', 7, 8)
  await files.chmod('/a/b', 0o2750)
  await files.utimes('/a/text', 1.5, new Date('2100-12-31T23:59:58.250Z'))
  await files.rename('/a/b', '/a/c')
  const seen = await python(
    root,
    `
def stat(path):
    s = files.lstat(path)
    return [oct(s.st_mode), s.st_uid, s.st_gid, s.st_size, s.st_nlink]
x = files.statx('/a/text', cephfs.CEPH_STATX_ATIME | cephfs.CEPH_STATX_MTIME, 0)
answer({
  'a': stat('/a'), 'c': stat('/a/c'), 'open': stat('/open'), 'text': stat('/a/text'), 'link': stat('/link'),
  'data': text('/link'), 'target': files.readlink('/link', 100), 'times': [str(x['atime']), str(x['mtime'])],
})`,
  )
  t.same(seen.a.slice(0, 3), ['0o40755', 0, 0])
  t.same(seen.c[0], '0o42750')
  t.same(seen.open[0], '0o41777', 'no umask')
  t.same(seen.text, ['0o100640', 1000, 1001, 9, 2])
  t.same(seen.link.slice(0, 3), ['0o120777', 7, 8])
  t.equal(seen.data, 'some text')
  t.equal(seen.target, 'a/text')
  t.same(
    seen.times.map((time: string) => time.slice(0, 19)),
    ['1970-01-01 00:00:01', '2100-12-31 23:59:58'],
  )
  const stat = await files.stat('/link')
  t.equal(stat.mtime.toISOString(), '2100-12-31T23:59:58.250Z')
  t.equal(stat.atime.getTime(), 1500)
})

t.test('what others make is seen', async t => {
  const { files, root } = await testFileSystem(t)
  await python(
    root,
    `
files.mkdir('/folder', 0o700)
write('/folder/text', b'\\x00\\x01\\xff')
files.chown('/folder/text', 5, 6)
files.symlink('folder', '/link')
files.mknod('/pipe', 0o10644)
`,
  )
  const stat = await files.stat('/folder/text')
  t.match(stat, { mode: 0o100644, uid: 5, gid: 6, size: 3, nlink: 1 })
  t.same([stat.isFile(), stat.isDirectory(), stat.isSymbolicLink()], [true, false, false])
  t.ok(Math.abs(Date.now() - stat.birthtime.getTime()) < 600_000)
  t.ok((await files.readFile('/link/text')).equals(Buffer.from([0, 1, 255])))
  t.ok((await files.stat('/link')).isDirectory())
  t.ok((await files.lstat('/link')).isSymbolicLink())
  const entries = await files.readdir('/')
  t.same(Object.fromEntries(entries.map(({ name, type }) => [name, type])), {
    folder: 'directory',
    link: 'symbolicLink',
    pipe: 'fifo',
  })
  t.equal(await files.readlink('/link'), 'folder')
  t.equal(await files.realpath('/link/text'), '/folder/text')
})

t.test('errors say what is the matter', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/folder/inner', { recursive: true })
  await files.mkdir('/folder/inner', { recursive: true })
  await files.writeFile('/file', '')
  const missing = { name: 'FileNotFoundError', code: 'ENOENT', resource: `${root}/none` }
  await t.rejects(files.stat('/none'), { ...missing, syscall: 'ceph_statx' })
  await t.rejects(files.open('/none'), missing)
  await t.rejects(files.opendir('/none'), missing)
  await t.rejects(files.unlink('/none'), missing)
  await t.rejects(files.mkdir('/folder'), { name: 'FileExistsError', code: 'EEXIST' })
  await t.rejects(files.mkdir('/file', { recursive: true }), { name: 'FileExistsError', code: 'EEXIST' })
  await t.rejects(files.open('/file', 'wx'), { name: 'FileExistsError' })
  await t.rejects(files.rmdir('/folder'), { name: 'DirectoryNotEmptyError', code: 'ENOTEMPTY' })
  await t.rejects(files.readdir('/file'), { name: 'NotDirectoryError', code: 'ENOTDIR' })
  await t.rejects(files.unlink('/folder'), { name: 'IsDirectoryError', code: 'EISDIR' })
  await t.rejects(files.truncate('/folder'), { name: 'IsDirectoryError' })
  await t.rejects(files.open('/', 'w'), { name: 'IsDirectoryError' })
  await t.rejects(files.readFile('/folder'), { name: 'IsDirectoryError' })
  await t.rejects(files.rm('/folder'), { name: 'IsDirectoryError' })
  await t.rejects(files.readlink('/file'), { name: 'InvalidArgumentError', code: 'EINVAL' })
  await t.rejects(files.rename('/folder', '/folder/inner/x'), { name: 'InvalidArgumentError' })
  await files.symlink('loop', '/loop')
  await t.rejects(files.stat('/loop'), { name: 'SymbolicLinkError', code: 'ELOOP' })
  await t.rejects(files.realpath('/loop'), { name: 'SymbolicLinkError' })
  await t.rejects(files.open('/loop', constants.O_RDONLY | constants.O_NOFOLLOW), { name: 'SymbolicLinkError' })
  await t.rejects(files.mkdir(`/${'n'.repeat(256)}`), { name: 'InvalidArgumentError', code: 'ENAMETOOLONG' })
})

t.test('names that are no UTF-8', async t => {
  const { files, root } = await testFileSystem(t)
  await python(root, `files.mkdir(b'/\\xff\\xfe', 0o755)`)
  await t.rejects(files.readdir('/'), { code: 'EILSEQ' })
  const [entry] = await files.readdir('/', { encoding: 'buffer' })
  t.ok(entry?.name.equals(Buffer.from([0xff, 0xfe])))
  const path = Buffer.concat([Buffer.from('/'), entry?.name ?? Buffer.alloc(0)])
  t.ok((await files.stat(path)).isDirectory())
  await files.symlink(Buffer.from([0xfe]), Buffer.concat([path, Buffer.from('/l')]))
  t.ok(
    (await files.readlink(Buffer.concat([path, Buffer.from('/l')]), { encoding: 'buffer' })).equals(
      Buffer.from([0xfe]),
    ),
  )
  await files.symlink(path, '/link')
  await t.rejects(files.realpath('/link'), { code: 'EILSEQ', resource: `${root}/link` })
  t.ok((await files.realpath('/link', { encoding: 'buffer' })).equals(path))
  t.ok((await files.realpath(path, { encoding: 'buffer' })).equals(path))
  await files.setQuota(path, { maxFiles: 7 })
  t.strictSame(await files.effectiveQuota(path), { maxFiles: { limit: 7, path: '/\ufffd\ufffd' } })
  await files.unlink('/link')
  await files.rm(path, { recursive: true })
  t.same(await files.readdir('/'), [])
})

t.test('files are read and written in parts', async t => {
  const { files, root } = await testFileSystem(t)
  await using file = await files.open('/file', 'w+')
  t.same(await file.write('0123456789'), { bytesWritten: 10 })
  await file.write(new Uint16Array([0x4141, 0x4242]), { position: 2 })
  await file.write(Buffer.from('xyz'), { offset: 1, length: 1 })
  t.equal((await file.stat()).size, 11, 'goes on where it was')
  await file.sync()
  t.equal(await python(root, `answer(text('/file'))`), '01AABB6789y')
  const buffer = Buffer.alloc(6, '-')
  t.equal((await file.read(buffer, { offset: 1, length: 4, position: 8 })).bytesRead, 3)
  t.equal(buffer.toString(), '-89y--')
  t.equal((await file.read(buffer)).bytesRead, 0, 'at the end')
  await file.truncate(4)
  await file.datasync()
  t.equal((await files.readFile('/file')).toString(), '01AA')
  await files.writeFile('/file', 'BB', { flag: 'a' })
  await files.writeFile('/file', '', { flag: 'a' })
  t.equal(await files.readFile('/file', 'utf8'), '01AABB')
  t.equal(await files.readFile('/file', { encoding: 'hex' }), '303141414242')
  const reader = await files.open('/file')
  await t.rejects(reader.write('x'), { name: 'InvalidArgumentError', code: 'EBADF' })
  await t.rejects(reader.truncate(), { name: 'InvalidArgumentError' })
})

t.test('files larger than one call', async t => {
  const { files, root } = await testFileSystem(t)
  const data = Buffer.alloc(20 * MiB, '0123456789abc')
  await files.writeFile('/large', data)
  t.ok((await files.readFile('/large')).equals(data))
  const sums = await python(
    root,
    `import hashlib; fd = files.open('/large', os.O_RDONLY)
answer(hashlib.sha256(files.read(fd, 0, 1 << 26)).hexdigest())`,
  )
  t.equal(sums, createHash('sha256').update(data).digest('hex'))
  await files.truncate('/large', 5)
  t.equal((await files.readFile('/large')).toString(), '01234')

  await using file = await files.open('/taken', 'w')
  const writing = file.write(data)
  structuredClone(data.buffer, { transfer: [data.buffer as ArrayBuffer] })
  await t.rejects(writing, { name: 'TypeError', message: /detached/ })
})

t.test('200 files are made at once, and listed in batches', async t => {
  const { files, root } = await testFileSystem(t)
  await Promise.all(Array.from({ length: 200 }, (_, i) => files.writeFile(`/file-${i}`, `${i}`)))
  t.equal(await python(root, `answer(sum(int(text('/file-%d' % i)) == i for i in range(200)))`), 200)
  await python(root, `for i in range(2000): files.mkdir('/more-%d' % i, 0o755)`)
  const names = new Set<string>()
  for await (const { name } of await files.opendir('/')) names.add(name)
  t.equal(names.size, 2200)
  const directory = await files.opendir('/')
  for await (const _ of directory) break
  t.ok(directory.closed, 'who leaves in the middle closes it')
  await using given = await files.opendir('/')
  await t.rejects(given.readBatch({ signal: 1 as unknown as AbortSignal }), { name: 'TypeError' })
  t.equal((await given.readBatch()).length, 1000)
  const abort = new AbortController()
  const aborted = given.readBatch({ signal: abort.signal })
  abort.abort()
  await t.rejects(aborted, { name: 'AbortError' })
  await t.rejects(given.readBatch(), { name: 'ClosedError' }, 'who gave up in the middle does not go on after a gap')
  await files.mkdir('/inner')
  for (const { name } of await files.readdir('/'))
    if (name !== 'inner') await files.rename(`/${name}`, `/inner/${name}`)
  await files.rm('/inner', { recursive: true })
  t.same(await files.readdir('/'), [], 'and removed in batches')
})

t.test('rm removes a tree, and never what a symbolic link leads to', async t => {
  const { files, root } = await testFileSystem(t)
  await python(
    root,
    `
files.mkdir('/kept', 0o755)
write('/kept/file', b'x')
files.mkdir('/tree', 0o755)
files.symlink('../kept', '/tree/link')
files.symlink('/kept', '/top')
path = '/tree'
for i in range(50):
    for j in range(15): write('%s/%d' % (path, j), b'x')
    path += '/folder'
    files.mkdir(path, 0o755)
`,
  )
  await files.rm('/top', { recursive: true })
  await files.rm('/tree', { recursive: true })
  t.same(
    (await files.readdir('/')).map(({ name }) => name),
    ['kept'],
  )
  t.equal((await files.readFile('/kept/file')).toString(), 'x')
  await t.rejects(files.rm('/tree', { recursive: true }), FileNotFoundError)
  await files.rm('/tree', { recursive: true, force: true })
  await files.rm('/tree', { force: true })
})

t.test('rm stays in the tree while somebody puts links in the place of directories', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/kept')
  for (let i = 0; i < 100; i++) await files.writeFile(`/kept/${i}`, '')
  for (let round = 0; round < 2; round++) {
    await files.mkdir('/tree/inner', { recursive: true })
    for (let i = 0; i < 30; i++) await files.writeFile(`/tree/inner/${i}`, '')
    const swapping = python(
      root,
      `
for i in range(50):
    try:
        files.rename('/tree/inner', '/tree/moved')
        files.symlink('../kept', '/tree/inner')
        files.unlink('/tree/inner')
        files.rename('/tree/moved', '/tree/inner')
    except cephfs.Error: pass
`,
    )
    let error: { code?: string } | undefined
    do {
      error = await files.rm('/tree', { recursive: true, force: true }).then(
        () => undefined,
        failure => failure,
      )
      // What the other one is just doing may be in the way.
      if (error && !['ENOTEMPTY', 'ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(error.code))) throw error
    } while (error)
    await swapping
  }
  t.equal((await files.readdir('/kept')).length, 100)
})

t.test('readOnly refuses what would change something', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  await files.writeFile('/file', 'text')
  await using reader = await cluster.mountFileSystem({ root, readOnly: true })
  const refused = { name: 'ReadOnlyFileSystemError', code: 'EROFS' }
  for (const change of [
    () => reader.mkdir('/new'),
    () => reader.writeFile('/file', ''),
    () => reader.open('/new', 'a'),
    () => reader.open('/file', 'r+'),
    () => reader.unlink('/file'),
    () => reader.rm('/file', { recursive: true }),
    () => reader.setXattr('/file', 'user.a', ''),
    () => reader.setQuota('/', { maxFiles: 5 }),
    () => reader.createSnapshot('/', 'new'),
  ]) {
    await t.rejects(change() as Promise<unknown>, refused, String(change))
  }
  t.equal((await reader.readFile('/file')).toString(), 'text')
})

t.test('who mounts for another user has his rights', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  await files.mkdir('/theirs', { mode: 0o700 })
  await files.mkdir('/his', { mode: 0o755 })
  await files.chown('/his', 1234, 1235)
  await using his = await cluster.mountFileSystem({ root, uid: 1234, gid: 1235 })
  await t.rejects(his.writeFile('/theirs/x', ''), { name: 'PermissionError', code: 'EACCES' })
  await his.writeFile('/his/file', '')
  t.match(await files.stat('/his/file'), { uid: 1234, gid: 1235 })
})

t.test('a root or a file system that is not there', async t => {
  const { cluster, root } = await testFileSystem(t)
  await t.rejects(cluster.mountFileSystem({ root: `${root}/none` }), { name: 'NotFoundError', code: 'ENOENT' })
  await t.rejects(cluster.mountFileSystem({ name: 'none' }), { name: 'NotFoundError', syscall: 'ceph_mount' })
  await using named = await cluster.mountFileSystem({ name: 'cephfs' })
  t.ok((await named.stat(root)).isDirectory())
})
