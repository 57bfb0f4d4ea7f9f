/** Jobs for quotas and tenants, by a real agent. */

import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { GiB, MiB, OpenDirectory } from '../../lib/index.js'
import { audit } from '../../src/audit/audit.js'
import { actionOf } from '../../src/jobs/actions.js'
import type { JobMessage } from '../../src/jobs/message.js'
import { startAgentProcess } from '../support/agent-process.js'
import { TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { newRecord, openRecords } from '../support/journal.js'
import { until as untilLong } from '../support/process.js'
import { newRunner } from '../support/runner.js'
import { evictProcess, userWith } from '../support/tenants.js'

/** A site whose tenants are in a directory of its own, and a mount of all to look at them. */
async function openSite(t: Test, settings: Record<string, string> = {}) {
  const site = await TestSite.open(t, settings)
  const base = site.environment.CEPHFS_TENANT_BASE ?? ''
  const files = await site.cluster.mountFileSystem()
  t.teardown(() => files.close())
  const job = (action: string, data: object = {}, tenantId: string | undefined = 'acme') =>
    site.job(action, data, { tenantId })
  const ensure = (tenantId?: string, data: object = {}) =>
    site.succeed(job('tenant.ensure', { uid: 20_001, gid: 20_001, ...data }, tenantId))
  return { site, base, files, job, ensure }
}

t.test('tenants by jobs', async t => {
  const { site, base, files, job, ensure } = await openSite(t)
  await site.startAgent()

  await t.test('are made, and the directory of all of them with the first', async t => {
    t.match(await site.perform(job('tenant.usage')), { ok: false, code: 'TENANT_BASE_NOT_FOUND' })
    const data = {
      uid: 20_001,
      gid: 20_002,
      quota: { maxBytes: GiB },
      webroots: [{ name: 'example.org', public: true }],
    }
    const first = job('tenant.ensure', data)
    const result = await site.succeed(first)
    t.strictSame(result, { tenantId: 'acme', path: `${base}/acme`, made: true, mended: [], quota: { maxBytes: GiB } })
    t.match(await files.lstat(`${base}/acme/webroots/example.org/public`), { uid: 20_001, gid: 20_002, mode: 0o40755 })
    await files.chmod(`${base}/acme/home`, 0o755)
    t.strictSame(await site.succeed(first), result, 'the same job again is not done again')
    const again = await site.succeed(job('tenant.ensure', data))
    const mended = [
      {
        path: 'home',
        was: { uid: 20_001, gid: 20_002, mode: '0755' },
        now: { uid: 20_001, gid: 20_002, mode: '0700' },
      },
    ]
    t.strictSame(again, { ...result, made: false, mended }, 'another one mends')
  })

  await t.test('are looked at', async t => {
    const { usage, ...rest } = await site.succeed(job('tenant.usage'))
    t.strictSame(rest, { tenantId: 'acme', path: `${base}/acme`, quota: { maxBytes: GiB }, deleting: false })
    t.match(usage, { bytes: 0, files: 0 })
    t.match(await site.perform(job('tenant.usage', {}, 'nobody')), { ok: false, code: 'TENANT_NOT_FOUND' })
  })

  await t.test('are limited', async t => {
    const set = await site.succeed(job('quota.set', { maxFiles: 100 }))
    t.match(set, { path: `${base}/acme`, quota: { maxBytes: GiB, maxFiles: 100 }, usage: { bytes: 0, files: 0 } })
    t.strictSame(await files.getQuota(`${base}/acme`), { maxBytes: GiB, maxFiles: 100 })
    const path = `${base}/acme/home`
    const inside = await site.succeed(job('quota.set', { path, maxBytes: MiB }))
    t.match(inside, { path, quota: { maxBytes: MiB } })
    t.match(await site.succeed(job('quota.get', { path })), { path, quota: { maxBytes: MiB } })
    const cleared = await site.succeed(job('quota.clear', { tenantId: 'acme' }, ''))
    t.strictSame(cleared.quota, {})
    t.strictSame(await files.getQuota(`${base}/acme`), {})
    const other = await run('/usr/bin/python3', '-c', pythonQuota, path)
    t.equal(other, `max_bytes=${MiB} max_files=0\n`, 'as another program has it')
  })

  await t.test('are removed', async t => {
    await ensure('gone')
    await files.writeFile(`${base}/gone/home/file`, 'text')
    const answer = await site.succeed(job('tenant.delete', {}, 'gone'))
    t.strictSame(answer, { tenantId: 'gone', path: `${base}/gone`, deleted: true })
    t.match(await site.succeed(job('tenant.delete', {}, 'gone')), { deleted: false })
    t.notOk((await files.readdir(base)).some(({ name }) => name === 'gone'))
  })

  await t.test('say what could not be removed', async t => {
    await ensure('kept')
    await files.createSnapshot(`${base}/kept/home`, 'monday')
    const snapshot = { kind: 'snapshot', name: `${base}/kept/home@monday` }
    // Whether it has been counted by then or not.
    const refused = await site.perform(job('tenant.delete', {}, 'kept'))
    t.match(refused, { ok: false, code: /TENANT_HAS_SNAPSHOTS|TENANT_NOT_EMPTY/, retryable: false })
    if (refused.code === 'TENANT_NOT_EMPTY') {
      t.strictSame(refused.blockers, [snapshot])
      t.match(refused.rollback, { complete: false, leftovers: [{ kind: 'tenant', name: `${base}/kept` }] })
    }
    t.match(await site.succeed(job('tenant.delete', { snapshots: true }, 'kept')), { deleted: true })
  })

  await t.test('are refused where nothing is to be touched', async t => {
    const invalid: [action: string, data: object, tenantId: string | undefined, error: RegExp][] = [
      ['tenant.ensure', { uid: 20_001, gid: 20_001 }, '../x', /tenantId: must be of letters/],
      ['tenant.ensure', { uid: 20_001, gid: 20_001 }, undefined, /tenantId: missing/],
      ['tenant.ensure', { uid: 0, gid: 20_001 }, 'acme', /uid: must be an integer from 1000/],
      ['tenant.ensure', { uid: 20_001, gid: 20_001, webroots: [{ name: '..' }] }, 'acme', /webroots\.0\.name/],
      ['tenant.ensure', { uid: 20_001, gid: 20_001, mode: 5 }, 'acme', /mode: unknown key/],
      ['tenant.delete', {}, '..', /tenantId/],
      ['tenant.delete', { tenantId: 'other' }, 'acme', /tenantId: another than/],
      ['quota.set', { path: `${base}/acme`, tenantId: 'other', maxFiles: 5 }, 'acme', /tenantId: another than/],
      ['tenant.delete', { tenantId: '.' }, 'acme', /tenantId/],
      ['tenant.delete', { tenantId: '' }, undefined, /tenantId/],
      ['quota.set', { maxBytes: 5 }, undefined, /tenantId: missing/],
      ['quota.set', {}, 'acme', /maxBytes or maxFiles: missing/],
      ['quota.set', { maxBytes: 0 }, 'acme', /maxBytes: must be an integer of at least 1/],
      ['quota.set', { path: '/', maxBytes: 5 }, undefined, /path: must be .*tenants, or below it/],
      ['quota.set', { path: `${base}x`, maxBytes: 5 }, undefined, /path: must be/],
      ['quota.set', { path: `${base}/../x`, maxBytes: 5 }, undefined, /path: must be a path without/],
      ['quota.set', { path: `${base}/acme/..`, maxBytes: 5 }, undefined, /path: must be a path without/],
      ['quota.set', { path: `${base}/acme/.snap/x`, maxBytes: 5 }, undefined, /path: must be a path without/],
      ['quota.set', { path: 'acme', maxBytes: 5 }, undefined, /path: must be a path that begins/],
      [
        'quota.set',
        { path: `${base}/other/home`, maxBytes: 5 },
        'acme',
        /path: is not in the directory of tenant acme/,
      ],
      ['quota.get', { path: base }, 'acme', /path: is not in the directory of tenant acme/],
    ]
    for (const [action, data, tenantId, error] of invalid) {
      const result = await site.perform(job(action, data, tenantId ?? ''))
      t.match(result, { ok: false, code: 'INVALID_JOB', error }, `${action} ${JSON.stringify(data)} ${tenantId}`)
    }
    await files.symlink('/', `${base}/acme/home/link`)
    const led = await site.perform(job('quota.set', { path: `${base}/acme/home/link/x`, maxBytes: 5 }))
    t.match(led, { ok: false, error: /ELOOP|ENOTDIR/ })
    await files.mkdir(`${base}/nobodys`)
    await files.mkdir(`${base}/nobodys/x`)
    for (const action of ['tenant.ensure', 'tenant.delete', 'tenant.usage', 'quota.set', 'quota.get', 'quota.clear']) {
      const data = { 'tenant.ensure': { uid: 20_001, gid: 20_001 }, 'quota.set': { maxBytes: 5 } }[action] ?? {}
      t.match(await site.perform(job(action, data, 'nobodys')), { ok: false, code: 'NOT_A_TENANT' }, action)
    }
    t.same((await files.readdir(`${base}/nobodys`)).length, 1)
  })

  await t.test('are as they were when a job fails', async t => {
    await ensure('limited', { quota: { maxBytes: GiB } })
    const { setQuota } = OpenDirectory.prototype
    // As a call that is not answered in time: it has had its effect.
    OpenDirectory.prototype.setQuota = async function (...change) {
      OpenDirectory.prototype.setQuota = setQuota
      await setQuota.apply(this, change)
      throw new Error('no answer')
    }
    const failed = await site.perform(job('quota.set', { maxBytes: 5, maxFiles: 7 }, 'limited'))
    t.match(failed, { ok: false, error: 'no answer', rollback: { complete: true } })
    t.strictSame(await files.getQuota(`${base}/limited`), { maxBytes: GiB })

    const { ensureDirectories } = OpenDirectory.prototype
    OpenDirectory.prototype.ensureDirectories = async function (...wanted) {
      OpenDirectory.prototype.ensureDirectories = ensureDirectories
      await ensureDirectories.apply(this, wanted)
      throw new Error('no answer')
    }
    const unmade = await site.perform(job('tenant.ensure', { uid: 20_001, gid: 20_001 }, 'unmade'))
    t.match(unmade, { ok: false, error: 'no answer', rollback: { complete: true } })
    t.notOk(
      (await files.readdir(base)).some(({ name }) => name === 'unmade'),
      'it was made for that job',
    )
  })

  await t.test('and an audit finds nothing', async t => {
    await using records = await openRecords(site)
    const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
    t.same(await audit({ cluster: site.cluster, poolName, records }), [])
  })
})

const pythonQuota = `
import cephfs, os, sys
files = cephfs.LibCephFS(conffile=os.environ['CEPH_CONF'])
files.mount()
print(files.getxattr(sys.argv[1], 'ceph.quota').decode())
files.shutdown()`

t.test('without p in its MDS caps, a job fails and says so', async t => {
  const { site, base, files, ensure, job } = await openSite(t)
  const osd = 'profile rbd, allow rw tag cephfs data=cephfs'
  const { user, key } = await userWith(t, site.cluster, 'allow rw', { mon: 'profile rbd, allow r', osd })
  const keyring = await t.testdir({ keyring: `[client.${user}]\n\tkey = ${key}\n` })
  const agent = await site.startAgent({ CEPH_USER: user, CEPH_KEYRING: `${keyring}/keyring` })
  const refusal = { ok: false, code: 'PERMISSION_DENIED', retryable: false, error: /MDS caps with p, as in allow rwp/ }
  await ensure('acme')
  const nothingLeft = { rollback: { complete: true, leftovers: [] } }
  t.match(await site.perform(job('quota.set', { maxBytes: GiB })), { ...refusal, ...nothingLeft })
  t.match(await site.perform(job('quota.clear')), { ...refusal, ...nothingLeft })
  const limited = job('tenant.ensure', { uid: 20_001, gid: 20_001, quota: { maxBytes: GiB } }, 'limited')
  t.match(await site.perform(limited), { ...refusal, ...nothingLeft })
  t.strictSame(await files.getQuota(`${base}/acme`), {})
  t.same(
    (await files.readdir(base)).map(({ name }) => name),
    ['acme'],
    'no tenant is left without its limits',
  )
  t.strictSame((await site.succeed(job('quota.get'))).quota, {}, 'and it is told as it is')
  await agent.stop()
})

t.test('an agent whose mount was evicted mounts anew', async t => {
  const { site, base, ensure, job } = await openSite(t)
  await site.startAgent()
  await ensure('acme')
  const sessions = async (): Promise<{ id: number; client_metadata: { root?: string } }[]> =>
    JSON.parse(await run('ceph', 'tell', 'mds.cephfs:0', 'session', 'ls', '--format', 'json'))
  const own = (await sessions()).filter(({ client_metadata }) => client_metadata.root === base)
  t.equal(own.length, 1, 'one mount, for all jobs')
  await run('ceph', 'tell', 'mds.cephfs:0', 'client', 'evict', `id=${own[0]?.id}`)
  t.match(await site.succeed(job('quota.set', { maxFiles: 50 })), { quota: { maxFiles: 50 } })
  t.match(await site.succeed(job('tenant.usage')), { quota: { maxFiles: 50 } })
  const later = (await sessions()).filter(({ client_metadata }) => client_metadata.root === base)
  t.equal(later.length, 1)
  t.not(later[0]?.id, own[0]?.id)
})

t.test('an agent that is stopped has unmounted', async t => {
  const { site, base, ensure } = await openSite(t)
  const agent = await site.startAgent()
  await ensure('acme')
  await agent.stop()
  const sessions = await run('ceph', 'tell', 'mds.cephfs:0', 'session', 'ls', '--format', 'json')
  t.notOk(sessions.includes(base))
})

t.test('a removal whose agent is killed is gone on with by the next', async t => {
  const { site, base, files, job } = await openSite(t)
  const first = await startAgentProcess(t, site.environment)
  await site.succeed(job('tenant.ensure', { uid: 20_001, gid: 20_001 }))
  const names = Array.from({ length: 2500 }, (_, i) => `${base}/acme/tmp/${i}`)
  for (let i = 0; i < names.length; i += 100) await Promise.all(names.slice(i, i + 100).map(name => files.mkdir(name)))
  const removal = job('tenant.delete')
  await site.publish(removal)
  await until('the removal', async () => (await files.readdir(`${base}/acme/tmp`)).length < names.length)
  first.child.kill('SIGKILL')
  await first.ended
  const next = startAgentProcess(t, site.environment)
  // Until then the MDS keeps what the first had in its hands, and the second waits for it; and so does who changes the root.
  await delay(5_000)
  await evictProcess(first.child.pid)
  await next
  t.ok(await untilLong(() => site.resultsOf(removal).length > 0, 150_000))
  const [result] = site.resultsOf(removal)
  t.match(result, { ok: true, result: { deleted: true } })
  t.same(await files.readdir(base), [])
})

t.test('a node that has no file system does all else', async t => {
  const { site, job } = await openSite(t, { CEPHFS_NAME: 'none-of-that-name' })
  await site.startAgent()
  await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }))
  const result = await site.perform(job('tenant.ensure', { uid: 20_001, gid: 20_001 }))
  t.match(result, { ok: false, code: 'NOT_FOUND', error: /none-of-that-name/ })
})

t.test('a job that is gone on with where the tenants are elsewhere by now', async t => {
  const { site, base, files, job, ensure } = await openSite(t)
  const { runner, config } = await newRunner(t, site)
  await using records = await openRecords(site)
  const agent = await site.startAgent()
  await ensure()
  await agent.stop()
  const elsewhere = { ...config, cephfs: { ...config.cephfs, tenantBase: '/elsewhere' } }
  const jobs = [
    job('tenant.delete'),
    job('quota.clear'),
    job('tenant.ensure', { uid: 20_009, gid: 20_009 }),
  ] as JobMessage[]
  for (const each of jobs) {
    const plan = actionOf(each).plan(each, elsewhere)
    const record = newRecord(each, { plan, image: plan.image ?? '', steps: [{ name: stepOf[each.action] ?? '' }] })
    await records.create(record)
    runner.resume(record)
    const { outcome } = await until('the outcome', async () => {
      const found = await records.read(each.agentId, each.taskId)
      return found?.outcome && { outcome: found.outcome }
    })
    t.match(outcome, { ok: false, code: 'OTHER_TENANT_BASE', error: /\/elsewhere\/acme/ }, each.action)
  }
  t.match(await files.lstat(`${base}/acme/home`), { uid: 20_001 }, 'nothing is done to the tenant of that name')
})

/** The first. */
const stepOf: Record<string, string> = {
  'tenant.delete': 'found',
  'quota.clear': 'before',
  'tenant.ensure': 'directory',
}
