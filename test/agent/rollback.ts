import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { Records } from '../../src/journal/records.js'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { golden } from '../support/golden.js'

/** RBD's object map, a feature of every image here, ends at 1 PiB: a clone can be made, but not grown beyond that. */
const tooLargeMiB = 2 ** 31

function nameFor(job: Job): string {
  const { name } = job.data as { name: string }
  return imageName({ taskId: job.taskId, tenantId: job.tenantId ?? '', name }, defaultIqnPrefix)
}

/** Its next result. */
async function retry(site: TestSite, { agentId, taskId }: Job) {
  const before = site.resultsOf({ taskId } as Job).length
  await using records = await Records.open(site.cluster, site.environment.CEPH_DEFAULT_POOL ?? '')
  t.ok(await records.retry(agentId, taskId))
  return until('the result of a job that is done again', () => site.resultsOf({ taskId } as Job)[before])
}

t.test('a storage.create that fails', async t => {
  const site = await TestSite.open(t, { LOG_LEVEL: 'debug' })
  const { name: imageId } = await golden(t, site)
  const pool = await site.volumePool()
  await site.startAgent()
  const tooLarge = () => site.job('storage.create', { name: 'huge', imageId, sizeMB: tooLargeMiB })
  const feasible = () => site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })

  await t.test('takes away what it had made', async t => {
    const result = await site.perform(tooLarge())
    t.match(result, { ok: false, code: 'INVALID_ARGUMENT', retryable: false })
    t.same(result.rollback, { complete: true, leftovers: [] })
    t.same(await site.imageNames(), [])
    t.same(await pool.trash.list(), [])
    const clones = await run('rbd', 'children', `${site.environment.CEPH_CATALOG_POOL}/${imageId}@base`)
    t.equal(clones, '', 'the catalog image has no clone')
    t.ok(
      site.logs.some(({ step, msg }) => step === 'ready' && msg === 'step failed'),
      'it had come as far as growing the clone',
    )
  })

  await t.test('takes away a blank volume that could not be made', async t => {
    const result = await site.perform(site.job('storage.create', { name: 'huge', sizeMB: tooLargeMiB }))
    t.match(result, { ok: false, rollback: { complete: true } })
    t.same(await site.imageNames(), [])
  })

  await t.test('takes away what is left of an image that was damaged before its stamp', async t => {
    const job = feasible()
    const path = `${pool.name}/${nameFor(job)}`
    site.onLog = line => {
      if (line.step !== 'image' || line.msg !== 'step done') return
      // The agent waits meanwhile: this is its own process.
      const { id } = JSON.parse(execFileSync('rbd', ['info', '--format', 'json', path]).toString())
      execFileSync('rados', ['--pool', pool.name, 'rm', `rbd_header.${id}`])
    }
    const result = await site.perform(job)
    site.onLog = () => {}
    t.match(result, { ok: false, code: 'IMAGE_NOT_FOUND', rollback: { complete: true, leftovers: [] } })
    t.same(await site.imageNames(), [], 'not even its name is left')
  })

  await t.test('names what it could not take away, and why', async t => {
    const job = tooLarge()
    const name = nameFor(job)
    // Opened by somebody as soon as it is there.
    const opened = (async () => {
      for (;;) {
        try {
          return await pool.openImage(name)
        } catch {
          await delay(5)
        }
      }
    })()
    const result = await site.perform(job)
    const path = `${pool.name}/${name}`
    t.match(result, { ok: false, code: 'INVALID_ARGUMENT' })
    t.match(result.rollback, { complete: false, leftovers: [{ kind: 'image', name: path, reason: /in use/ }] })
    t.equal(result.rollback?.leftovers.length, 1, 'once')
    const image = await opened
    await image.close()
    t.same(await site.imageNames(), [name])

    t.same(await site.perform(job), result, 'the same job, sent again, has the same result')
    t.match((await retry(site, job)).rollback, { complete: true }, 'an operator can have it done again')
    t.same(await site.imageNames(), [])
  })

  await t.test('leaves an image alone that was not made for it', async t => {
    const foreign: Record<string, (path: string) => Promise<unknown>> = {
      'one with data': async path => {
        await run('rbd', 'create', path, '--size', '8M')
        await run('rbd', 'bench', '--io-type', 'write', '--io-total', '4K', '--io-size', '4K', path)
      },
      'one with a snapshot': async path => {
        await run('rbd', 'create', path, '--size', '8M')
        await run('rbd', 'snap', 'create', '--no-progress', `${path}@kept`)
      },
      'a volume of another task': async path => {
        const { disk } = await site.succeed(feasible())
        await run('rbd', 'rename', `${pool.name}/${disk.name}`, path)
      },
    }
    for (const [what, make] of Object.entries(foreign)) {
      const job = feasible()
      const name = nameFor(job)
      await make(`${pool.name}/${name}`)
      const result = await site.perform(job)
      t.match(result, { ok: false, code: 'IMAGE_NOT_OURS', rollback: { complete: true, leftovers: [] } }, what)
      t.same(await site.imageNames(), [name], `${what}: it is still there`)
      await run('rbd', 'snap', 'purge', '--no-progress', `${pool.name}/${name}`)
      await run('rbd', 'rm', '--no-progress', `${pool.name}/${name}`)
    }
  })
})

t.test('a storage.create that takes too long', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  await site.startAgent({ CREATE_READINESS_TIMEOUT_MS: '1' })
  const job = site.job('storage.create', { name: 'slow', imageId, sizeMB: 16 })
  t.match(await site.perform(job), { ok: false, code: 'JOB_TIMEOUT', retryable: true, rollback: { complete: true } })
  t.same(await site.imageNames(), [], 'is taken away')
})

t.test('a storage.create that was cut short before', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const pool = await site.volumePool()
  await site.startAgent()
  const source = `${site.environment.CEPH_CATALOG_POOL}/${imageId}@base`
  const job = () => site.job('storage.create', { name: 'web', imageId, sizeMB: 16 })

  await t.test('replaces what has no stamp yet', async t => {
    const remains: Record<string, (path: string, name: string) => Promise<unknown>> = {
      'a clone': path => run('rbd', 'clone', source, path),
      'an image that is not a clone yet': path => run('rbd', 'create', path, '--size', '8M'),
      'a name without an image': async (_path, name) => {
        await pool.createImage(name, { size: 8 * MiB })
        const image = await pool.openImage(name)
        const { id } = await image.stat()
        await image.close()
        await pool.object(`rbd_header.${id}`).remove()
      },
    }
    for (const [what, make] of Object.entries(remains)) {
      const again = job()
      const name = nameFor(again)
      await make(`${pool.name}/${name}`, name)
      const { disk, imageExisted } = await site.succeed(again)
      t.equal(disk.name, name, what)
      t.equal(imageExisted, false, `${what}: it was made`)
      t.match(JSON.parse(await run('rbd', 'info', '--format', 'json', `${pool.name}/${name}`)), {
        size: 16 * MiB,
        parent: { image: imageId, snapshot: 'base' },
      })
    }
  })

  await t.test('leaves what has its stamp as it is: it was made, and may be in use', async t => {
    const again = job()
    const name = nameFor(again)
    await run('rbd', 'clone', source, `${pool.name}/${name}`)
    const image = await pool.openImage(name)
    const { id } = await image.stat()
    const stamp = { image: id, agent: site.agentId, task: again.taskId, tenant: 'acme', createdAt: 'earlier' }
    await image.metadata.set('cephkit.stamp', JSON.stringify(stamp))
    await image.close()

    const { disk, imageExisted } = await site.succeed(again)
    t.equal(disk.id, id, 'it is the same image')
    t.equal(imageExisted, true)
    const kept = JSON.parse(await run('rbd', 'image-meta', 'get', `${pool.name}/${name}`, 'cephkit.stamp'))
    t.same(kept, stamp)
    t.equal(JSON.parse(await run('rbd', 'info', '--format', 'json', `${pool.name}/${name}`)).size, 8 * MiB)
  })

  await t.test(
    'finishes what was being removed when the job was cut short, though the name is free by then',
    async t => {
      const other = await TestSite.open(t)
      const volumes = await other.volumePool()
      const again = other.job('storage.create', { name: 'web', sizeMB: 16 })
      const death = { operation: 'create', count: 0, after: true } as const
      const killed = await startAgentProcess(t, other.environment, { death })
      await other.publish(again)
      t.match(await killed.ended, { signal: 'SIGKILL' })
      const name = nameFor(again)
      await volumes.createImage(name, { size: 1024 * MiB })
      await run(
        'rbd',
        'bench',
        '--io-type',
        'write',
        '--io-pattern',
        'rand',
        '--io-total',
        '1M',
        `${volumes.name}/${name}`,
      )
      const stop = new AbortController()
      const removal = volumes.removeImage(name, { signal: stop.signal, onProgress: () => stop.abort() })
      await t.rejects(removal, { name: 'AbortError' })
      await other.startAgent()
      await until('the result', () => other.resultsOf(again).length > 0)
      t.match(other.resultsOf(again)[0], { ok: true, result: { disk: { name }, imageExisted: false } })
      t.same(await other.imageNames(), [name])
      await volumes.close()
    },
  )

  await t.test('is taken away when it fails before it comes to the image', async t => {
    const kept = await site.imageNames()
    const again = site.job('storage.create', { name: 'web', imageId: 'missing', sizeMB: 16 })
    const name = nameFor(again)
    await run('rbd', 'clone', source, `${pool.name}/${name}`)
    t.match(await site.perform(again), {
      ok: false,
      code: 'IMAGE_NOT_FOUND',
      rollback: { complete: true, leftovers: [] },
    })
    t.same(await site.imageNames(), kept)
  })

  await t.test('has a rollback that names what an earlier delivery has left and is open somewhere', async t => {
    const again = site.job('storage.create', { name: 'web', imageId: 'missing', sizeMB: 16 })
    const name = nameFor(again)
    await run('rbd', 'clone', source, `${pool.name}/${name}`)
    await using image = await pool.openImage(name)
    const { rollback } = await site.perform(again)
    t.match(rollback, { complete: false, leftovers: [{ kind: 'image', name: `${pool.name}/${name}` }] })
    t.equal(rollback?.leftovers.length, 1)
    t.ok((await image.stat()).id, 'it is still there')
    await image.close()
    t.match((await retry(site, again)).rollback, { complete: true })
    t.notOk((await site.imageNames()).includes(name))
  })

  await t.test('does not go on with a stamp that belongs to another image', async t => {
    const again = job()
    const name = nameFor(again)
    const { disk } = await site.succeed(job())
    const copiedStamp = await run('rbd', 'image-meta', 'get', `${pool.name}/${disk.name}`, 'cephkit.stamp')
    await run('rbd', 'create', `${pool.name}/${name}`, '--size', '8M')
    const stolen = { ...JSON.parse(copiedStamp), task: again.taskId }
    await run('rbd', 'image-meta', 'set', `${pool.name}/${name}`, 'cephkit.stamp', JSON.stringify(stolen))
    const made = await site.succeed(again)
    t.equal(made.imageExisted, false)
  })
})
