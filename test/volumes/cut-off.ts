/** Agents that die at the end of a flatten, between when the parent lists the clone no more and when the clone has no parent any more. */
import t, { type Test } from 'tap'
import { type Image, MiB, NotFoundError, type Pool } from '../../lib/index.js'
import { addDue, listDue } from '../../src/volumes/due.js'
import { Upkeep } from '../../src/volumes/upkeep.js'
import { type AgentProcess, type Death, startAgentProcess } from '../support/agent-process.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { withCloneFormat } from '../support/clone-format.js'
import { beginFlatten, canBeOpened, cutOff, detachChild } from '../support/cut-off.js'
import { newRunner } from '../support/runner.js'

const content = Buffer.alloc(MiB, 'inherited')

async function openSite(t: Test, format: string) {
  const site = await TestSite.open(t)
  const pool = await site.volumePool()
  t.teardown(() => pool.close())
  const settings = await withCloneFormat(t, format)
  /** A volume with data, and a clone of it. */
  const newFamily = async () => {
    const agent = await site.startAgent(settings)
    const { name } = (await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 8 }))).disk
    {
      await using image = await pool.openImage(name)
      await image.write(MiB, content)
    }
    const clone = (await site.succeed(site.job('storage.clone', { refId: name, name: 'copy' }))).disk
    await agent.stop()
    return { name, clone: clone.name, id: clone.id }
  }
  const startProcess = (options: { death?: Death } = {}): Promise<AgentProcess> =>
    startAgentProcess(t, { ...site.environment, ...settings }, options)
  return { site, pool, settings, newFamily, startProcess }
}

/** Leaves what a flatten of it does that ends so. */
async function flattenUpTo(end: typeof detachChild | typeof cutOff, pool: Pool, name: string): Promise<void> {
  await using clone = await pool.openImage(name)
  await beginFlatten(clone)
  await clone.write(MiB, content)
  await end(clone)
}

async function hasSnapshots(image: Image): Promise<boolean> {
  try {
    return (await image.listSnapshots()).length > 0
  } catch (error) {
    if (error instanceof NotFoundError) return false
    throw error
  }
}

async function isWhole(pool: Pool, name: string): Promise<boolean> {
  await using image = await pool.openImage(name, { readOnly: true })
  return (await image.parent()) === null && (await image.read(MiB, MiB)).equals(content)
}

t.test('an agent that is killed there', async t => {
  const { site, pool, settings, newFamily, startProcess } = await openSite(t, '2')
  const jobs: Record<string, (at: { name: string; clone: string }) => Job> = {
    'storage.flatten': ({ clone }) => site.job('storage.flatten', { refId: clone }),
    'storage.delete': ({ name }) => site.job('storage.delete', { refId: name, children: 'flatten' }),
  }
  for (const [action, jobOn] of Object.entries(jobs))
    await t.test(`with a ${action} in hand leaves it to the next`, async t => {
      for (let tries = 1; ; tries++) {
        const at = await newFamily()
        const job = jobOn(at)
        const agent = await startProcess()
        await using volume = await pool.openImage(at.name, { readOnly: true })
        await site.publish(job)
        while (site.resultsOf(job).length === 0 && (await hasSnapshots(volume)));
        agent.child.kill('SIGKILL')
        await agent.ended
        const isHit = !(await canBeOpened(pool, at.clone))
        const next = await site.startAgent(settings)
        t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
        await next.stop()
        t.ok(await isWhole(pool, at.clone))
        if (isHit) return
        if (tries === 20) return t.fail('it was never hit')
      }
    })
})

for (const format of ['1', '2'])
  t.test(`a storage.delete that flattens clones of format ${format}, and dies of it`, async t => {
    const { site, pool, settings, newFamily, startProcess } = await openSite(t, format)
    for (const [what, end] of Object.entries({ 'before its snapshot is gone': detachChild, 'after that': cutOff })) {
      if (format === '1' && end === cutOff) continue
      await t.test(what, async t => {
        const { name, clone } = await newFamily()
        const job = site.job('storage.delete', { refId: name, children: 'flatten' })
        // It has looked for clones.
        const agent = await startProcess({ death: { operation: 'write', count: 0, after: true } })
        await site.publish(job)
        t.match(await agent.ended, { signal: 'SIGKILL' })
        await flattenUpTo(end, pool, clone)
        const next = await site.startAgent(settings)
        t.match(await until('the result', () => site.resultsOf(job)[0]), { ok: true })
        t.ok(await isWhole(pool, clone), 'although the volume does not list it any more')
        t.notOk((await site.imageNames()).includes(name))
        await next.stop()
      })
    }
  })

t.test('a clone that was left so', async t => {
  const { site, pool, settings, newFamily } = await openSite(t, '2')

  await t.test('is finished by what is due to it', async t => {
    const { name, clone, id } = await newFamily()
    await flattenUpTo(cutOff, pool, clone)
    const { config, cluster, journal, log } = await newRunner(t, site)
    const list = { cluster, volumePool: pool.name, agent: site.agentId }
    await addDue(list, { work: 'flatten', poolName: pool.name, name: clone, id, origin: null })
    t.equal(await new Upkeep({ config, cluster, journal, log }).look(AbortSignal.timeout(60_000)), false)
    t.same(await listDue(list), [])
    t.ok(await isWhole(pool, clone))
    await pool.removeImage(clone)
    await pool.removeImage(name)
  })

  await t.test('is finished by whichever job comes to it first', async t => {
    const jobs = {
      'storage.resize': { sizeMB: 16 },
      'storage.snapshot.list': {},
      'storage.flatten': {},
      'storage.delete': {},
    }
    for (const [action, data] of Object.entries(jobs)) {
      const { clone } = await newFamily()
      await flattenUpTo(cutOff, pool, clone)
      const agent = await site.startAgent(settings)
      await t.resolves(site.succeed(site.job(action, { refId: clone, ...data })), action)
      await agent.stop()
      if (action === 'storage.delete') t.notOk((await site.imageNames()).includes(clone))
      else t.ok(await isWhole(pool, clone), action)
    }
  })
})
