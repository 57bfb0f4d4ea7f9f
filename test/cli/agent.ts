import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { TestSite, until } from '../support/broker.js'

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

function start(environment: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [main, 'agent'], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => {
    output.stdout += chunk
  })
  child.stderr.on('data', chunk => {
    output.stderr += chunk
  })
  return { child, output, ended: once(child, 'exit') as Promise<[code: number | null, signal: string | null]> }
}

t.test('cephkit agent', async t => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    await t.test(`does jobs until ${signal}`, async t => {
      const site = await TestSite.open(t, { LOG_JSON: '0' })
      const { child, output, ended } = start(site.environment)
      await until('the start', () => output.stdout.includes('connected to the broker'))
      const { disk } = await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 1 }))
      t.same(await site.imageNames(), [disk.name])
      child.kill(signal)
      t.same(await ended, [0, null])
      t.match(output.stdout, /INFO: stopped/)
      t.equal(output.stderr, '')
      t.notMatch(output.stdout, 'guest:guest', 'no password is in its log')
    })
  }

  await t.test('ends well while it waits for a broker that is away', async t => {
    const site = await TestSite.open(t, { LOG_JSON: '0' })
    const { child, output, ended } = start({ ...site.environment, BROKER_URL: 'amqp://127.0.0.1:1' })
    await until('an attempt', () => output.stdout.includes('no connection to the broker'))
    child.kill('SIGTERM')
    t.same(await ended, [0, null])
    t.match(output.stdout, /INFO: stopped/)
    t.equal(output.stderr, '')
  })

  await t.test('ends at once at a second signal, also at another one', async t => {
    const site = await TestSite.open(t, { LOG_JSON: '0' })
    const { child, output, ended } = start(site.environment)
    await until('the start', () => output.stdout.includes('connected to the broker'))
    const job = site.job('storage.create', { name: 'web', sizeMB: 1 })
    // Somebody has the image open that the job has to replace: it waits for them.
    const pool = await site.volumePool()
    const name = imageName({ taskId: job.taskId, tenantId: 'acme', name: 'web' }, defaultIqnPrefix)
    await pool.createImage(name, { size: MiB })
    await pool.openImage(name)
    await site.publish(job)
    await until('the job', () => output.stdout.includes('job begins'))
    child.kill('SIGINT')
    await until('the stop', () => output.stdout.includes('INFO: stopping'))
    child.kill('SIGTERM')
    t.same(await ended, [null, 'SIGTERM'])
  })

  await t.test('names all wrong settings, in a few lines', async t => {
    const { output, ended } = start({ PATH: process.env.PATH, PREFETCH_COUNT: 'many' })
    t.same(await ended, [1, null])
    t.equal(
      output.stderr,
      'cephkit: wrong settings\n  BROKER_URL is not set\n  PREFETCH_COUNT must be an integer from 1 to 65535; got "many"\n',
    )
  })

  await t.test('ends when the cluster cannot be reached', async t => {
    const site = await TestSite.open(t)
    const { output, ended } = start({ ...site.environment, CEPH_CONF: '/no/such/ceph.conf' })
    t.same(await ended, [1, null])
    t.match(output.stderr, /^cephkit: ENOENT: .*\/no\/such\/ceph\.conf/)
  })
})
