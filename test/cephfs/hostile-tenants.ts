/** What a tenant can do with what is his: nothing outside is ever touched, and he is removed all the same. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type FileSystem, TimeoutError } from '../../lib/index.js'
import { python } from '../support/file-system.js'
import { until } from '../support/process.js'
import { acme, evictProcess, mountTenants, ownersBelow, testTenants } from '../support/tenants.js'

const tenant = { ...acme, quota: { maxFiles: 100_000 }, webroots: [{ name: 'site', public: true }] }

/** Of another tenant, and of nobody. */
async function makeOthers(files: FileSystem): Promise<void> {
  for (const path of ['/tenants/victim/home', '/outside/public']) {
    await files.mkdir(path, { recursive: true, mode: 0o711 })
    await files.writeFile(`${path}/file`, 'text')
  }
}

t.test('a symbolic link where a directory is expected is not followed', async t => {
  const own = await testTenants(t)
  const { tenants, files, root } = own
  await makeOthers(files)
  const before = [await ownersBelow(root, '/outside'), await ownersBelow(root, '/tenants/victim')]
  const targets = [
    '/outside',
    '../../outside',
    '../../../outside',
    '/tenants/victim',
    '../victim',
    '../../victim',
    '.',
    '..',
    '/',
  ]
  const places = ['home', 'webroots', 'webroots/site', 'webroots/site/public', 'logs', 'tmp']
  for (const place of places) {
    for (const target of targets) {
      await tenants.ensure(tenant)
      await files.rm(`/tenants/acme/${place}`, { recursive: true })
      await files.symlink(target, `/tenants/acme/${place}`)
      const refusal = { name: 'TenantBlockedError', code: 'TENANT_BLOCKED' }
      await t.rejects(tenants.ensure(tenant), refusal, `${place} -> ${target}`)
      t.ok((await files.lstat(`/tenants/acme/${place}`)).isSymbolicLink(), 'it is as it was')
      await t.rejects(tenants.files.openDirectory(`/acme/${place}`), /ELOOP|ENOTDIR/, 'nor by its path')
      await files.unlink(`/tenants/acme/${place}`)
    }
  }
  for (const target of targets) {
    for (const place of places) await files.rm(`/tenants/acme/${place}`, { recursive: true, force: true })
    for (const place of ['home', 'logs', 'x']) await files.symlink(target, `/tenants/acme/${place}`)
    await tenants.delete('acme')
    await tenants.ensure(tenant)
  }
  t.strictSame([await ownersBelow(root, '/outside'), await ownersBelow(root, '/tenants/victim')], before)
})

t.test('nor a link in the middle of a path, for a quota', async t => {
  const { tenants, files } = await testTenants(t)
  await makeOthers(files)
  await tenants.ensure(tenant)
  await files.rm('/tenants/acme/webroots/site', { recursive: true })
  await files.symlink('../../../outside', '/tenants/acme/webroots/site')
  await t.rejects(tenants.files.openDirectory('/acme/webroots/site/public'), /ELOOP|ENOTDIR/)
  t.strictSame(await files.getQuota('/outside/public'), {})
})

t.test('a file in the way is left as it is', async t => {
  const { tenants, files } = await testTenants(t)
  await tenants.ensure(tenant)
  await files.rmdir('/tenants/acme/home')
  await files.writeFile('/tenants/acme/home', 'text', { mode: 0o644 })
  await t.rejects(tenants.ensure(tenant), { code: 'TENANT_BLOCKED', message: /home/ })
  t.equal((await files.readFile('/tenants/acme/home')).toString(), 'text')
  t.match(await files.lstat('/tenants/acme/home'), { uid: 0, mode: 0o100644 })
})

t.test('who puts links and directories there in turns leads nobody out', async t => {
  const own = await testTenants(t)
  const { tenants, files, root } = own
  await makeOthers(files)
  await tenants.ensure(tenant)
  const before = [await ownersBelow(root, '/outside'), await ownersBelow(root, '/tenants/victim')]
  // A node of the tenant's own, whose root he is.
  const attacker = await mountTenants(t, own)
  let isOver = false
  let turns = 0
  const attack = async () => {
    const at = '/acme/webroots/site'
    // What is made there in between is in the way of some of these.
    const attempt = (work: Promise<void>) => work.catch(() => {})
    for (; !isOver; turns++) {
      await attempt(attacker.files.rename(at, `/acme/aside-${turns}`))
      await attempt(attacker.files.symlink('../../../outside', at))
      await attempt(attacker.files.unlink(at))
      await attempt(attacker.files.rename(`/acme/aside-${turns}`, at))
    }
  }
  const ends: Record<string, number> = {}
  const work = async () => {
    // Until both have come to pass, and some more.
    const enough = () => (ends.ok ?? 0) >= 20 && (ends.TENANT_BLOCKED ?? 0) + (ends.other ?? 0) >= 20
    for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt && !enough(); ) {
      const end = await tenants.ensure({ ...tenant, uid: 30_000 + (turns % 1000) }).then(
        () => 'ok',
        error => (error.code === 'TENANT_BLOCKED' ? 'TENANT_BLOCKED' : 'other'),
      )
      ends[end] = (ends[end] ?? 0) + 1
    }
    isOver = true
  }
  await Promise.all([attack(), work()])
  t.comment(ends, turns)
  t.ok((ends.ok ?? 0) > 0 && turns > 0)
  t.strictSame([await ownersBelow(root, '/outside'), await ownersBelow(root, '/tenants/victim')], before)
})

t.test('a tree deeper than any path can name is removed', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(tenant)
  await python(
    root,
    `
def nest(name, depth):
    files.chdir('/tenants/acme/home')
    for i in range(depth):
        files.mkdir(name, 0o755)
        files.chdir(name)
        if i % 50 == 0:
            files.close(files.open('file', os.O_CREAT | os.O_WRONLY, 0o644))
nest('n' * 255, 40)
nest('d', 300)
`,
  )
  t.equal(await tenants.delete('acme'), 7 + 40 + 1 + 300 + 6)
  t.same(await files.readdir('/tenants'), [])
})

t.test('many files, and names that are no UTF-8, are removed', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(tenant)
  await python(
    root,
    `
for i in range(3000):
    files.close(files.open('/tenants/acme/tmp/%d' % i, os.O_CREAT | os.O_WRONLY, 0o644))
for name in (b'\\xff\\xfe', b'new\\nline', b'\\x1b[31m', b'.hidden', b'-rf', b'a' * 255):
    files.mkdir(b'/tenants/acme/home/' + name, 0)
    files.close(files.open(b'/tenants/acme/home/' + name + b'/\\xff', os.O_CREAT | os.O_WRONLY, 0))
    files.symlink(b'\\xff', b'/tenants/acme/home/' + name + b'/link')
files.mknod('/tenants/acme/home/pipe', 0o10644)
`,
  )
  t.equal(await tenants.delete('acme'), 7 + 3000 + 6 * 3 + 1)
  t.same(await files.readdir('/tenants'), [])
})

t.test('what is kept is named, though its name is no UTF-8', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(tenant)
  await python(
    root,
    `files.mkdir(b'/tenants/acme/home/\\xff', 0o755)
files.mkdir(b'/tenants/acme/home/\\xff/.snap/one', 0o755)`,
  )
  await tenants.beginDelete('acme', { snapshots: true })
  await t.rejects(tenants.finishDelete('acme', {}), {
    code: 'TENANT_NOT_EMPTY',
    blockers: [{ kind: 'snapshot', name: `${root}/tenants/acme/home/\ufffd@one` }],
  })
  await tenants.delete('acme', { snapshots: true })
  t.same(await files.readdir('/tenants'), [])
})

t.test('a removal whose process is killed is gone on with by the next', async t => {
  const { tenants, files, root } = await testTenants(t)
  await tenants.ensure(tenant)
  await python(root, `for i in range(3000): files.mkdir('/tenants/acme/home/%d' % i, 0o755)`)
  const child = fork(fileURLToPath(new URL('../support/delete-tenant.js', import.meta.url)), [
    `${root}/tenants`,
    'acme',
  ])
  const ended = once(child, 'exit')
  t.ok(await until(async () => (await files.readdir('/tenants/acme/home')).length < 2900, 60_000))
  child.kill('SIGKILL')
  t.same(await ended, [null, 'SIGKILL'])
  await evictProcess(child.pid)
  const deleting = () => tenants.usage('acme').then(usage => usage.deleting)
  t.ok(await until(() => deleting().catch(ifLate), 120_000))
  t.ok(await until(() => tenants.delete('acme').then(() => true, ifLate), 120_000))
  t.same(await files.readdir('/tenants'), [])
})

function ifLate(error: unknown): false {
  if (error instanceof TimeoutError) return false
  throw error
}
