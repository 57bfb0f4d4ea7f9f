/** Extended attributes and snapshots, with other programs at the other end. */
import t from 'tap'
import { python, testFileSystem } from '../support/file-system.js'

t.test('attributes are bytes', async t => {
  const { files, root } = await testFileSystem(t)
  await files.writeFile('/file', '')
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
  await files.setXattr('/file', 'user.bytes', bytes)
  await files.setXattr('/file', 'user.empty', '')
  await files.setXattr('/file', 'user.größe', 'groß')
  t.same(
    await python(
      root,
      `answer([list(files.getxattr('/file', 'user.bytes', 1000)), len(files.getxattr('/file', 'user.empty'))])`,
    ),
    [[...bytes], 0],
  )
  await python(root, `files.setxattr('/file', 'user.theirs', bytes(range(255, -1, -1)) * 30, 0)`)
  t.ok(
    (await files.getXattr('/file', 'user.theirs')).equals(Buffer.concat(Array(30).fill(Buffer.from(bytes).reverse()))),
  )
  t.equal((await files.getXattr('/file', 'user.empty')).length, 0)
  t.same((await files.listXattrs('/file')).sort(), ['user.bytes', 'user.empty', 'user.größe', 'user.theirs'])
  await files.removeXattr('/file', 'user.bytes')
  const missing = { name: 'XattrNotFoundError', code: 'ENODATA', resource: `${root}/file` }
  await t.rejects(files.getXattr('/file', 'user.bytes'), missing)
  await t.rejects(files.removeXattr('/file', 'user.bytes'), missing)
  await t.rejects(files.setXattr('/file', 'user.bytes', '', { only: 'replace' }), missing)
  await t.rejects(files.setXattr('/file', 'user.empty', '', { only: 'create' }), { name: 'FileExistsError' })
  await t.rejects(files.setXattr('/file', 'nothing.of.this', ''), { name: 'NotSupportedError', code: 'ENOTSUP' })
  await t.rejects(files.getXattr('/none', 'user.a'), { name: 'FileNotFoundError' })
})

t.test("CephFS's own attributes", async t => {
  const { files } = await testFileSystem(t)
  t.match((await files.getXattr('/', 'ceph.dir.rfiles')).toString(), /^0$/)
  await files.writeFile('/file', '')
  t.match((await files.getXattr('/file', 'ceph.file.layout')).toString(), /object_size=4194304/)
  await t.rejects(files.getXattr('/file', 'ceph.dir.rfiles'), { name: 'XattrNotFoundError' })
})

t.test('snapshots keep what was there', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/a/b', { recursive: true })
  await files.writeFile('/a/b/file', 'before')
  await files.createSnapshot('/a', 'one', { metadata: { job: '42', empty: '', ['__proto__']: 'own' } })
  await python(root, `files.mksnap('/a', 'two', 0o755, {'by': 'python'})`)
  await files.writeFile('/a/b/file', 'after')
  t.equal((await files.readFile('/a/.snap/one/b/file')).toString(), 'before')
  t.equal(await python(root, `answer(text('/a/.snap/one/b/file'))`), 'before')
  t.same(await python(root, `answer(files.snap_info('/a/.snap/one')['metadata'])`), {
    job: '42',
    empty: '',
    ['__proto__']: 'own',
  })
  const snapshots = await files.listSnapshots('/a')
  t.match(
    new Map(snapshots.map(({ name, metadata }) => [name, metadata])),
    new Map([
      ['one', { job: '42', empty: '', ['__proto__']: 'own' }],
      ['two', { by: 'python' }],
    ]),
  )
  for (const { id, createdAt } of snapshots) {
    t.ok(id > 0)
    t.ok(Math.abs(Date.now() - Number(createdAt)) < 600_000)
  }
  t.same(await files.listSnapshots('/a/b'), [], 'those of the directory itself only')
  await t.rejects(files.createSnapshot('/a', 'one'), { name: 'SnapshotExistsError', code: 'EEXIST' })
  await t.rejects(files.createSnapshot('/none', 'one'), { name: 'SnapshotNotFoundError', code: 'ENOENT' })
  await t.rejects(files.writeFile('/a/.snap/one/b/file', 'x'), { name: 'ReadOnlyFileSystemError', code: 'EROFS' })
  await files.mkdir('/above')
  await files.rename('/a', '/above/a')
  await t.rejects(files.rm('/above', { recursive: true }), {
    name: 'DirectoryNotEmptyError',
    resource: `${root}/above/a`,
    message: /snapshots: one, two/,
  })
  await files.rename('/above/a', '/a')
  await t.rejects(files.rm('/a', { recursive: true }), { name: 'DirectoryNotEmptyError' })
  await files.removeSnapshot('/a', 'one')
  await files.removeSnapshot('/a', 'two')
  t.same(await files.listSnapshots('/a'), [])
  const missing = { name: 'SnapshotNotFoundError', resource: `${root}/a@one` }
  await t.rejects(files.removeSnapshot('/a', 'one'), missing)
  await files.rm('/a', { recursive: true })
  await t.resolves(files.close(), 'and the one that was not there does not keep the unmount')
})
