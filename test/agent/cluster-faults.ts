/** An OSD that hangs while the agent works. On a cluster of its own, whose clients give up after a few seconds. */
import { appendFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { imageName } from '../../src/names.js'
import { type Job, TestSite } from '../support/broker.js'
import { golden } from '../support/golden.js'

t.setTimeout(110_000)

t.test('an OSD that hangs', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-hanging-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir })
  await appendFile(stack.cephConf, '\n[client]\nrados osd op timeout = 2\nrados mon op timeout = 2\n')
  const { BROKER_URL, ...env } = stack.env
  Object.assign(process.env, env)
  const osd = Number(stack.pids['osd.0'])
  t.teardown(() => process.kill(osd, 'SIGCONT'))

  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const pool = await site.volumePool()
  await site.startAgent()
  const stopAfter = (job: Job, step: string) => {
    site.onLog = line => {
      if (line.job === job.taskId && line.step === step && line.msg === 'step done') process.kill(osd, 'SIGSTOP')
    }
  }
  const go = () => {
    site.onLog = () => {}
    process.kill(osd, 'SIGCONT')
  }

  for (const step of ['name', 'image', 'stamp']) {
    await t.test(
      `after the step "${step}" of a create: it fails, says what may be left, and can be sent again`,
      async t => {
        const before = await site.imageNames()
        const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
        const name = imageName({ taskId: job.taskId, tenantId: 'acme', name: 'web' })
        stopAfter(job, step)
        const result = await site.perform(job)
        t.match(result, { ok: false, code: 'CLUSTER_TIMEOUT', retryable: true })
        t.match(result.rollback, {
          complete: false,
          leftovers: [{ kind: 'image', name: `${pool.name}/${name}`, reason: /ETIMEDOUT/ }],
        })
        go()
        const { disk } = await site.succeed(job)
        t.equal(disk.name, name)
        t.same((await site.imageNames()).sort(), [...before, name].sort(), 'one volume, and nothing else')
      },
    )
  }

  await t.test('during a delete: it fails, and can be sent again', async t => {
    const { disk } = await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 16 }))
    const job = site.job('storage.delete', { refId: disk.name })
    stopAfter(job, 'volume')
    t.match(await site.perform(job), { ok: false, code: 'CLUSTER_TIMEOUT', retryable: true })
    go()
    t.ok(await site.succeed(job))
    t.notOk((await site.imageNames()).includes(disk.name))
  })

  await t.test('during an inventory: there is none, rather than an empty one', async t => {
    process.kill(osd, 'SIGSTOP')
    t.match(await site.perform(site.job('inventory.refresh', {})), {
      ok: false,
      code: 'CLUSTER_TIMEOUT',
      retryable: true,
    })
    go()
    const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
    t.ok(inventory.volumes.length > 0)
  })
})
