/** Tenants: what is made, mended, refused, reported and removed. */
import t from 'tap'
import { Cluster, GiB, MiB } from '../../lib/index.js'
import { reportTenants } from '../../src/cephfs/report.js'
import type { Tenant } from '../../src/cephfs/spec.js'
import { Tenants } from '../../src/cephfs/tenants.js'
import { python } from '../support/file-system.js'
import { until } from '../support/process.js'
import { acme, mountTenants, owners, ownersBelow, testTenants, userWith } from '../support/tenants.js'

/** Mode, owner and group, as a tenant has them. */
const [uid, gid] = [acme.uid, acme.gid]
const layout: Record<string, [string, number, number]> = {
  '': ['0o755', 0, 0],
  '/home': ['0o700', uid, gid],
  '/webroots': ['0o750', uid, gid],
  '/webroots/example.org': ['0o755', uid, gid],
  '/webroots/example.org/public': ['0o755', uid, gid],
  '/webroots/plain': ['0o755', uid, gid],
  '/logs': ['0o750', uid, gid],
  '/tmp': ['0o1777', uid, gid],
}
const asLaidOut = Object.fromEntries(Object.entries(layout).map(([path, owner]) => [`/tenants/acme${path}`, owner]))
const whole: Tenant = {
  ...acme,
  quota: { maxBytes: GiB, maxFiles: 1000 },
  webroots: [{ name: 'example.org', public: true }, { name: 'plain' }],
}

t.test('a tenant is made as the table says', async t => {
  const { tenants, root } = await testTenants(t)
  const made = await tenants.ensure(whole)
  t.strictSame(made, {
    name: 'acme',
    path: `${root}/tenants/acme`,
    made: true,
    mended: [],
    quota: { maxBytes: GiB, maxFiles: 1000 },
  })
  t.strictSame(await ownersBelow(root, '/tenants/acme'), asLaidOut)
  const quota = await python(root, `answer(files.getxattr('/tenants/acme', 'ceph.quota'))`)
  t.equal(quota, `max_bytes=${GiB} max_files=1000`)
})

t.test('made again, nothing changes', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(whole)
  await files.writeFile('/tenants/acme/home/file', 'text')
  const changedAt = () =>
    Promise.all(Object.keys(asLaidOut).map(async path => (await files.stat(path)).ctime.getTime()))
  const before = await changedAt()
  t.match(await tenants.ensure(whole), { made: false, mended: [], quota: { maxBytes: GiB } })
  t.match(await tenants.ensure(acme), { made: false, mended: [] }, 'without what may be left out')
  t.strictSame(await changedAt(), before)
  t.equal((await files.readFile('/tenants/acme/home/file')).toString(), 'text')
  t.strictSame(await files.getQuota('/tenants/acme'), { maxBytes: GiB, maxFiles: 1000 })
  await tenants.ensure({ ...acme, webroots: [{ name: 'new' }], quota: { maxFiles: null } })
  t.strictSame(await files.getQuota('/tenants/acme'), { maxBytes: GiB })
  t.match(await owners(files, '/tenants/acme'), { ...asLaidOut, '/tenants/acme/webroots/new': ['0o755', uid, gid] })
})

t.test('drift is found, told and mended', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(whole)
  await files.writeFile('/tenants/acme/webroots/plain/index', 'text')
  await files.chown('/tenants/acme/webroots/plain/index', 5, 5)
  const at = (path: string) => `/tenants/acme/${path}`
  const drifts: [drift: () => Promise<unknown>, mended: object[]][] = [
    [() => files.chmod(at('home'), 0o755), [{ path: 'home', was: { uid, gid, mode: '0755' }, now: { mode: '0700' } }]],
    [() => files.chmod(at('tmp'), 0o777), [{ path: 'tmp', was: { mode: '0777' }, now: { mode: '1777' } }]],
    [() => files.chmod(at('logs'), 0o6750), [{ path: 'logs', was: { mode: '6750' }, now: { mode: '0750' } }]],
    [() => files.chown(at(''), uid, gid), [{ path: '.', was: { uid, gid }, now: { uid: 0, gid: 0 } }]],
    [() => files.chmod(at(''), 0o777), [{ path: '.', was: { mode: '0777' }, now: { mode: '0755' } }]],
    [() => files.chown(at('tmp'), 0, 0), [{ path: 'tmp', was: { uid: 0, gid: 0, mode: '1777' }, now: { uid, gid } }]],
    [() => files.chown(at('webroots/plain'), uid, 7), [{ path: 'webroots/plain', was: { uid, gid: 7 }, now: { gid } }]],
    [() => files.rmdir(at('logs')), [{ path: 'logs', now: { uid, gid, mode: '0750' } }]],
    [
      async () => {
        await files.rmdir(at('webroots/example.org/public'))
        await files.chmod(at('webroots'), 0)
      },
      [{ path: 'webroots', was: { mode: '0000' } }, { path: 'webroots/example.org/public' }],
    ],
    [
      () => files.setQuota(at(''), { maxBytes: 5 }),
      [{ path: '.', was: { quota: { maxBytes: 5, maxFiles: 1000 } }, now: { quota: { maxBytes: GiB } } }],
    ],
    [
      () => files.setQuota(at(''), { maxFiles: null }),
      [{ path: '.', was: { quota: { maxBytes: GiB } }, now: { quota: { maxFiles: 1000 } } }],
    ],
  ]
  for (const [drift, mended] of drifts) {
    await drift()
    const ensured = await tenants.ensure(whole)
    t.equal(ensured.mended.length, mended.length, String(drift))
    t.match(ensured, { made: false, mended })
    const { '/tenants/acme/webroots/plain/index': file, ...found } = await owners(files, '/tenants/acme')
    t.strictSame(found, asLaidOut, 'all is as it is to be')
    t.strictSame(file, ['0o644', 5, 5], 'but what is in it stays as it is')
    t.strictSame(await files.getQuota('/tenants/acme'), { maxBytes: GiB, maxFiles: 1000 })
    t.match(await tenants.ensure(whole), { mended: [] })
  }
})

t.test('two nodes at once come to the same', async t => {
  const own = await testTenants(t)
  const nodes = [own.tenants, await mountTenants(t, own)]
  for (let i = 0; i < 10; i++) {
    const name = `tenant-${i}`
    const ensured = await Promise.all([...nodes, ...nodes].map(node => node.ensure({ ...whole, name })))
    t.equal(ensured.filter(({ made }) => made).length, 1, 'one of them has made it')
    const found = await owners(own.files, `/tenants/${name}`)
    const renamed = Object.fromEntries(
      Object.entries(asLaidOut).map(([path, owner]) => [path.replace('acme', name), owner]),
    )
    t.strictSame(found, renamed)
    t.strictSame(await own.files.getQuota(`/tenants/${name}`), { maxBytes: GiB, maxFiles: 1000 })
  }
})

t.test('what cannot be a tenant is refused before anything is touched', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(acme)
  const before = await owners(files, '/')
  const names = [
    '',
    '.',
    '..',
    '../x',
    'a/b',
    '/',
    '/a',
    'a/',
    './a',
    'a/../../b',
    '.snap',
    '.hidden',
    '-rf',
    'a\0b',
    'a b',
  ]
  names.push('a\n', 'é', '\u2024\u2024', 'a\\b', '%2e%2e', '*', 'x'.repeat(256), 'a\ud800')
  const wrongNames: unknown[] = [...names, 5, null, undefined, ['a'], { toString: () => 'a' }]
  const ids = [0, 1, 999, -1, 1.5, 65_534, 65_535, 2 ** 32 - 1, 2 ** 32, Number.NaN, '1000', null, undefined]
  const limits = [0, -1, 1.5, '5', 2 ** 53, Number.NaN]
  const wrong: [what: unknown, tenant: object][] = [
    ...wrongNames.map((name): [unknown, object] => [name, { name }]),
    ...ids.flatMap((id): [unknown, object][] => [
      [id, { uid: id }],
      [id, { gid: id }],
    ]),
    ...limits.map((limit): [unknown, object] => [limit, { quota: { maxBytes: limit } }]),
    ...limits.map((limit): [unknown, object] => [limit, { quota: { maxFiles: limit } }]),
    ...wrongNames.map((name): [unknown, object] => [name, { webroots: [{ name }] }]),
    ['twice', { webroots: [{ name: 'a' }, { name: 'a', public: true }] }],
    ['unknown', { quotas: {} }],
    ['unknown limit', { quota: { max: 5 } }],
  ]
  for (const [what, tenant] of wrong) {
    const refused = tenants.ensure({ ...acme, name: 'new', ...tenant } as Tenant)
    await t.rejects(refused, { name: 'InvalidTenantError', code: 'INVALID_TENANT' }, JSON.stringify([what, tenant]))
  }
  for (const name of wrongNames) {
    const refusal = { name: 'InvalidTenantError' }
    await t.rejects(tenants.usage(name as string), refusal, `usage of ${JSON.stringify(name)}`)
    await t.rejects(tenants.delete(name as string, { snapshots: true }), refusal, `delete of ${JSON.stringify(name)}`)
  }
  t.strictSame(await owners(files, '/'), before)
  const allowed = [1000, 65_533, 65_536, 2 ** 32 - 2]
  for (const id of allowed) t.match(await tenants.ensure({ name: `u${id}`, uid: id, gid: id }), { made: true })
})

t.test('what is no tenant is left alone', async t => {
  const { tenants, root, files } = await testTenants(t)
  await files.mkdir('/elsewhere')
  await python(
    root,
    `
files.mkdir('/tenants/theirs', 0o711)
write('/tenants/theirs/file', b'x')
write('/tenants/file', b'x')
files.symlink('../elsewhere', '/tenants/link')
files.symlink('nowhere', '/tenants/dangling')
`,
  )
  await tenants.ensure(acme)
  // Of a tenant that has got another name, and of what somebody has put there.
  await files.rename('/tenants/acme', '/tenants/renamed')
  await files.mkdir('/tenants/forged/x', { recursive: true })
  await files.setXattr('/tenants/forged', 'trusted.cephkit.tenant', 'no JSON')
  const before = await owners(files, '/')
  for (const name of ['theirs', 'file', 'link', 'dangling', 'renamed', 'forged']) {
    const refusal = { name: 'NotTenantError', code: 'NOT_A_TENANT' }
    await t.rejects(tenants.ensure({ ...acme, name }), refusal, name)
    await t.rejects(tenants.delete(name, { snapshots: true }), refusal, name)
    await t.rejects(tenants.usage(name), refusal, name)
  }
  t.strictSame(await owners(files, '/'), before)
  t.same(await reportTenants(tenants), [])
  await t.rejects(tenants.usage('none'), { name: 'TenantNotFoundError', code: 'TENANT_NOT_FOUND' })
  t.equal(await tenants.delete('none'), undefined)
})

t.test('a directory that is empty, and nobody has marked, becomes a tenant', async t => {
  const { tenants, files } = await testTenants(t)
  await files.mkdir('/tenants/acme', { mode: 0o700 })
  t.match(await tenants.ensure(whole), { made: true })
  t.strictSame(await owners(files, '/tenants/acme'), asLaidOut)
})

t.test('a tenant is removed, with all that is in it', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(whole)
  await tenants.ensure({ ...acme, name: 'other' })
  await files.mkdir('/tenants/acme/home/a/b', { recursive: true })
  await files.writeFile('/tenants/acme/home/a/b/file', 'text')
  t.equal(await tenants.delete('acme'), 8 + 3)
  t.same(
    (await files.readdir('/tenants')).map(({ name }) => name),
    ['other'],
  )
  t.equal(await tenants.delete('acme'), undefined)
  t.match(await tenants.ensure(whole), { made: true }, 'and can be made again')
})

t.test('what a tenant has named drives no terminal', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(acme)
  // What clears a screen, what sets the title of a window, and what turns text around.
  const folder = 'a\u001b[2J\u009b31m'
  const snapshot = 'b\u001b]0;c\u0007\u202e'
  await files.mkdir(`/tenants/acme/home/${folder}`)
  await files.createSnapshot(`/tenants/acme/home/${folder}`, snapshot)
  await tenants.beginDelete('acme', { snapshots: true })
  const error = await tenants.finishDelete('acme', {}).catch(error => error)
  t.match(error, { name: 'TenantNotEmptyError' })
  t.notMatch(error.message, /[\p{Cc}\p{Cf}]/u)
  const shown = 'a\\u{1b}[2J\\u{9b}31m@b\\u{1b}]0;c\\u{7}\\u{202e}'
  t.strictSame(error.blockers, [{ kind: 'snapshot', name: `${root}/tenants/acme/home/${shown}` }])
  await tenants.delete('acme', { snapshots: true })
})

t.test('one with snapshots is not removed unless they may be', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(acme)
  await files.writeFile('/tenants/acme/home/file', 'text')
  await files.createSnapshot('/tenants', 'of-all')
  await files.createSnapshot('/tenants/acme', 'monday')
  await files.createSnapshot('/tenants/acme/home', 'deep')
  t.ok(await until(async () => Number(await files.getXattr('/tenants/acme', 'ceph.dir.rsnaps')) === 2, 30_000))
  const refusal = {
    name: 'TenantHasSnapshotsError',
    code: 'TENANT_HAS_SNAPSHOTS',
    message: /has 2 snapshots/,
    blockers: [{ kind: 'snapshot', name: `${root}/tenants/acme@monday` }],
  }
  await t.rejects(tenants.delete('acme'), refusal)
  t.equal((await files.readFile('/tenants/acme/home/file')).toString(), 'text', 'nothing was removed')
  t.match(await tenants.ensure(acme), { mended: [] }, 'nor changed')
  t.equal(await tenants.delete('acme', { snapshots: true }), 6)
  t.same(await files.readdir('/tenants'), [])
  t.equal(
    (await files.readFile('/tenants/.snap/of-all/acme/home/file')).toString(),
    'text',
    'that of all is still there',
  )
  await files.removeSnapshot('/tenants', 'of-all')
})

t.test('what could not be removed is told, and the rest goes when it can', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(acme)
  await files.mkdir('/tenants/acme/home/kept')
  await files.writeFile('/tenants/acme/logs/log', 'text')
  // Counted with some delay: it is found when all else is gone.
  await files.createSnapshot('/tenants/acme/home/kept', 'fresh')
  t.equal(await tenants.beginDelete('acme', { snapshots: true }), true)
  const error = await tenants.finishDelete('acme', {}).catch(error => error)
  t.match(error, { name: 'TenantNotEmptyError', code: 'TENANT_NOT_EMPTY' })
  t.strictSame(error.blockers, [{ kind: 'snapshot', name: `${root}/tenants/acme/home/kept@fresh` }])
  t.same(
    (await files.readdir('/tenants/acme')).map(({ name }) => name),
    ['home'],
  )
  t.match(await tenants.usage('acme'), { deleting: true })
  await t.rejects(tenants.ensure(acme), { name: 'TenantBeingDeletedError', code: 'TENANT_BEING_DELETED' })
  t.equal(((await files.stat('/tenants/acme')).mode & 0o7777).toString(8), '700', 'nobody goes in any more')
  await files.removeSnapshot('/tenants/acme/home/kept', 'fresh')
  t.equal(await tenants.delete('acme', { snapshots: true }), 3)
  t.same(await files.readdir('/tenants'), [])
})

t.test('a removal can be stopped, and gone on with', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(acme)
  const names = Array.from({ length: 1500 }, (_, i) => `/tenants/acme/home/${i}`)
  for (let i = 0; i < names.length; i += 100) {
    await Promise.all(names.slice(i, i + 100).map(name => files.mkdir(name)))
  }
  const stop = new AbortController()
  const removing = tenants.delete('acme', { signal: stop.signal })
  while ((await files.readdir('/tenants/acme/home')).length === names.length);
  stop.abort('enough')
  await t.rejects(removing, { name: 'AbortError', cause: 'enough' })
  t.match(await tenants.usage('acme'), { deleting: true })
  const rest = (await tenants.delete('acme')) ?? 0
  t.ok(rest > 0 && rest < names.length, `${rest} were left`)
  t.same(await files.readdir('/tenants'), [])
})

t.test('a user whose caps have no p makes no tenant without limits', async t => {
  const { cluster, files, root } = await testTenants(t)
  const { user, key } = await userWith(t, cluster, `allow rw path=${root}/tenants`)
  await using theirs = await Cluster.connect({ user, options: { key } })
  await using mounted = await theirs.mountFileSystem({ root: `${root}/tenants`, uid: 0, gid: 0 })
  const refusal = { name: 'PermissionError', message: /MDS caps with p, as in allow rwp/ }
  await t.rejects(new Tenants(mounted).ensure(whole), refusal)
  t.strictSame(await files.getQuota('/tenants/acme'), {})
  t.match(await new Tenants(mounted).ensure(acme), { made: false }, 'and one for whom none is asked')
})

t.test('a user whose caps have no s removes no snapshots', async t => {
  const { cluster, tenants, files, root } = await testTenants(t)
  await tenants.ensure(acme)
  await files.createSnapshot('/tenants/acme/home', 'one')
  const { user, key } = await userWith(t, cluster, `allow rwp path=${root}/tenants`)
  await using theirs = await Cluster.connect({ user, options: { key } })
  await using mounted = await theirs.mountFileSystem({ root: `${root}/tenants`, uid: 0, gid: 0 })
  await t.rejects(new Tenants(mounted).delete('acme', { snapshots: true }), {
    code: 'TENANT_NOT_EMPTY',
    message: /MDS caps with s/,
    blockers: [{ kind: 'snapshot', name: `${root}/tenants/acme/home@one` }],
  })
  await tenants.delete('acme', { snapshots: true })
  t.same(await files.readdir('/tenants'), [])
})

t.test('a report of all, the fullest first', async t => {
  const { tenants, files } = await testTenants(t)
  const ensure = (name: string, quota: object) => tenants.ensure({ ...acme, name, quota })
  await ensure('half', { maxBytes: 2 * MiB })
  await ensure('full', { maxBytes: MiB, maxFiles: 1000 })
  await ensure('files', { maxFiles: 8 })
  await ensure('free', {})
  await ensure('new', { maxBytes: MiB })
  await files.mkdir('/tenants/nobody')
  await Promise.all(
    ['half', 'full', 'free'].map(name => files.writeFile(`/tenants/${name}/home/file`, Buffer.alloc(MiB))),
  )
  await files.writeFile('/tenants/files/home/file', 'x')
  const reported = async (over?: number) => (await reportTenants(tenants, over)).map(({ name }) => name)
  const counted = async () =>
    (await reportTenants(tenants)).every(
      ({ name, usage }) => name === 'new' || (usage.files === 1 && usage.bytes === (name === 'files' ? 1 : MiB)),
    )
  t.ok(await until(counted, 30_000), 'the MDS counts each file within half a minute')
  t.strictSame(await reported(), ['full', 'files', 'half', 'new', 'free'])
  t.strictSame(await reported(0.5), ['full', 'files', 'half'])
  t.strictSame(await reported(1), ['full'])
  t.strictSame(await reported(1.01), [])
  const [full, withFiles] = await reportTenants(tenants)
  t.match(full, { quota: { maxBytes: MiB, maxFiles: 1000 }, usage: { bytes: MiB, files: 1, directories: 5 } })
  t.strictSame(full?.fullness, { bytes: 1, files: 6 / 1000 })
  t.strictSame(withFiles?.fullness, { files: 6 / 8 })
  t.match(await tenants.usage('full'), { usage: { bytes: MiB, files: 1, directories: 5 }, deleting: false })
})

t.test('what was made anew meanwhile stays', async t => {
  const site = await testTenants(t)
  const { tenants, files } = site
  const others = await mountTenants(t, site)
  await t.test('when a removal is gone on with', async t => {
    await tenants.ensure(acme)
    await tenants.beginDelete('acme', {})
    await others.delete('acme')
    t.equal(await tenants.finishDelete('acme', {}), 0, 'somebody else has finished it')
    await others.ensure(acme)
    await files.writeFile('/tenants/acme/home/file', 'x')
    t.equal(await tenants.finishDelete('acme', {}), 0)
    t.ok(await files.lstat('/tenants/acme/home/file'))
    await t.rejects(tenants.finishDelete('acme/home', {}), { code: 'INVALID_TENANT' })
  })

  await t.test('and what others have asked for is not for a job to take back', async t => {
    const maker = { agent: 'a', task: 't' }
    t.ok(await tenants.claim('shared', maker))
    t.ok(await tenants.isOf('shared', maker))
    t.match(await others.ensure({ ...acme, name: 'shared' }), { made: false })
    t.notOk(await tenants.isOf('shared', maker))
    t.notOk(await tenants.claim('shared', maker))
  })
})
