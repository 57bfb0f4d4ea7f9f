/**
 * The agent: how many volumes a second it makes from a catalog image, jobs and results by way of the broker. Beside the
 * bare library doing the same in RBD, as many at once, in a process of its own; and what the journal adds to each job.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Cluster, MiB } from '../../lib/index.js'
import { importCatalogImage } from '../../src/agent/index.js'
import type { Usage } from './agent-client.js'
import { ControlPlane } from './agent-control.js'
import type { JournalCost } from './agent-service.js'
import { Client, cephkitProgram } from './client.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'
import { operationsOf } from './osd.js'

export interface Scale {
  /** How many jobs the agent has in hand at once, and how many there are in a turn. */
  loads: { prefetch: number; jobs: number }[]
  /** How often it is each one's turn, after one turn that is not counted. */
  turns: number
  /** How many jobs are done one after the other to see what the journal costs. */
  counted: number
}
const full: Scale = {
  loads: [
    { prefetch: 10, jobs: 160 },
    { prefetch: 64, jobs: 256 },
  ],
  turns: 9,
  counted: 20,
}
const quick: Scale = {
  loads: [
    { prefetch: 10, jobs: 30 },
    { prefetch: 64, jobs: 80 },
  ],
  turns: 5,
  counted: 10,
}

/** Of the rate of the bare library. */
const need = 0.6

/** The last of what a job writes to the journal comes after its result. */
const settlingMs = 500

const imageId = 'golden'
const goldenBytes = 64 * MiB
/** More than the catalog image has, as is usual. */
const sizeMB = 1024

export const agent: Part = {
  name: 'agent',
  measure: context => measureAgent(context, context.quick ? quick : full),
}

export async function measureAgent(context: Context, { loads, turns, counted }: Scale): Promise<Row[]> {
  const { cluster, namespace, cephConf, signal } = context
  const brokerUrl = await context.brokerUrl()
  // Pools of its own, as an agent has whole ones.
  const pools = { volumes: `${namespace}.volumes`, catalog: `${namespace}.catalog` }
  try {
    await makePools(cluster, pools)
    const rows: Row[] = []
    let costs: JournalCost | undefined
    for (const { prefetch, jobs } of loads) {
      await using control = await ControlPlane.open(brokerUrl, `${namespace}-${prefetch}`)
      await using service = await Client.start(cephkitProgram('agent-service.js'), cephConf, signal)
      await using library = await Client.start(libraryProgram(pools), cephConf, signal)
      await service.call('start', settingsOf(control, pools, prefetch))
      const sides = new Sides(context, { control, service, library })
      rows.push(...(await rateRows(sides, prefetch, jobs, turns)))
      costs ??= await sides.journalCost(counted)
    }
    return costs ? [...rows, journalRow(costs)] : rows
  } finally {
    for (const pool of Object.values(pools)) {
      if ((await cluster.listPools()).includes(pool)) await cluster.deletePool(pool)
    }
  }
}

interface Pools {
  volumes: string
  catalog: string
}

const libraryProgram = ({ volumes, catalog }: Pools) =>
  cephkitProgram('agent-client.js', volumes, catalog, imageId, String(sizeMB))

const settingsOf = ({ settings }: ControlPlane, pools: Pools, prefetch: number) => ({
  ...settings,
  PREFETCH_COUNT: String(prefetch),
  CEPH_DEFAULT_POOL: pools.volumes,
  CEPH_CATALOG_POOL: pools.catalog,
})

async function makePools(cluster: Cluster, pools: Pools): Promise<void> {
  for (const name of Object.values(pools)) {
    await cluster.createPool(name)
    await using pool = await cluster.openPool(name)
    await pool.initialize()
  }
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
  try {
    const file = join(folder, 'golden.raw')
    await writeFile(file, Buffer.alloc(goldenBytes, 1))
    await using catalog = await cluster.openPool(pools.catalog)
    await importCatalogImage(catalog, imageId, file)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Of one turn. */
interface Measured extends Usage {
  jobs: number
  /** What the OSDs have done meanwhile. */
  operations: number
}

async function rateRows(sides: Sides, prefetch: number, jobs: number, turns: number): Promise<Row[]> {
  // Connections, threads and compiled code come to be in the first.
  await sides.byAgent(jobs)
  await sides.byLibrary(jobs, prefetch)
  const [ours, theirs] = await alternate(turns, [() => sides.byAgent(jobs), () => sides.byLibrary(jobs, prefetch)])
  const row = (
    metric: string,
    unit: string,
    better: 'less' | 'more',
    of: (turn: Measured) => number,
    need: number | null,
  ) =>
    compare({
      ...{ part: 'agent', load: `storage.create from the catalog, prefetch ${prefetch}`, metric, unit, better, need },
      ours: median(ours.map(of)),
      peer: median(theirs.map(of)),
      peerName: `bare library, ${prefetch} at once`,
    })
  return [
    row('rate', 'jobs/s', 'more', ({ jobs, elapsedMs }) => (jobs / elapsedMs) * 1000, need),
    row('client CPU', 'ms', 'less', ({ jobs, cpuMs }) => cpuMs / jobs, null),
    row('OSD operations a job', '', 'less', ({ jobs, operations }) => operations / jobs, null),
  ]
}

function journalRow({ roundTrips, operations }: JournalCost): Row {
  return compare({
    part: 'agent',
    load: 'storage.create from the catalog, one after the other',
    metric: 'journal, round trips a job',
    unit: '',
    better: 'less',
    ours: roundTrips,
    peer: operations,
    peerName: 'its RADOS operations',
    need: null,
  })
}

interface Processes {
  control: ControlPlane
  service: Client
  library: Client
}

/** An agent with its control plane, and the library. What each has made is taken away in nobody's time. */
class Sides {
  readonly #context: Context
  readonly #processes: Processes

  constructor(context: Context, processes: Processes) {
    this.#context = context
    this.#processes = processes
  }

  byAgent(jobs: number): Promise<Measured> {
    const { service } = this.#processes
    return this.#turn(jobs, async () => {
      const before = await service.call<number>('cpuMs')
      const elapsedMs = await this.#create(jobs)
      return { elapsedMs, cpuMs: (await service.call<number>('cpuMs')) - before }
    })
  }

  byLibrary(jobs: number, atOnce: number): Promise<Measured> {
    return this.#turn(jobs, () => this.#processes.library.call<Usage>('create', jobs, atOnce))
  }

  /** Of one job, when there are no others. */
  async journalCost(jobs: number): Promise<JournalCost> {
    const { service, library } = this.#processes
    await service.call('listen')
    for (let i = 0; i < jobs; i++) {
      await this.#create(1)
      await delay(settlingMs)
    }
    const { roundTrips, operations } = await service.call<JournalCost>('heard')
    await library.call('clear')
    return { roundTrips: roundTrips / jobs, operations: operations / jobs }
  }

  #create(jobs: number): Promise<number> {
    const data = { name: 'web', imageId, sizeMB }
    return this.#processes.control.perform('storage.create', data, jobs, this.#context.signal)
  }

  async #turn(jobs: number, work: () => Promise<Usage>): Promise<Measured> {
    const { cluster } = this.#context
    const before = await operationsOf(cluster)
    const usage = await work()
    const operations = (await operationsOf(cluster)) - before
    await this.#processes.library.call('clear')
    return { ...usage, jobs, operations }
  }
}
