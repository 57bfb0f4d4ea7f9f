/**
 * Volumes over iSCSI: the rate of small reads and writes through a target of the agent, beside fio's rbd engine on the same
 * image; and the time from a job to the first login of an initiator, beside the commands that somebody would type.
 */
import { KiB, MiB, type Pool } from '../../lib/index.js'
import { ControlPlane } from './agent-control.js'
import { Client, cephkitProgram } from './client.js'
import { fillImage } from './filled-image.js'
import { measureByFio } from './fio.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'
import { titles } from './io.js'
import type { Load } from './io-client.js'
import { logIn, measureByQemu, Tgtadm } from './iscsi-tools.js'
import { runRbd } from './rbd-command.js'

export interface Scale {
  /** Of the image that is read and written, in bytes. */
  size: number
  depth: number
  /** How often it is each one's turn with each load, and how many seconds that is. */
  turns: number
  seconds: number
  /** How often it is each one's turn to expose, and to create and expose. */
  logins: number
}
const full: Scale = { size: 512 * MiB, depth: 32, turns: 9, seconds: 1, logins: 15 }
const quick: Scale = { size: 64 * MiB, depth: 32, turns: 3, seconds: 0.4, logins: 3 }

/** What is not counted: code is compiled and connections are made. */
const warmUpSeconds = 0.3

export const iscsi: Part = {
  name: 'iscsi',
  measure: context => measureIscsi(context, context.quick ? quick : full),
}

export async function measureIscsi(context: Context, scale: Scale): Promise<Row[]> {
  const { cluster, namespace, cephConf, signal } = context
  const brokerUrl = await context.brokerUrl()
  const tgtSettings = await context.tgtSettings()
  // Whole pools, as agents have.
  const pool = `${namespace}.exposed`
  try {
    await cluster.createPool(pool)
    await using opened = await cluster.openPool(pool)
    await opened.initialize()
    await using control = await ControlPlane.open(brokerUrl, `${namespace}-iscsi`)
    await using service = await Client.start(cephkitProgram('agent-service.js'), cephConf, signal)
    await service.call('start', {
      ...{ ...control.settings, ...tgtSettings, ISCSI_DRIVER: 'tgt' },
      ...{ CEPH_DEFAULT_POOL: pool, CEPH_CATALOG_POOL: pool },
    })
    const jobs = new Jobs(control, signal)
    const site = { context, pool, jobs, portal: await jobs.portal(), tgtadm: new Tgtadm(tgtSettings, cephConf) }
    return [...(await rates(site, scale)), ...(await logins(site, scale))]
  } finally {
    await cluster.deletePool(pool)
  }
}

/** A volume, which goes with its scope, and its target with it. */
interface Disk extends AsyncDisposable {
  refId: string
  name: string
}

/** What the agent is asked to do. */
class Jobs {
  readonly #control: ControlPlane
  readonly #signal: AbortSignal

  constructor(control: ControlPlane, signal: AbortSignal) {
    this.#control = control
    this.#signal = signal
  }

  async create(sizeMB: number): Promise<{ disk: Disk; elapsedMs: number }> {
    const data = { name: 'disk', sizeMB }
    type Created = { disk: Omit<Disk, typeof Symbol.asyncDispose> }
    const { result, elapsedMs } = await this.#control.performOne<Created>('storage.create', data, this.#signal)
    const remove = async () => {
      await this.perform('storage.delete', result.disk, { force: true })
    }
    return { disk: { ...result.disk, [Symbol.asyncDispose]: remove }, elapsedMs }
  }

  /** Gives how many milliseconds it took. */
  perform(action: string, { refId }: Pick<Disk, 'refId'>, data: object = {}): Promise<number> {
    return this.#control.perform(action, { refId, ...data }, 1, this.#signal)
  }

  /** `address:port`, where initiators find volumes that are exposed. */
  async portal(): Promise<string> {
    const { disk } = await this.create(sizeMB)
    await using _ = disk
    const { refId } = disk
    type Way = { portals: { ip: string; port: number }[] }
    const { result } = await this.#control.performOne<Way>('storage.expose', { refId }, this.#signal)
    const [portal] = result.portals
    if (portal === undefined) throw new Error('tgtd listens nowhere')
    return `${portal.ip}:${portal.port}`
  }
}

interface Site {
  context: Context
  pool: string
  jobs: Jobs
  portal: string
  tgtadm: Tgtadm
}

function urlOf({ portal }: Site, iqn: string): string {
  return `iscsi://${portal}/${iqn}/1`
}

async function rates(site: Site, { size, depth, turns, seconds }: Scale): Promise<Row[]> {
  const { context, pool, jobs } = site
  const { cluster, cephConf } = context
  const { disk } = await jobs.create(size / MiB)
  await using _ = disk
  await using opened = await cluster.openPool(pool)
  await withoutLock(opened, disk.name)
  const rows: Row[] = []
  for (const kind of ['randread', 'randwrite'] as const) {
    const load: Load = { kind, blockSize: 4 * KiB, depth }
    await fillImage(opened, disk.name)
    const byTarget = (forSeconds: number) => measureByQemu(urlOf(site, disk.refId), load, size, forSeconds)
    await byTarget(warmUpSeconds)
    const [ours, fios] = await alternate(turns, [
      () => byTarget(seconds),
      async () => {
        const { operations, elapsedMs } = await measureByFio({ pool, image: disk.name, cephConf }, load, seconds)
        return (operations / elapsedMs) * 1000
      },
    ])
    const about = { part: 'iscsi', load: `${titles[kind]}, depth ${depth}`, metric: 'rate', unit: 'IOPS' }
    const figures = {
      better: 'more',
      ours: median(ours),
      peer: median(fios),
      peerName: 'fio, rbd',
      need: null,
    } as const
    rows.push(compare({ ...about, ...figures }))
  }
  return rows
}

/** Clients that take turns would have to hand it over each time. */
async function withoutLock(pool: Pool, name: string): Promise<void> {
  await using image = await pool.openImage(name)
  await image.disableFeatures(['fast-diff', 'object-map', 'exclusive-lock'])
}

const sizeMB = 64

/** Of a name that the agent takes for nobody's. */
const byHand = 'iqn.2020-01.org.example:by-hand'

async function logins(site: Site, { logins }: Scale): Promise<Row[]> {
  const [exposed, exposedByHand] = await alternate(logins, [() => exposeByJob(site), () => exposeByHand(site)])
  const [created, createdByHand] = await alternate(logins, [() => createByJob(site), () => createByHand(site)])
  const row = (load: string, ours: number[], peers: number[], peerName: string) =>
    compare({
      ...{ part: 'iscsi', load: `${load} to first login`, metric: 'p50', unit: 'ms', better: 'less', need: null },
      ...{ ours: median(ours), peer: median(peers), peerName },
    })
  return [
    row('storage.expose', exposed, exposedByHand, 'tgtadm, three commands'),
    row('storage.create', created, createdByHand, 'rbd create and the same'),
  ]
}

/** Each gives how many milliseconds it took. What it begins with is in nobody's time, and so is what is taken away. */
async function exposeByJob(site: Site): Promise<number> {
  const { jobs } = site
  const { disk } = await jobs.create(sizeMB)
  await using _ = disk
  await jobs.perform('storage.unexpose', disk)
  return (await jobs.perform('storage.expose', disk)) + (await timed(() => logIn(urlOf(site, disk.refId))))
}

async function exposeByHand(site: Site): Promise<number> {
  const { jobs, pool, tgtadm } = site
  const { disk } = await jobs.create(sizeMB)
  await using _ = disk
  await jobs.perform('storage.unexpose', disk)
  try {
    return await timed(async () => {
      await tgtadm.expose(byHand, `${pool}/${disk.name}`)
      await logIn(urlOf(site, byHand))
    })
  } finally {
    await tgtadm.remove()
  }
}

async function createByJob(site: Site): Promise<number> {
  const { disk, elapsedMs } = await site.jobs.create(sizeMB)
  await using _ = disk
  return elapsedMs + (await timed(() => logIn(urlOf(site, disk.refId))))
}

async function createByHand(site: Site): Promise<number> {
  const { pool, tgtadm } = site
  const { cephConf } = site.context
  const image = `${pool}/by-hand`
  const elapsedMs = await timed(async () => {
    await runRbd(['create', '--size', `${sizeMB}M`, image], cephConf)
    await tgtadm.expose(byHand, image)
    await logIn(urlOf(site, byHand))
  }).finally(() => tgtadm.remove())
  await runRbd(['rm', '--no-progress', image], cephConf)
  return elapsedMs
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begunAt = performance.now()
  await work()
  return performance.now() - begunAt
}
