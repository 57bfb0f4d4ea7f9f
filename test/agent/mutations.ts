/**
 * Messages that are nearly jobs, and some that are very large or nested very deep, all for one agent. MUTATIONS says how
 * many there are of the former, SEED which.
 */
import { randomInt, randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { audit } from '../../src/audit/audit.js'
import type { Job } from '../support/broker.js'
import { golden } from '../support/golden.js'
import { openRecords } from '../support/journal.js'
import { type Mutation, mutate, nestedHeaders } from '../support/mutation.js'
import { randomNumbers } from '../support/random.js'
import { Trial } from '../support/trial.js'
import type { Random } from '../support/workload.js'

const count = Number(process.env.MUTATIONS ?? 1_000)
const seed = Number(process.env.SEED ?? randomInt(2 ** 31))

/** There is a job with nothing wrong after so many. */
const sentAtOnce = 100

/** Jobs of every action, with all that each may say. */
function jobsOn(trial: Trial, imageId: string, volumes: readonly string[]): (random: Random) => Job {
  const data: Record<string, (refId: string, random: Random) => object> = {
    'storage.create': () => ({
      name: 'web',
      imageId,
      sizeMB: 16,
      portals: [{ host: 'gw', ip: '127.0.0.1' }],
      target: 'x',
    }),
    'disk.create': () => ({ image: 'web', size_mb: 16, tenantId: 'acme' }),
    'storage.delete': () => ({ refId: 'never-was', sizeMB: 16, children: 'flatten' }),
    'disk.delete': () => ({ iqn: 'iqn.2001-07.org.openhvx:never-was', pool: trial.site.environment.CEPH_DEFAULT_POOL }),
    'storage.clone': (refId, random) => ({ refId, name: 'clone', ...(random(2) === 0 && { snapshot: 'first' }) }),
    'storage.resize': (refId, random) => ({ refId, sizeMB: 16 + random(16), allowShrink: true }),
    'storage.flatten': refId => ({ refId }),
    'storage.snapshot.create': (refId, random) => ({ refId, snapshot: `s${random(3)}` }),
    'storage.snapshot.delete': (refId, random) => ({ refId, snapshot: `s${random(3)}` }),
    'storage.snapshot.rollback': refId => ({ refId, snapshot: 'first' }),
    'storage.snapshot.list': refId => ({ refId }),
    'storage.qos.set': (refId, random) => ({ refId, iops: { limit: 1_000 + random(9), burst: 2_000 }, readBps: null }),
    'tenant.ensure': (_refId, random) => ({
      tenantId: 'acme',
      ...{ uid: 20_001, gid: 20_001, quota: { maxBytes: 1_000 + random(9), maxFiles: null } },
      webroots: [{ name: 'example.org', public: true }],
    }),
    'tenant.delete': () => ({ tenantId: 'acme', snapshots: true }),
    'tenant.usage': () => ({}),
    'quota.set': (_refId, random) => ({ tenantId: 'acme', maxFiles: 1_000 + random(9), maxBytes: null }),
    'quota.get': () => ({ path: `${trial.site.environment.CEPHFS_TENANT_BASE}/acme/home` }),
    'quota.clear': () => ({}),
    'inventory.refresh': () => ({ full: true }),
  }
  const actions = Object.keys(data)
  return random => {
    const action = actions[random(actions.length)] ?? ''
    const refId = volumes[random(volumes.length)] ?? ''
    // So that the same seed has the same tasks.
    const taskId = `task-${trial.site.id}-${random(2 ** 31)}-${random(2 ** 31)}`
    return trial.site.job(action, data[action]?.(refId, random), { taskId })
  }
}

async function begin(t: Test) {
  const trial = await Trial.begin(t)
  const imageId = (await golden(t, trial.site)).name
  const volumes: string[] = []
  for (let i = 0; i < 4; i++) {
    const { disk } = await trial.succeed('storage.create', { name: 'base', imageId, sizeMB: 16 })
    await trial.succeed('storage.snapshot.create', { refId: disk.name, snapshot: 'first' })
    volumes.push(disk.name)
  }
  return { trial, jobs: jobsOn(trial, imageId, volumes) }
}

t.test(`${count} mutations of jobs, seed ${seed}, neither kill nor block the agent`, async t => {
  const { trial, jobs } = await begin(t)
  const random = randomNumbers(seed)
  for (let sent = 0; sent < count; sent += sentAtOnce) {
    const mutations = Array.from({ length: Math.min(sentAtOnce, count - sent) }, () => mutate(random, jobs(random)))
    await trial.send(mutations)
  }
  trial.checkAgent(t)
  const ends = trial.check(t)
  t.comment(ends)
  for (const end of ['deadLetters', 'INVALID_JOB', 'ok'])
    t.ok((ends[end] ?? 0) > count / 50, `there are some of ${end}`)
  await checkNothingLeft(t, trial)
})

t.test('what is very large or nested very deep neither kills nor blocks the agent', async t => {
  const { trial } = await begin(t)
  const ends: [what: string, mutation: Omit<Mutation, 'what'>, end: RegExp][] = []
  const add = (what: string, text: string | Buffer, end: RegExp, properties = {}) =>
    ends.push([what, { content: Buffer.from(text), properties }, end])
  const large = 16 * MiB
  const tooLarge = /^no job: 16777\d+ bytes, where 1048576 are the most$/
  /** With all that is around it, less than the limit. */
  const most = MiB - 1024
  const deep = 100_000
  /** A job as text, with some JSON in it. */
  const job = (parts: { action?: string; data?: string; beside?: string; taskId?: string }) => {
    const { action = 'storage.delete', data = '{"refId":"never-was"}', taskId = `"${randomUUID()}"` } = parts
    const { beside = '1' } = parts
    return `{"taskId":${taskId},"agentId":"${trial.site.agentId}","action":"${action}","data":${data},"beside":${beside}}`
  }
  const text = (length: number) => JSON.stringify('x'.repeat(length))
  const lists = `${'['.repeat(deep)}${']'.repeat(deep)}`
  const objects = `${'{"a":'.repeat(deep)}1${'}'.repeat(deep)}`

  add('16 MiB of blanks', Buffer.alloc(large, 0x20), tooLarge)
  add('16 MiB that are no UTF-8', Buffer.alloc(large, 0xff), tooLarge)
  add('16 MiB beside', job({ beside: text(large) }), tooLarge)
  add('a target of 16 MiB', job({ data: `{"refId":"never-was","target":${text(large)}}` }), tooLarge)

  add('just less than 1 MiB of blanks', Buffer.alloc(most, 0x20), /^no JSON/)
  add('as many zeros', Buffer.alloc(most), /^no JSON/)
  add('as many bytes that are no UTF-8', Buffer.alloc(most, 0xff), /^no JSON/)
  add('as many brackets', '['.repeat(most), /^no JSON/)
  add('as many digits', '9'.repeat(most), /^no job/)
  add('a task of as many', job({ taskId: text(most) }), /^no job/)
  add('an action of as many', job({ action: 'x'.repeat(most) }), /^no job/)
  add('as many beside', job({ beside: text(most) }), /^ok$/)
  add('a target of as many', job({ data: `{"refId":"never-was","target":${text(most)}}` }), /^INVALID_JOB$/)
  add('a reference of as many', job({ data: `{"refId":${text(most)}}` }), /^INVALID_JOB$/)
  const keys = Array.from({ length: most / 16 }, (_, i) => `"${String(i).padStart(11)}":1`)
  add('keys of as many', job({ data: `{${keys.join()}}` }), /^INVALID_JOB$/)
  const data = (portals: string) => `{"name":"web","sizeMB":16,"portals":${portals}}`
  add(
    'a list of as many',
    job({ action: 'storage.create', data: data(`[${'1,'.repeat(most / 2)}1]`) }),
    /^INVALID_JOB$/,
  )
  for (const [kind, nested] of Object.entries({ lists, objects })) {
    add(`${kind} of ${deep} levels`, nested, /^no job/)
    add(`a task of ${kind}`, job({ taskId: nested }), /^no job/)
    add(`${kind} beside`, job({ beside: nested }), /^ok$/)
    add(`data of ${kind}`, job({ data: nested }), kind === 'lists' ? /^no job/ : /^INVALID_JOB$/)
    add(`a reference of ${kind}`, job({ data: `{"refId":${nested}}` }), /^INVALID_JOB$/)
    add(`portals of ${kind}`, job({ action: 'storage.create', data: data(nested) }), /^INVALID_JOB$/)
    add(`a portal of ${kind}`, job({ action: 'storage.create', data: data(`[${nested}]`) }), /^INVALID_JOB$/)
    add(
      `limits of ${kind}`,
      job({ action: 'storage.qos.set', data: `{"refId":"x","iops":${nested}}` }),
      /^INVALID_JOB$/,
    )
  }
  for (const levels of [4_000, 5_000, 12_000]) {
    const headers = nestedHeaders(levels)
    add(`headers of ${levels} levels around no job`, `no job ${levels}`, /^no JSON/, { headers })
    add(`headers of ${levels} levels around a job`, job({}), /^ok$/, { headers })
  }

  for (const [what, mutation, end] of ends) {
    await t.test(what, async t => {
      const { results, deadLetters } = trial.site
      const before = { results: results.length, deadLetters: deadLetters.length }
      await trial.send([{ what, ...mutation }])
      const [letter] = deadLetters.slice(before.deadLetters)
      const isOfThis = ({ body }: (typeof results)[number]) => !trial.isProper(body.taskId)
      const result = results.slice(before.results).find(isOfThis)?.body
      t.match(letter?.properties.headers?.['x-cephkit-reason'] ?? result?.code ?? (result?.ok && 'ok'), end)
    })
  }
  trial.checkAgent(t)
  trial.check(t)
  await checkNothingLeft(t, trial)
})

async function checkNothingLeft(t: Test, { site }: Trial): Promise<void> {
  const { messageCount } = await site.onBroker(channel => channel.checkQueue(site.taskQueue))
  t.equal(messageCount, 0, 'no message waits')
  await using records = await openRecords(site)
  const poolName = site.environment.CEPH_DEFAULT_POOL ?? ''
  t.same(await audit({ cluster: site.cluster, poolName, records }), [], 'the audit finds nothing')
}
