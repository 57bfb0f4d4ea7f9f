/** Faults of the cluster while the agent works. On a cluster of its own, whose clients give up after a few seconds. */
import { spawn } from 'node:child_process'
import { appendFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startStack, stopStack } from '../../src/dev/stack.js'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { rbdJson, run } from '../support/cluster.js'
import { golden } from '../support/golden.js'
import { hang } from '../support/hang.js'

t.setTimeout(250_000)

async function ownSite(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-hanging-'))
  t.teardown(() => stopStack(dir))
  const stack = await startStack({ dir })
  await appendFile(stack.cephConf, '\n[client]\nrados osd op timeout = 3\nrados mon op timeout = 3\n')
  const { BROKER_URL, ...env } = stack.env
  Object.assign(process.env, env)
  const osd = Number(stack.pids['osd.0'])
  t.teardown(() => process.kill(osd, 'SIGCONT'))

  const site = await TestSite.open(t)
  return { site, osd, imageId: (await golden(t, site)).name, pool: await site.volumePool() }
}

t.test('an OSD that hangs', async t => {
  const { site, osd, imageId } = await ownSite(t)
  await site.startAgent()
  const stopAfter = (job: Job, step: string) => {
    site.onLog = line => {
      if (line.job === job.taskId && line.step === step && line.msg === 'step done') hang(osd)
    }
  }
  const go = () => {
    site.onLog = () => {}
    process.kill(osd, 'SIGCONT')
  }

  const waits = (job: Job) =>
    until('the journal to be missed', () =>
      site.logs.some(
        line =>
          line.msg === 'the journal cannot be reached, trying again' &&
          line.job === job.taskId &&
          Number(line.time) >= begun,
      ),
    ).then(() => t.same(site.resultsOf(job), [], 'there is no result that the journal does not have'))
  let begun = 0

  await t.test('during the first step of a create: it waits, fails, and leaves nothing', async t => {
    const before = await site.imageNames()
    const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
    begun = Date.now()
    stopAfter(job, 'name')
    await site.publish(job)
    await waits(job)
    go()
    const result = await until('the result', () => site.resultsOf(job)[0])
    t.match(result, { ok: false, code: 'CLUSTER_TIMEOUT', retryable: true, rollback: { complete: true } })
    t.same(await site.imageNames(), before)
  })

  for (const step of ['image', 'ready']) {
    await t.test(`when the step "${step}" of a create is done: it waits to say so, and is done`, async t => {
      const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
      begun = Date.now()
      stopAfter(job, step)
      await site.publish(job)
      await waits(job)
      go()
      t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
      t.ok(
        (await site.imageNames()).includes(
          imageName({ taskId: job.taskId, tenantId: 'acme', name: 'web' }, defaultIqnPrefix),
        ),
      )
    })
  }

  await t.test('during a delete: it waits, fails, and another one goes on', async t => {
    const { disk } = await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 16 }))
    const job = site.job('storage.delete', { refId: disk.name })
    begun = Date.now()
    site.onLog = line => {
      if (line.job === job.taskId && line.msg === 'job begins') hang(osd)
    }
    await site.publish(job)
    await waits(job)
    go()
    const result = await until('the result', () => site.resultsOf(job)[0])
    t.match(result, { ok: false, code: 'CLUSTER_TIMEOUT', retryable: true })
    t.ok(await site.succeed(site.job('storage.delete', { refId: disk.name })))
    t.notOk((await site.imageNames()).includes(disk.name))
  })

  await t.test('before a job begins: it waits, and is done', async t => {
    const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
    begun = Date.now()
    hang(osd)
    await site.publish(job)
    await waits(job)
    go()
    t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
  })

  await t.test('during an inventory: there is none, rather than an empty one', async t => {
    hang(osd)
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

t.test('an inventory of images that do not answer does not keep the agent from stopping', async t => {
  const { site, osd, pool } = await ownSite(t)
  const names = Array.from({ length: 200 }, (_, i) => `disk-${i}`)
  await Promise.all(names.map(name => pool.createImage(name, { size: 0 })))
  // One that cannot be measured, so that the log says when the inventory has come to the images.
  const { id } = await rbdJson('info', `${pool.name}/disk-0`)
  await pool.object(`rbd_header.${id}`).setOmap({ size: Buffer.alloc(1) })
  const hanging = new Promise<void>(resolve => {
    site.onLog = ({ msg }) => {
      if (msg !== 'not measured') return
      site.onLog = () => {}
      hang(osd)
      resolve()
    }
  })
  const agent = await site.startAgent()
  await hanging
  const begun = performance.now()
  await agent.stop()
  const took = performance.now() - begun
  t.ok(took < 12_000, `${Math.round(took)} ms`)
  process.kill(osd, 'SIGCONT')
})

t.test('an agent that died right after it had made an image', async t => {
  const { site, imageId, pool } = await ownSite(t)
  // Ceph forgets a client that is gone after 30 seconds.
  await run('ceph', 'tell', 'osd.*', 'config', 'set', 'osd_client_watch_timeout', '4')
  await site.startAgent()
  const job = site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })
  const name = imageName({ taskId: job.taskId, tenantId: 'acme', name: 'web' }, defaultIqnPrefix)
  await run('rbd', 'clone', `${site.environment.CEPH_CATALOG_POOL}/${imageId}@base`, `${pool.name}/${name}`)
  const other = spawn('rbd', ['watch', `${pool.name}/${name}`])
  await until('it to be open', async () => {
    const { watchers } = await rbdJson('status', `${pool.name}/${name}`)
    return watchers.length > 0
  })
  other.kill('SIGKILL')
  t.match(await site.succeed(job), { disk: { name }, imageExisted: false }, 'does not keep the job from being done')
  t.same(await site.imageNames(), [name])
})
