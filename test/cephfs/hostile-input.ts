/** Wrong input is a TypeError or RangeError with a code, before anything reaches libcephfs. */
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import type { FileSystem } from '../../lib/index.js'
import { allFileCalls, fileSubjects } from '../support/file-calls.js'
import { testFileSystem } from '../support/file-system.js'

const values = [undefined, null, true, 5, 'text', 5n, Symbol('s'), () => {}, ['a'], new Date(), { some: 'thing' }]
const allBut = (...types: string[]) => values.filter(value => !types.includes(value === null ? 'null' : typeof value))
const optional = (wrong: unknown[]) => wrong.filter(value => value !== undefined)

const shared = new Uint8Array(new SharedArrayBuffer(8))
const notNumber = [...allBut('number'), '5', Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, 2 ** 53]
const notKey = [...allBut('string'), '', 'with\0NUL', 'a lone \ud800']
const up = ['..', '/..', '../x', '/a/../b', 'a/..', './..', Buffer.from('../x')]
const notPath = [...notKey, ...up, Buffer.alloc(0), Buffer.from('a\0'), shared, new Uint16Array(2), new ArrayBuffer(2)]
const notEntry = [...notPath, '/', '//', '.', '/./', Buffer.from('/'), '/.snap', '/folder/.snap', '/folder/.snap/new']
const notData = [...allBut('string'), 'a lone \ud800', shared, new ArrayBuffer(8)]
const notView = [...allBut(), shared, new ArrayBuffer(8)]

async function complaint(entry: (value: never) => unknown, value: unknown): Promise<string | undefined> {
  const shown = inspect(value, { depth: 1 }).slice(0, 40)
  try {
    await entry(value as never)
    return `${shown} is taken`
  } catch (error) {
    const { code = '' } = error as { code?: string }
    const typed = (error instanceof TypeError || error instanceof RangeError) && code.startsWith('ERR_')
    return typed ? undefined : `${shown}: ${error}`
  }
}

async function refuses(t: Test, wrong: unknown[], entries: Record<string, (value: never) => unknown>) {
  for (const [name, entry] of Object.entries(entries)) {
    const complaints = []
    for (const value of wrong) complaints.push(await complaint(entry, value))
    t.same(complaints.filter(Boolean), [], `${name}, ${wrong.length} times`)
  }
}

t.test('wrong input is refused', async t => {
  const { cluster, files } = await testFileSystem(t)
  const all = await fileSubjects(files)
  const { file } = all

  await t.test('for options', async t => {
    const notOptions = [
      ...allBut('undefined', 'object'),
      null,
      ['a'],
      new Date(),
      new Map(),
      { sginal: 1 },
      { signal: 1 },
    ]
    const entries = allFileCalls.map(({ name, call }) => [name, (v: never) => call(all, v)])
    await refuses(t, notOptions, Object.fromEntries(entries))
    await refuses(t, notOptions, { mountFileSystem: v => cluster.mountFileSystem(v) })
  })

  await t.test('for a mount', async t => {
    await refuses(t, optional(notKey), { name: v => cluster.mountFileSystem({ name: v }) })
    await refuses(t, [...optional(notKey), ...up], { root: v => cluster.mountFileSystem({ root: v }) })
    await refuses(t, [...optional(notNumber), 2 ** 32 - 1], {
      uid: v => cluster.mountFileSystem({ uid: v }),
      gid: v => cluster.mountFileSystem({ gid: v }),
    })
    await refuses(t, optional(allBut('boolean')), { readOnly: v => cluster.mountFileSystem({ readOnly: v }) })
  })

  await t.test('for paths', async t => {
    await refuses(t, notPath, {
      stat: v => files.stat(v),
      lstat: v => files.lstat(v),
      opendir: v => files.opendir(v),
      readdir: v => files.readdir(v),
      readlink: v => files.readlink(v),
      chmod: v => files.chmod(v, 0o755),
      chown: v => files.chown(v, 1, 1),
      lchown: v => files.lchown(v, 1, 1),
      utimes: v => files.utimes(v, 1, 1),
      lutimes: v => files.lutimes(v, 1, 1),
      truncate: v => files.truncate(v),
      open: v => files.open(v),
      readFile: v => files.readFile(v),
      writeFile: v => files.writeFile(v, ''),
      getXattr: v => files.getXattr(v, 'user.a'),
      setXattr: v => files.setXattr(v, 'user.a', ''),
      listXattrs: v => files.listXattrs(v),
      removeXattr: v => files.removeXattr(v, 'user.a'),
      getQuota: v => files.getQuota(v),
      setQuota: v => files.setQuota(v, {}),
      clearQuota: v => files.clearQuota(v),
      usage: v => files.usage(v),
      createSnapshot: v => files.createSnapshot(v, 'new'),
      removeSnapshot: v => files.removeSnapshot(v, 'new'),
      listSnapshots: v => files.listSnapshots(v),
      listUsage: v => files.listUsage(v).next(),
      openDirectory: v => files.openDirectory(v),
      realpath: v => files.realpath(v),
      effectiveQuota: v => files.effectiveQuota(v),
    })
    await refuses(t, optional(notPath), { statfs: v => files.statfs(v) })
    await refuses(t, notEntry, {
      mkdir: v => files.mkdir(v),
      'mkdir, recursive': v => files.mkdir(v, { recursive: true }),
      rmdir: v => files.rmdir(v),
      unlink: v => files.unlink(v),
      rm: v => files.rm(v, { force: true }),
      'rm, recursive': v => files.rm(v, { recursive: true, force: true }),
      removeTree: v => files.removeTree(v),
      rename: v => files.rename(v, '/new'),
      'rename to': v => files.rename('/file', v),
      link: v => files.link(v, '/new'),
      'link to': v => files.link('/file', v),
      symlink: v => files.symlink('x', v),
    })
    await refuses(t, [...notKey, Buffer.alloc(0), Buffer.from('a\0'), shared], {
      target: v => files.symlink(v, '/new'),
    })
    await refuses(t, [...notKey, 'a/b', '.', '..', '_a'], {
      createSnapshot: v => files.createSnapshot('/', v),
      removeSnapshot: v => files.removeSnapshot('/', v),
    })
  })

  await t.test('for directories', async t => {
    const { held } = all
    const wanted = { path: 'new', uid: 1, gid: 1, mode: 0o700 }
    const ensure = (each: object) => held.ensureDirectories([each as typeof wanted])
    await refuses(t, [...allBut('object'), null, { 0: wanted }, [5], [null], ['a'], [[]]], {
      ensureDirectories: v => held.ensureDirectories(v),
    })
    await refuses(t, [...notKey, ...up.filter(path => typeof path === 'string'), '.snap', 'a/.snap/b'], {
      path: v => ensure({ ...wanted, path: v }),
    })
    await refuses(t, [...notNumber, 2 ** 32 - 1], {
      uid: v => ensure({ ...wanted, uid: v }),
      gid: v => ensure({ ...wanted, gid: v }),
    })
    await refuses(t, [...notNumber, 0o10000], { mode: v => ensure({ ...wanted, mode: v }) })
    await refuses(t, notKey, { getXattr: v => held.getXattr(v), setXattr: v => held.setXattr(v, '') })
    await refuses(t, notData, { setXattr: v => held.setXattr('user.a', v) })
    await refuses(t, [...allBut('object'), null, ['a'], { some: 5 }], { setQuota: v => held.setQuota(v) })
    await refuses(t, optional(allBut('boolean')), { snapshots: v => files.removeTree('/new', { snapshots: v }) })
    await refuses(t, [[5], [''], ['a\0']], { xattrs: v => files.listUsage('/', { xattrs: v }).next() })
  })

  await t.test('for values', async t => {
    await refuses(t, [...notNumber, 0o10000], { chmod: v => files.chmod('/file', v) })
    await refuses(t, [...optional(notNumber), 0o10000], {
      'mkdir mode': v => files.mkdir('/new', { mode: v }),
      'open mode': v => files.open('/file', 'r', { mode: v }),
      'writeFile mode': v => files.writeFile('/file', '', { mode: v }),
    })
    await refuses(t, [...notNumber, 2 ** 32 - 1], {
      uid: v => files.chown('/file', v, 1),
      gid: v => files.chown('/file', 1, v),
      'uid of a link': v => files.lchown('/link', v, 1),
    })
    const notTime = [
      ...allBut('number', 'object'),
      null,
      ['a'],
      Number.NaN,
      new Date(Number.NaN),
      -1,
      2 ** 32,
      new Date(-1),
    ]
    await refuses(t, notTime, {
      atime: v => files.utimes('/file', v, 1),
      mtime: v => files.utimes('/file', 1, v),
      'of a link': v => files.lutimes('/link', 1, v),
    })
    await refuses(t, optional(notNumber), {
      truncate: v => files.truncate('/file', v),
      'of a file': v => file.truncate(v),
    })
    await refuses(t, [...optional(allBut('number', 'string')), '', 'rw', 'toString', -1, 0.5, 2 ** 31], {
      flags: v => files.open('/file', v),
      'of writeFile': v => files.writeFile('/file', '', { flag: v }),
    })
    await refuses(t, notKey, {
      getXattr: v => files.getXattr('/file', v),
      setXattr: v => files.setXattr('/file', v, ''),
      removeXattr: v => files.removeXattr('/file', v),
    })
    await refuses(t, notData, {
      setXattr: v => files.setXattr('/file', 'user.a', v),
      write: v => file.write(v),
      writeFile: v => files.writeFile('/file', v),
    })
    await refuses(t, notView, { read: v => file.read(v) })
    await refuses(t, optional(allBut('string')).concat('other'), {
      only: v => files.setXattr('/file', 'user.a', '', { only: v }),
      encoding: v => files.readdir('/', { encoding: v }),
      'of readlink': v => files.readlink('/link', { encoding: v }),
      'of realpath': v => files.realpath('/link', { encoding: v }),
    })
    const notEncoding = allBut('string', 'null', 'undefined').concat('other', '')
    await refuses(t, notEncoding, { 'encoding of readFile': v => files.readFile('/file', { encoding: v }) })
    await refuses(t, ['other', ''], { 'in the place of the options': v => files.readFile('/file', v) })
    await refuses(t, optional(allBut('boolean')), {
      'mkdir recursive': v => files.mkdir('/new', { recursive: v }),
      'rm recursive': v => files.rm('/new', { recursive: v }),
      'rm force': v => files.rm('/new', { force: v }),
    })
    await refuses(t, [...optional(notNumber), 11], {
      offset: v => file.read(Buffer.alloc(10), { offset: v }),
      length: v => file.read(Buffer.alloc(10), { length: v }),
    })
    await refuses(
      t,
      optional(notNumber).filter(v => v !== null),
      {
        position: v => file.read(Buffer.alloc(10), { position: v }),
        'of write': v => file.write('x', { position: v }),
      },
    )
    await refuses(t, [...allBut('object'), null, ['a'], new Date(), { some: 5 }], {
      quota: v => files.setQuota('/', v),
    })
    await refuses(
      t,
      [...optional(notNumber), 0].filter(v => v !== null),
      {
        maxBytes: v => files.setQuota('/', { maxBytes: v }),
        maxFiles: v => files.setQuota('/', { maxFiles: v }),
      },
    )
    await refuses(t, [...optional(allBut('object')), null, { a: 5 }, { '': 'x' }, { a: 'x\0' }], {
      metadata: v => files.createSnapshot('/', 'new', { metadata: v }),
    })
  })

  t.same(await unchanged(files), ['file', 'folder', 'link'], 'and nothing was made')
})

async function unchanged(files: FileSystem): Promise<string[]> {
  return (await files.readdir('/')).map(({ name }) => name).sort()
}

t.test('nothing leads out of the root of the mount by its path', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  await files.mkdir('/inner')
  await files.writeFile('/outside', 'x')
  await using inner = await cluster.mountFileSystem({ root: `${root}/inner` })
  for (const path of ['/../outside', '../outside', 'a/../../outside', './../outside', '//..//outside']) {
    await t.rejects(inner.stat(path), TypeError, path)
    await t.rejects(inner.readFile(Buffer.from(path)), TypeError, path)
    await t.rejects(inner.realpath(path), TypeError, path)
  }
  await inner.symlink('../../../outside', '/link')
  await t.rejects(inner.realpath('/link'), { name: 'FileNotFoundError' }, 'nor does realpath() follow a link there')
})
