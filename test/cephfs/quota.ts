/** Quotas: cephkit sets them and others are stopped by them; others set them and cephkit tells. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Cluster, MiB } from '../../lib/index.js'
import { run } from '../support/cluster.js'
import { fuseMount, python, testFileSystem } from '../support/file-system.js'
import { until } from '../support/process.js'
import { userWith } from '../support/tenants.js'

/** EDQUOT, which Node 20 has no name for. */
const exceeded = { message: /-122|EDQUOT/ }

/** By the system calls of who has it mounted. */
const fuse = (script: string, path: string, ...rest: string[]) =>
  run('/usr/bin/python3', '-c', `import os, sys; ${script}`, path, ...rest)

t.test('absent is no quota', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/a')
  t.strictSame(await files.getQuota('/a'), {})
  t.strictSame(await files.effectiveQuota('/a'), {})
  t.strictSame(await files.setQuota('/a', { maxFiles: 7 }), { maxFiles: 7 })
  t.strictSame(await files.setQuota('/a', { maxBytes: 5 * MiB }), { maxFiles: 7, maxBytes: 5 * MiB }, 'others stay')
  t.strictSame(await files.setQuota('/a', { maxFiles: null }), { maxBytes: 5 * MiB })
  t.strictSame(await files.setQuota('/a', {}), { maxBytes: 5 * MiB }, 'nothing is no change')
  t.equal(await python(root, `answer(files.getxattr('/a', 'ceph.quota'))`), 'max_bytes=5242880 max_files=0')
  await files.clearQuota('/a')
  t.strictSame(await files.getQuota('/a'), {})
  t.equal(
    await python(
      root,
      `
try: answer(files.getxattr('/a', 'ceph.quota'))
except cephfs.NoData: answer('none')`,
    ),
    'none',
  )
})

t.test('on a mount of ceph-fuse', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/bytes')
  await files.mkdir('/files')
  const folder = await fuseMount(t, root)
  await files.setQuota('/bytes', { maxBytes: 4 * MiB })
  await files.setQuota('/files', { maxFiles: 4 })
  const get = 'print(os.getxattr(sys.argv[1], sys.argv[2]).decode())'
  t.equal(await fuse(get, join(folder, 'bytes'), 'ceph.quota.max_bytes'), `${4 * MiB}\n`)
  t.equal(await fuse(get, join(folder, 'files'), 'ceph.quota.max_files'), '4\n')

  await writeFile(join(folder, 'bytes', 'small'), Buffer.alloc(MiB))
  // ceph-fuse hears of the quota a moment later than it can tell it: on a busy machine, one write of sixty came before that.
  const isRefused = async () => {
    const outcome = await writeFile(join(folder, 'bytes', 'large'), Buffer.alloc(8 * MiB)).catch(error => error)
    return outcome !== undefined && t.match(outcome, exceeded)
  }
  t.ok(await until(isRefused, 5_000))
  for (const name of ['1', '2', '3']) await writeFile(join(folder, 'files', name), name)
  // Until the count of the others has come to who makes one more.
  t.ok(await until(async () => (await files.usage('/files')).files === 3, 60_000), 'the MDS has counted them')
  await t.rejects(writeFile(join(folder, 'files', '4'), ''), exceeded)
  t.equal((await files.readFile('/files/3')).toString(), '3')

  await fuse('os.setxattr(sys.argv[1], "ceph.quota.max_bytes", b"12345678")', join(folder, 'bytes'))
  t.strictSame(await files.getQuota('/bytes'), { maxBytes: 12345678 })
  await writeFile(join(folder, 'bytes', 'large'), Buffer.alloc(8 * MiB))
  await files.writeFile('/files/1', 'new')
  t.equal((await readFile(join(folder, 'files', '1'))).toString(), 'new')
})

t.test('cephkit itself is stopped by them', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/a')
  await files.setQuota('/a', { maxBytes: 2 * MiB, maxFiles: 3 })
  const refused = { name: 'QuotaExceededError', code: 'EDQUOT' }
  await t.rejects(files.writeFile('/a/large', Buffer.alloc(3 * MiB)), refused)
  await t.rejects(files.truncate('/a/large', 3 * MiB), refused)
  await files.mkdir('/a/b')
  t.ok(await until(async () => (await files.usage('/a')).directories === 2, 60_000))
  await t.rejects(files.mkdir('/a/c'), refused)
  await t.rejects(files.writeFile('/a/d', ''), refused)
})

t.test('usage is what is in it', async t => {
  const { files, root } = await testFileSystem(t)
  await files.mkdir('/a/b', { recursive: true })
  const before = await files.usage('/a')
  t.match(before, { bytes: 0, files: 0, directories: 2 })
  await files.writeFile('/a/b/one', Buffer.alloc(1000))
  await files.writeFile('/a/two', Buffer.alloc(234))
  t.ok(await until(async () => (await files.usage('/a')).bytes === 1234, 60_000))
  const usage = await files.usage('/a')
  t.match(usage, { bytes: 1234, files: 2, directories: 2 })
  t.ok(Math.abs(Date.now() - Number(usage.changedAt)) < 600_000)
  const names = ['rbytes', 'rfiles', 'rsubdirs']
  const theirs = await python(
    root,
    `answer([int(files.getxattr('/a', 'ceph.dir.' + n)) for n in ${JSON.stringify(names)}])`,
  )
  t.same(theirs, [1234, 2, 2])
  await t.rejects(files.usage('/a/two'), { name: 'NotDirectoryError' })
  await t.rejects(files.usage('/none'), { name: 'FileNotFoundError' })
})

t.test('the effective quota is the lowest on the path', async t => {
  const { files } = await testFileSystem(t)
  await files.mkdir('/a/b/c', { recursive: true })
  await files.setQuota('/', { maxBytes: 100 * MiB, maxFiles: 50 })
  await files.setQuota('/a', { maxBytes: 10 * MiB })
  await files.setQuota('/a/b/c', { maxBytes: 20 * MiB, maxFiles: 60 })
  const expected = { maxBytes: { limit: 10 * MiB, path: '/a' }, maxFiles: { limit: 50, path: '/' } }
  t.strictSame(await files.effectiveQuota('/a/b/c'), expected)
  await files.symlink('../a/b/c', '/a/link')
  await files.symlink('/a/link', '/link')
  t.strictSame(await files.effectiveQuota('/link'), expected, 'of what a symbolic link leads to')
  t.strictSame(await files.getQuota('/link'), {}, 'whose own it is not')
  await t.rejects(files.setQuota('/link', { maxFiles: 5 }), { name: 'NotDirectoryError', code: 'ENOTDIR' })
  await files.writeFile('/a/file', '')
  t.strictSame((await files.effectiveQuota('/a/file')).maxBytes, { limit: 10 * MiB, path: '/a' })
  await t.rejects(files.setQuota('/a/file', { maxFiles: 5 }), { name: 'NotDirectoryError' })
  await t.rejects(files.effectiveQuota('/a/none'), { name: 'FileNotFoundError' })
})

t.test('a user whose caps have no p sets none', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  await files.mkdir('/a')
  await files.setQuota('/a', { maxFiles: 9 })
  for (const [mds, allowed] of [
    ['allow rw', false],
    [`allow rw path=${root}`, false],
    ['allow rwp', true],
  ] as const) {
    const { user, key } = await userWith(t, cluster, mds)
    await using theirs = await Cluster.connect({ user, options: { key } })
    await using mounted = await theirs.mountFileSystem({ root })
    await mounted.writeFile(`/a/${mds.length}`, 'x')
    if (allowed) {
      t.strictSame(await mounted.setQuota('/a', { maxFiles: 8 }), { maxFiles: 8 })
      continue
    }
    const refusal = { name: 'PermissionError', message: /allow rwp/, resource: `${root}/a`, retryable: false }
    await t.rejects(mounted.setQuota('/a', { maxFiles: 5 }), refusal, mds)
    await t.rejects(mounted.clearQuota('/a'), refusal, mds)
    t.strictSame(await mounted.getQuota('/a'), { maxFiles: 9 }, 'and reads it all the same')
    await t.rejects(mounted.createSnapshot('/a', 'one'), { name: 'PermissionError', message: /allow rws/ })
  }
})
