/** A path that goes on after a file: libcephfs 16.2.15, left to itself, aborts the process once that file has two names. */
import t from 'tap'
import { type Failure, fails } from '../support/failures.js'
import { testFileSystem } from '../support/file-system.js'

t.test('a file has nothing in it, however many names it has', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/a')
  await files.writeFile('/a/file', 'text')
  // As of a directory: or libcephfs says EACCES before it comes to what is wrong.
  await files.chmod('/a/file', 0o755)
  await files.writeFile('/other', 'text')
  const notDirectory: Failure = { name: 'NotDirectoryError', code: 'ENOTDIR' }
  const calls = (path: string) =>
    fails(t, {
      mkdir: [() => files.mkdir(path), notDirectory],
      rmdir: [() => files.rmdir(path), notDirectory],
      unlink: [() => files.unlink(path), notDirectory],
      'rename to it': [() => files.rename('/other', path), notDirectory],
      'rename of it': [() => files.rename(path, '/new'), notDirectory],
      link: [() => files.link('/other', path), notDirectory],
      symlink: [() => files.symlink('other', path), notDirectory],
      'mkdir of all above it': [() => files.mkdir(`${path}/more`, { recursive: true }), notDirectory],
      writeFile: [() => files.writeFile(path, 'text'), notDirectory],
      removeTree: [() => files.removeTree(path), notDirectory],
      createSnapshot: [() => files.createSnapshot(path, 'new'), notDirectory],
    })
  await calls('/a/file/new')
  await files.link('/a/file', '/a/same')
  await calls('/a/file/new')
  await calls('a//same/new/')
  await files.symlink('a/file', '/link')
  await calls('/link/new')
  t.same((await files.readdir('/')).map(({ name }) => name).sort(), ['a', 'link', 'other'])
})

t.test('what is in a directory that is reached by a link, or from the root', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/a')
  await files.symlink('a', '/link')
  await files.mkdir('/link/b')
  await files.mkdir('c')
  await files.rename('c/', '/link/d//')
  t.same((await files.readdir('/a')).map(({ name }) => name).sort(), ['b', 'd'])
  await t.rejects(files.mkdir('/none/b'), { name: 'FileNotFoundError' })
})
