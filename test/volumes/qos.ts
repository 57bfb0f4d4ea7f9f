import t from 'tap'
import { Config } from '../../lib/index.js'
import { TestSite } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'

t.test('storage.qos.set', async t => {
  const site = await TestSite.open(t)
  const poolName = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }, { tenantId }))).disk
  const set = (refId: string, change: object) => site.job('storage.qos.set', { refId, ...change })
  const limitsOf = async (name: string) => {
    const settings: { name: string; value: string; source: string }[] = await rbdJson(
      'config',
      'image',
      'list',
      `${poolName}/${name}`,
    )
    const own = settings.filter(({ name, source }) => source === 'image' && name.startsWith('rbd_qos'))
    return Object.fromEntries(own.map(({ name, value }) => [name, value]))
  }

  await t.test('limits, changes and clears, and leaves alone what it does not name', async t => {
    const { name, refId } = await newVolume()
    const first = await site.succeed(set(refId, { iops: { limit: 100, burst: 200 }, writeBps: { limit: 1048576 } }))
    t.same(first, { refId, qos: { iops: { limit: 100, burst: 200 }, writeBps: { limit: 1048576 } } })
    t.same(await limitsOf(name), {
      rbd_qos_iops_limit: '100',
      rbd_qos_iops_burst: '200',
      rbd_qos_write_bps_limit: '1048576',
    })
    const second = await site.succeed(set(name, { iops: { limit: 50 }, writeBps: null, readIops: null }))
    t.same(second, { refId: name, qos: { iops: { limit: 50 } } })
    t.same(await limitsOf(name), { rbd_qos_iops_limit: '50' })
  })

  await t.test('has the same answer when the job comes again, and is not done again', async t => {
    const { name } = await newVolume()
    const job = set(name, { bps: { limit: 1000 } })
    const answers = await Promise.all([site.succeed(job), site.succeed(job)])
    await site.succeed(set(name, { bps: null }))
    answers.push(await site.succeed(job))
    for (const answer of answers) t.same(answer, { refId: name, qos: { bps: { limit: 1000 } } })
    t.same(await limitsOf(name), {})
  })

  await t.test('puts back what was there when it fails', async t => {
    const { name } = await newVolume()
    await site.succeed(set(name, { iops: { limit: 100 }, readIops: { limit: 10, burst: 20 } }))
    const before = await limitsOf(name)
    const { setQos } = Config.prototype
    // As a call that is not answered in time: it has had its effect.
    Config.prototype.setQos = async function (...change) {
      await setQos.apply(this, change)
      throw new Error('no answer')
    }
    const result = await site.perform(set(name, { iops: { limit: 7 }, readIops: null, writeBps: { limit: 9 } }))
    Config.prototype.setQos = setQos
    t.match(result, { ok: false, error: 'no answer', rollback: { complete: true, leftovers: [] } })
    t.same(await limitsOf(name), before)
  })

  await t.test('refuses', async t => {
    const { name } = await newVolume()
    const other = await newVolume('umbrella')
    await run('rbd', 'create', `${poolName}/theirs`, '--size', '8M')
    const iops = { limit: 1 }
    const refused: Record<string, { data: object; code: string; error?: RegExp }> = {
      'a volume that is not there': { data: { refId: 'missing', iops }, code: 'IMAGE_NOT_FOUND' },
      'an image of nobody': { data: { refId: 'theirs', iops }, code: 'IMAGE_NOT_OURS' },
      "another tenant's": { data: { refId: other.name, iops }, code: 'IMAGE_NOT_OURS' },
      'nothing to change': { data: { refId: name }, code: 'INVALID_JOB', error: /one of iops.*missing/ },
      'a limit of nothing': { data: { refId: name, iops: { limit: 0 } }, code: 'INVALID_JOB', error: /at least 1/ },
      'a burst below its limit': {
        data: { refId: name, iops: { limit: 2, burst: 1 } },
        code: 'INVALID_JOB',
        error: /burst must not be less/,
      },
      'what is no limit': {
        data: { refId: name, iops: 5, bps: { limit: 1.5 }, readBps: { limit: 1, rate: 2 }, speed: 1 },
        code: 'INVALID_JOB',
        error: /iops: must be.*bps\.limit: must be an integer.*readBps\.rate: unknown key.*speed: unknown key/,
      },
    }
    for (const [what, { data, code, error = /./ }] of Object.entries(refused)) {
      t.match(await site.perform(site.job('storage.qos.set', data)), { ok: false, code, error }, what)
    }
    for (const each of [name, 'theirs', other.name]) t.same(await limitsOf(each), {})
  })
})
