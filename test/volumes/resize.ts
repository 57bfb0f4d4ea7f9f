import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'

t.test('storage.resize', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }, { tenantId }))).disk
  const resize = (refId: string, sizeMB: number, rest: object = {}) =>
    site.job('storage.resize', { refId, sizeMB, ...rest })
  const sizeOf = async (name: string) => (await rbdJson('info', `${poolName}/${name}`)).size

  await t.test('grows a volume', async t => {
    const { name, refId } = await newVolume()
    t.same(await site.succeed(resize(refId, 16)), { refId, sizeBytes: 16 * MiB, previousBytes: 8 * MiB })
    t.equal(await sizeOf(name), 16 * MiB)
  })

  await t.test('shrinks only when asked', async t => {
    const { name } = await newVolume()
    const result = await site.perform(resize(name, 4))
    t.match(result, { ok: false, code: 'SIZE_TOO_SMALL', retryable: false, rollback: { complete: true } })
    t.match(result.error, /4 is less than the 8/)
    t.equal(await sizeOf(name), 8 * MiB)
    const answer = await site.succeed(resize(name, 4, { allowShrink: true }))
    t.same(answer, { refId: name, sizeBytes: 4 * MiB, previousBytes: 8 * MiB })
    t.equal(await sizeOf(name), 4 * MiB)
  })

  await t.test('has the same answer when the job comes again, whatever has become of the volume', async t => {
    const { name } = await newVolume()
    const job = resize(name, 16)
    const answers = await Promise.all([site.succeed(job), site.succeed(job)])
    await site.succeed(resize(name, 32))
    answers.push(await site.succeed(job))
    for (const answer of answers) t.same(answer, { refId: name, sizeBytes: 16 * MiB, previousBytes: 8 * MiB })
    t.equal(await sizeOf(name), 32 * MiB, 'and is not done again')
  })

  await t.test('leaves a volume as it is that has the size', async t => {
    const { name } = await newVolume()
    t.same(await site.succeed(resize(name, 8)), { refId: name, sizeBytes: 8 * MiB, previousBytes: 8 * MiB })
  })

  await t.test('comes in the order in which the jobs came', async t => {
    const { name } = await newVolume()
    const sizes = [16, 12, 20, 24]
    const jobs = sizes.map(size => resize(name, size, { allowShrink: true }))
    const answers = jobs.map(job => site.perform(job))
    const previous = (await Promise.all(answers)).map(
      ({ result }) => (result as { previousBytes: number }).previousBytes,
    )
    t.same(
      previous,
      [8, 16, 12, 20].map(size => size * MiB),
    )
  })

  await t.test('changes nothing that it cannot change as a whole', async t => {
    const { name } = await newVolume()
    const result = await site.perform(resize(name, 2 ** 31))
    t.match(result, { ok: false, code: 'INVALID_ARGUMENT', rollback: { complete: true, leftovers: [] } })
    t.equal(await sizeOf(name), 8 * MiB)
  })

  await t.test('refuses', async t => {
    const other = await newVolume('umbrella')
    await run('rbd', 'create', `${poolName}/theirs`, '--size', '8M')
    const refused: Record<string, { data: object; code: string; error?: RegExp }> = {
      'a volume that is not there': { data: { refId: 'missing', sizeMB: 16 }, code: 'IMAGE_NOT_FOUND' },
      'an image of nobody': { data: { refId: 'theirs', sizeMB: 16 }, code: 'IMAGE_NOT_OURS' },
      "another tenant's": { data: { refId: other.name, sizeMB: 16 }, code: 'IMAGE_NOT_OURS' },
      'wrong data, each named': {
        data: { sizeMB: 0, allowShrink: 'yes', force: true },
        code: 'INVALID_JOB',
        error: /refId: missing.*sizeMB: must be an integer.*allowShrink: must be true or false.*force: unknown key/,
      },
    }
    for (const [what, { data, code, error = /./ }] of Object.entries(refused)) {
      t.match(await site.perform(site.job('storage.resize', data)), { ok: false, code, error }, what)
    }
    for (const name of ['theirs', other.name]) t.equal(await sizeOf(name), 8 * MiB)
  })
})
