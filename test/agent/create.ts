import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'
import { golden, testFolder } from '../support/golden.js'

t.test('storage.create', async t => {
  const site = await TestSite.open(t)
  const { name: imageId, content } = await golden(t, site)
  const pool = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()

  await t.test('makes a clone of the catalog image, of the size asked for', async t => {
    const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
    const { disk, imageExisted, targetExisted } = await site.succeed(job)
    t.match(disk.name, /^acme-web-[0-9a-f]{8}$/)
    t.equal(disk.refId, `iqn.2001-07.org.openhvx:${disk.name}`)
    t.equal(disk.tenantId, 'acme')
    t.same([imageExisted, targetExisted], [false, false])

    const info = await rbdJson('info', `${pool}/${disk.name}`)
    t.equal(info.id, disk.id)
    t.equal(info.size, 16 * MiB)
    t.match(info.parent, { pool: site.environment.CEPH_CATALOG_POOL, image: imageId, snapshot: 'base' })

    const file = join(await testFolder(t), 'exported')
    await run('rbd', 'export', '--no-progress', `${pool}/${disk.name}`, file)
    const exported = await readFile(file)
    t.ok(exported.subarray(0, content.length).equals(content), 'it begins as the catalog image')
    t.ok(exported.subarray(content.length).equals(Buffer.alloc(8 * MiB)), 'and goes on with zeroes')
  })

  await t.test('answers with the result as the control plane expects it', async t => {
    const job = site.job('disk.create', { refId: 'by-alias', imageId, size_mb: 8 })
    await site.perform(job)
    const answer = site.results.find(({ body }) => body.taskId === job.taskId)
    t.equal(answer?.routingKey, 'task.disk.create', 'under the name that the job used')
    t.equal(answer?.properties.correlationId, job.taskId)
    t.equal(answer?.properties.deliveryMode, 2)
    t.match(answer?.body, { taskId: job.taskId, agentId: site.agentId, ok: true, finishedAt: /^\d{4}-.*Z$/ })
    t.notOk(Number.isNaN(Date.parse(answer?.body.finishedAt ?? '')))
  })

  await t.test('makes one volume of a job that comes three times', async t => {
    const before = await site.imageNames()
    const job = site.job('storage.create', { name: 'again', imageId, sizeMB: 16 })
    const first = await site.succeed(job)
    const later = [await site.succeed(job), await site.succeed(job)]
    for (const answer of later) t.same(answer, first)
    t.equal((await site.imageNames()).length, before.length + 1)
  })

  await t.test('makes one volume of a job that comes three times at once', async t => {
    const before = await site.imageNames()
    const job = site.job('storage.create', { name: 'at-once', imageId, sizeMB: 16 })
    const answers = await Promise.all([site.succeed(job), site.succeed(job), site.succeed(job)])
    t.equal(new Set(answers.map(({ disk }) => disk.id)).size, 1)
    t.equal((await site.imageNames()).length, before.length + 1)
  })

  await t.test('has the answer of a job that was done, whatever has become of the catalog image', async t => {
    const other = await golden(t, site, 'passing')
    const job = site.job('storage.create', { name: 'orphan', imageId: other.name, sizeMB: 8 })
    const first = await site.succeed(job)
    await run('rbd', 'flatten', '--no-progress', `${pool}/${first.disk.name}`)
    await run('rbd', 'snap', 'unprotect', `${site.environment.CEPH_CATALOG_POOL}/${other.name}@base`)
    await run('rbd', 'snap', 'purge', '--no-progress', `${site.environment.CEPH_CATALOG_POOL}/${other.name}`)
    await run('rbd', 'rm', '--no-progress', `${site.environment.CEPH_CATALOG_POOL}/${other.name}`)
    t.same(await site.succeed(job), first)
  })

  await t.test('makes a blank volume when there is no imageId', async t => {
    const { disk } = await site.succeed(site.job('storage.create', { name: 'blank', sizeMB: 4 }))
    const info = await rbdJson('info', `${pool}/${disk.name}`)
    t.equal(info.size, 4 * MiB)
    t.notOk(info.parent)
  })

  await t.test('stamps the volume with who made it, for whom', async t => {
    const job = site.job('storage.create', { name: 'stamped', imageId, sizeMB: 8 })
    const { disk } = await site.succeed(job)
    const stamp = JSON.parse(await run('rbd', 'image-meta', 'get', `${pool}/${disk.name}`, 'cephkit.stamp'))
    t.match(stamp, { image: disk.id, agent: site.agentId, task: job.taskId, tenant: 'acme' })
    t.ok(Math.abs(Date.now() - Date.parse(stamp.createdAt)) < 60_000)
  })

  await t.test('takes the tenant from the data when the job names none', async t => {
    const data = { name: 'web', sizeMB: 1, tenantId: 'umbrella' }
    const { disk } = await site.succeed(site.job('storage.create', data, { tenantId: undefined }))
    t.match(disk, { name: /^umbrella-web-/, tenantId: 'umbrella' })
  })

  await t.test('makes volumes side by side', async t => {
    const jobs = Array.from({ length: 20 }, (_, i) =>
      site.job('storage.create', { name: `n${i}`, imageId, sizeMB: 16 }),
    )
    const answers = await Promise.all(jobs.map(job => site.succeed(job)))
    t.equal(new Set(answers.map(({ disk }) => disk.name)).size, jobs.length)
  })

  await t.test('refuses, and makes nothing', async t => {
    const before = await site.imageNames()
    const refused: Record<string, { data: object; tenantId?: string; code: string; error: RegExp }> = {
      'a size below the source': {
        data: { name: 'small', imageId, sizeMB: 7 },
        code: 'SIZE_TOO_SMALL',
        error: /7 is less than the 8 of golden/,
      },
      'a catalog image that is not there': {
        data: { name: 'web', imageId: 'missing', sizeMB: 8 },
        code: 'IMAGE_NOT_FOUND',
        error: /missing/,
      },
      'a catalog image with a name longer than any': {
        data: { name: 'web', imageId: 'i'.repeat(2042), sizeMB: 8 },
        code: 'INVALID_JOB',
        error: /^imageId: must be at most 2041 bytes$/,
      },
      'several things at once, each named': {
        data: { nmae: 'web', imageId: 'a/b', sizeMB: '8' },
        code: 'INVALID_JOB',
        error: /name: missing.*imageId: must be a name.*sizeMB: must be an integer.*nmae: unknown key/,
      },
      'a size under two names with two values': {
        data: { name: 'web', sizeMB: 8, sizeMb: 9 },
        code: 'INVALID_JOB',
        error: /sizeMb: is the same as sizeMB/,
      },
      'a name of nothing that can stand in one': {
        data: { name: '///', sizeMB: 8 },
        code: 'INVALID_JOB',
        error: /name has none/,
      },
      'a name that is too long': {
        data: { name: 'n'.repeat(300), sizeMB: 8 },
        code: 'INVALID_JOB',
        error: /too long/,
      },
      'another tenant in the data': {
        data: { name: 'web', sizeMB: 8, tenantId: 'umbrella' },
        code: 'INVALID_JOB',
        error: /tenantId/,
      },
      'a size of nothing': { data: { name: 'web', sizeMB: 0 }, code: 'INVALID_JOB', error: /sizeMB/ },
      'a size beyond what a number can say': {
        data: { name: 'web', sizeMB: 2 ** 40 },
        code: 'INVALID_JOB',
        error: /sizeMB/,
      },
    }
    for (const [what, { data, code, error }] of Object.entries(refused)) {
      const result = await site.perform(site.job('storage.create', data))
      t.match(result, { ok: false, code, error, retryable: false, rollback: { complete: true, leftovers: [] } }, what)
      t.notOk('result' in result, `${what}: no result beside the error`)
    }
    t.same(await site.imageNames(), before)
  })

  await t.test('refuses a catalog image whose import is not complete', async t => {
    const catalog = site.environment.CEPH_CATALOG_POOL
    await run('rbd', 'create', `${catalog}/half`, '--size', '8M')
    const result = await site.perform(site.job('storage.create', { name: 'web', imageId: 'half', sizeMB: 8 }))
    t.match(result, { ok: false, code: 'SNAPSHOT_NOT_FOUND', error: /half has no snapshot base/ })
  })
})
