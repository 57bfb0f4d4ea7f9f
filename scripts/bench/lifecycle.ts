/**
 * The life of an image: what create, open, resize, snapshot, clone and remove cost one after the other, and how many a
 * second there are with 64 in flight. Beside python3-rbd, and the `rbd` command.
 */
import { Client, cephkitProgram, pythonProgram } from './client.js'
import { alternate, type Context, compare, median, type Part, percentile, type Row } from './harness.js'
import { RbdCommand } from './rbd-command.js'

export interface Latencies {
  latenciesMs: number[]
}

/** What a client answers that has done one operation on some images. */
export interface Measurement extends Latencies {
  elapsedMs: number
  /** Of the whole process, user and system, the library's own threads included. */
  cpuMs: number
}

/** In the order of a life. What has no title is not timed: it only takes back what was done before. */
const life = [
  { operation: 'create', title: 'create' },
  { operation: 'resize', title: 'open, resize, close' },
  { operation: 'snapshot', title: 'open, snapshot, protect' },
  { operation: 'dropSnapshot', title: '' },
  { operation: 'clone', title: 'clone' },
  { operation: 'dropClone', title: '' },
  { operation: 'remove', title: 'remove' },
] as const
const timed = life.filter(({ title }) => title !== '')

export type Operation = (typeof life)[number]['operation']
type Life<M> = Record<Operation, M>

/** How often it is a client's turn, and how many images go through life in one. */
export interface Scale {
  turns: number
  images: number
  /** One image a turn. */
  commands: number
  rateTurns: number
  rateImages: number
}
const full: Scale = { turns: 50, images: 4, commands: 20, rateTurns: 5, rateImages: 256 }
const quick: Scale = { turns: 12, images: 3, commands: 5, rateTurns: 5, rateImages: 64 }

const inFlight = 64

/** A cost of at most 1.05 times the peer's. */
const costNeed = 1 / 1.05
/** At least the peer's rate. */
const rateNeed = 1

export const lifecycle: Part = {
  name: 'lifecycle',
  measure: context => measureLifecycle(context, context.quick ? quick : full),
}

export async function measureLifecycle(context: Context, scale: Scale): Promise<Row[]> {
  const { pool, namespace, cephConf, signal } = context
  const args = [pool, namespace]
  await using cephkit = await Client.start(cephkitProgram('lifecycle-client.js', ...args), cephConf, signal)
  await using python = await Client.start(pythonProgram('lifecycle_client.py', ...args), cephConf, signal)
  await cephkit.call('prepare')
  await python.call('prepare')
  const command = new RbdCommand(`${pool}/${namespace}`, 'cephkit-golden@base', cephConf, signal)
  return [
    ...(await oneAfterTheOther(cephkit, python, scale)),
    ...(await besideCommand(cephkit, command, scale)),
    ...(await manyInFlight(cephkit, python, scale)),
  ]
}

async function oneAfterTheOther(cephkit: Client, python: Client, { turns, images }: Scale): Promise<Row[]> {
  await liveBoth(cephkit, python, images, 1)
  const [ours, theirs] = await alternate(turns, [() => live(cephkit, images, 1), () => live(python, images, 1)])
  return [
    ...latencies(ours, theirs, python.name, costNeed),
    cpu('one after the other', ours, theirs, images, python.name),
  ]
}

/** Apart from the other comparison: what starts a process leaves cold caches to whoever comes next. */
async function besideCommand(cephkit: Client, command: RbdCommand, { commands }: Scale): Promise<Row[]> {
  const [ours, theirs] = await alternate(commands, [
    () => live(cephkit, 1, 1),
    () => eachOperation(operation => command.measure(operation)),
  ])
  return latencies(ours, theirs, command.name, null)
}

async function manyInFlight(cephkit: Client, python: Client, { rateTurns, rateImages }: Scale): Promise<Row[]> {
  await liveBoth(cephkit, python, rateImages, inFlight)
  const [ours, theirs] = await alternate(rateTurns, [
    () => live(cephkit, rateImages, inFlight),
    () => live(python, rateImages, inFlight),
  ])
  const rows = timed.map(({ operation, title }) =>
    compare({
      part: 'lifecycle',
      load: `${title}; ${inFlight} in flight`,
      metric: 'rate',
      unit: 'ops/s',
      better: 'more',
      ours: rate(ours, operation, rateImages),
      peer: rate(theirs, operation, rateImages),
      peerName: `${python.name}, ${inFlight} threads`,
      need: rateNeed,
    }),
  )
  return [...rows, cpu(`${inFlight} in flight`, ours, theirs, rateImages, `${python.name}, ${inFlight} threads`)]
}

/** The first life is not measured: connections, threads and compiled code come to be in it. */
async function liveBoth(cephkit: Client, python: Client, images: number, atATime: number): Promise<void> {
  await live(cephkit, images, atATime)
  await live(python, images, atATime)
}

function live(client: Client, images: number, atATime: number): Promise<Life<Measurement>> {
  return eachOperation(operation => client.call<Measurement>('measure', operation, images, atATime))
}

async function eachOperation<M>(measure: (operation: Operation) => Promise<M>): Promise<Life<M>> {
  const measured: Partial<Life<M>> = {}
  for (const { operation } of life) measured[operation] = await measure(operation)
  return measured as Life<M>
}

function latencies(ours: Life<Latencies>[], theirs: Life<Latencies>[], peerName: string, need: number | null): Row[] {
  return timed.map(({ operation, title }) =>
    compare({
      part: 'lifecycle',
      load: `${title}; one after the other`,
      metric: 'p50',
      unit: 'ms',
      better: 'less',
      ours: latency(ours, operation),
      peer: latency(theirs, operation),
      peerName,
      need,
    }),
  )
}

const latency = (lives: Life<Latencies>[], operation: Operation) =>
  percentile(
    lives.flatMap(measured => measured[operation].latenciesMs),
    50,
  )

const rate = (lives: Life<Measurement>[], operation: Operation, images: number) =>
  median(lives.map(measured => (images / measured[operation].elapsedMs) * 1000))

function cpu(load: string, ours: Life<Measurement>[], theirs: Life<Measurement>[], images: number, peerName: string) {
  const perImage = (measured: Life<Measurement>) =>
    timed.reduce((sum, { operation }) => sum + measured[operation].cpuMs, 0) / images
  return compare({
    part: 'lifecycle',
    load: `all of these; ${load}`,
    metric: 'client CPU',
    unit: 'ms',
    better: 'less',
    ours: median(ours.map(perImage)),
    peer: median(theirs.map(perImage)),
    peerName,
    need: null,
  })
}
