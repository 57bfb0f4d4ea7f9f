/** The health of a mount, as a load balancer, Prometheus and the control plane are told of it. */
import { mkdtemp, readdir, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Agent } from '../../src/agent/index.js'
import type { MountReport } from '../../src/mount/health.js'
import { TestSite, until } from '../support/broker.js'
import { testFileSystem } from '../support/file-system.js'
import { FuseMount } from '../support/fuse-mount.js'
import { get, metricsOf } from '../support/metrics.js'

const settings = { MOUNT_PROBE_INTERVAL_MS: '100', MOUNT_TIMEOUT_MS: '3000' }

async function mountz(agent: Agent): Promise<MountReport & { status: number }> {
  const { status, body, type } = await get(agent, '/mountz')
  if (type !== 'application/json') throw new Error(`${status} ${body}`)
  return { status, ...(JSON.parse(body) as MountReport) }
}

t.test('a mount that can be used, and one that hangs', async t => {
  const { root } = await testFileSystem(t)
  const mount = await FuseMount.open(t, { root })
  const site = await TestSite.open(t)
  const agent = await site.startAgent({ ...settings, MOUNT_PATH: mount.folder })
  const isWell = () => until('a mount that is well', async () => (await mountz(agent)).status === 200)
  const events = () => site.telemetry.filter(({ routingKey }) => routingKey === `mount.${site.agentId}`)
  const told = (mounted: boolean) =>
    until('the event', () => {
      const last = events().at(-1)?.body as Partial<MountReport> | undefined
      return last?.mounted === mounted && last.writable === mounted && last
    })

  await isWell()
  const found = await mountz(agent)
  t.match(found, { status: 200, mounted: true, writable: true })
  t.equal(new Date(String(found.lastProbeAt)).toISOString(), found.lastProbeAt)
  t.ok(Number(found.latencyMs) > 0)
  t.notOk('lastError' in found)
  t.match(await told(true), { agentId: site.agentId, path: mount.folder, mounted: true, host: /./, ts: /Z$/ })
  const metrics = await metricsOf(agent)
  t.equal(metrics.get('cephkit_mount{state="mounted"}'), 1)
  t.equal(metrics.get('cephkit_mount{state="writable"}'), 1)
  t.ok((metrics.get('cephkit_mount_probe_duration_seconds_count') ?? 0) > 0)
  t.equal(metrics.get('cephkit_mount_probe_failures_total'), 0)
  t.strictSame((await get(agent, '/readyz')).status, 200)

  mount.stop()
  t.teardown(() => mount.cont())
  let slowest = 0
  const red = await until('the change', async () => {
    const asked = performance.now()
    const now = await mountz(agent)
    slowest = Math.max(slowest, performance.now() - asked)
    // What it was doing when it stopped has hung first.
    return !now.mounted && now
  })
  t.match(red, { status: 503, mounted: false, writable: false, latencyMs: null, lastError: /the mount hangs/ })
  t.ok(slowest < 2000, `nobody who asks has to wait: ${slowest.toFixed(0)} ms at the most`)
  t.match(await told(false), { mounted: false, latencyMs: null, lastError: /the mount hangs/ })
  const then = await metricsOf(agent)
  t.equal(then.get('cephkit_mount{state="mounted"}'), 0)
  t.ok((then.get('cephkit_mount_probe_failures_total') ?? 0) > 0)
  t.strictSame((await get(agent, '/readyz')).status, 200, 'volumes need no mount')

  mount.cont()
  await isWell()
  await told(true)
  const all = events().map(({ body }) => JSON.stringify(body, ['mounted', 'writable']))
  t.ok(
    all.every((event, i) => event !== all[i - 1]),
    'an event for a change, and not for each probe',
  )
  t.ok(site.logs.some(({ msg, level }) => msg === 'the mount cannot be used' && level === 50))
})

t.test('a directory where nothing is mounted', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-ordinary-'))
  t.teardown(() => rmdir(folder))
  const site = await TestSite.open(t)
  const agent = await site.startAgent({ ...settings, MOUNT_PATH: folder })
  const found = await until('a probe', async () => {
    const now = await mountz(agent)
    return now.lastProbeAt !== null && now
  })
  t.match(found, { status: 503, mounted: false, writable: false, lastError: /nothing is mounted/ })
  t.strictSame(await readdir(folder), [])
})

t.test('no mount is configured', async t => {
  const site = await TestSite.open(t)
  const agent = await site.startAgent()
  t.equal((await get(agent, '/mountz')).status, 404)
  t.notOk([...(await metricsOf(agent)).keys()].some(name => name.startsWith('cephkit_mount')))
})
