import { randomUUID } from 'node:crypto'
import t from 'tap'
import { TestSite } from '../support/broker.js'
import { cephkit } from '../support/command.js'

t.test('cephkit jobs', async t => {
  const site = await TestSite.open(t)
  const run = (...args: string[]) => cephkit(args, site.environment)
  const agent = await site.startAgent()
  const task = randomUUID()
  const submit = (data: object, ...options: string[]) =>
    run('job', 'submit', 'storage.create', JSON.stringify(data), '--tenant', 'acme', ...options)

  await t.test('submit publishes a job and prints its result', async t => {
    const { code, stdout } = await submit({ name: 'web', sizeMB: 8 }, '--task', task)
    t.equal(code, 0)
    t.same([JSON.parse(stdout).disk.name], await site.imageNames())
    const again = await submit({ name: 'web', sizeMB: 8 }, '--task', task, '--json')
    t.match(JSON.parse(again.stdout), { ok: true, taskId: task, result: JSON.parse(stdout) }, 'the same one again')
  })

  await t.test('submit tells a failure by its exit status', async t => {
    const { code, stderr } = await submit({ name: 'web' })
    t.equal(code, 1)
    t.match(stderr, /^cephkit: [0-9a-f-]{36}: it has failed with INVALID_JOB: sizeMB: missing$/m)
  })

  await t.test('submit refuses what is no job before it publishes anything', async t => {
    for (const [args, reason] of [
      [['job', 'submit', 'storage.create', '{'], /the data is no JSON: /],
      [['job', 'submit', 'storage.create', '[]'], /the data is no JSON object/],
      [['job', 'submit', 'storage.create', '--timeout', 'long'], /--timeout long: must be seconds/],
      [['job', 'submit', 'inventory.refresh', '--agent', 'nobody'], /no queue takes jobs for agent nobody/],
    ] as const) {
      const { code, stderr } = await run(...args)
      t.equal(code, 1)
      t.match(stderr, reason)
    }
  })

  await t.test('submit says what the broker refuses, what that is about, and what to do', async t => {
    const address = new URL(site.environment.BROKER_URL ?? '').host
    const withPassword = `amqp://guest:wrong@${address}`
    const cases: [Record<string, string>, RegExp][] = [
      [
        { RESULTS_EXCHANGE: 'none-1' },
        /: the broker at amqp:\S+ has no exchange none-1 \(RESULTS_EXCHANGE\): .*ever run/,
      ],
      [{ JOBS_EXCHANGE: 'none-2' }, /: the broker at amqp:\S+ has no exchange none-2 \(JOBS_EXCHANGE\): .*ever run/],
      [
        { JOBS_EXCHANGE: 'amq.direct' },
        /: no queue takes jobs for agent \S+ from the exchange amq.direct of .*--agent/,
      ],
      [{ BROKER_URL: 'amqp://127.0.0.1:1' }, /: no connection to .*127.0.0.1:1 \(BROKER_URL\): .*ECONNREFUSED.*doctor/],
      [{ BROKER_URL: withPassword }, /: no connection to .*ACCESS_REFUSED.*: see cephkit doctor/],
      // Only the server writes there.
      [{ JOBS_EXCHANGE: 'amq.rabbitmq.trace' }, /: the broker at .* refuses: .*ACCESS_REFUSED.*: cephkit doctor/],
    ]
    for (const [settings, reason] of cases) {
      const submitted = cephkit(['job', 'submit', 'inventory.refresh'], { ...site.environment, ...settings })
      const { code, stderr } = await submitted
      t.equal(code, 1)
      t.match(stderr, /^cephkit: the job is not published: [^\n]+\n$/)
      t.match(stderr, reason)
      t.notMatch(stderr, 'wrong', 'and no password')
    }
  })

  await t.test('list shows what is not finished; with --all, what is', async t => {
    t.equal((await run('jobs', 'list', '--agent', site.agentId)).stdout, 'no jobs\n')
    const { stdout } = await run('jobs', 'list', '--all', '--agent', site.agentId)
    t.match(stdout, new RegExp(`^done +${task} +${site.agentId} +storage.create .*-web-`, 'm'))
    const [job] = JSON.parse((await run('jobs', 'list', '--all', '--agent', site.agentId, '--json')).stdout)
    t.match(job, { state: 'done', job: { taskId: task } })
  })

  await t.test('show prints one', async t => {
    const { stdout } = await run('jobs', 'show', task)
    t.match(JSON.parse(stdout), { state: 'done', job: { taskId: task }, outcome: { ok: true } })
    const { code, stderr } = await run('jobs', 'show', 'nothing', '--agent', site.agentId)
    t.equal(code, 1)
    t.match(stderr, `no job nothing is in the journal of ${site.agentId}`)
  })

  await t.test('cancel and retry refuse a job that has succeeded', async t => {
    t.match(await run('jobs', 'cancel', task), { code: 1, stderr: /is finished already: it has succeeded/ })
    t.match(await run('jobs', 'retry', task), { code: 1, stderr: /has not failed/ })
  })

  await t.test('retry has a failed job done again, and its result published', async t => {
    const job = site.job('storage.create', { name: 'late', sizeMB: 8, imageId: 'late' })
    t.match(await site.perform(job), { ok: false, code: 'IMAGE_NOT_FOUND' })
    const catalog = await site.catalogPool()
    await catalog.createImage('late', { size: 1024 })
    const image = await catalog.openImage('late')
    await image.createSnapshot('base', { protect: true })
    await image.close()
    await catalog.close()
    t.equal((await run('jobs', 'retry', job.taskId)).code, 0)
    const done = await submit({ name: 'late', sizeMB: 8, imageId: 'late' }, '--task', job.taskId, '--json')
    t.match(JSON.parse(done.stdout), { ok: true })
  })

  await t.test('submit gives up waiting, and says how to ask again', async t => {
    await agent.stop()
    const { code, stderr } = await submit({ name: 'web', sizeMB: 8 }, '--timeout', '1')
    t.equal(code, 1)
    t.match(stderr, /no result in 1 s: the job goes on, and is asked for again with --task [0-9a-f-]{36}$/m)
  })
})
