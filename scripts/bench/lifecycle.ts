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

export interface Scale {
  /**
   * How many processes of each client there are, one after the other: what one gets by luck, as the place of its memory
   * and its threads, is worth as much as what is compared.
   */
  processes: number
  /** How often images go through life, after one time that is not counted. */
  lives: number
  /**
   * How many do so together. Each operation on all of them is one turn: long enough that the caches of a processor are not
   * most of it, and short enough that a machine that is slower for a second is so for both.
   */
  images: number
  /** The same with many in flight. */
  rateLives: number
  rateImages: number
  /** How often it is the `rbd` command's turn, with one image. */
  commands: number
}
const full: Scale = { processes: 5, lives: 2, images: 20, rateLives: 3, rateImages: 192, commands: 20 }
const quick: Scale = { processes: 2, lives: 1, images: 12, rateLives: 2, rateImages: 64, commands: 5 }

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
  const start = {
    cephkit: () => Client.start(cephkitProgram('lifecycle-client.js', ...args), cephConf, signal),
    python: () => Client.start(pythonProgram('lifecycle_client.py', ...args), cephConf, signal),
  }
  const command = new RbdCommand(`${pool}/${namespace}`, 'cephkit-golden@base', cephConf, signal)
  await prepare(start)
  return [
    ...(await oneAfterTheOther(start, scale)),
    ...(await besideCommand(start, command, scale)),
    ...(await manyInFlight(start, scale)),
  ]
}

interface Start {
  cephkit(): Promise<Client>
  python(): Promise<Client>
}

async function prepare(start: Start): Promise<void> {
  for (const begin of [start.cephkit, start.python]) {
    await using client = await begin()
    await client.call('prepare')
  }
}

async function oneAfterTheOther(start: Start, { processes, lives, images }: Scale): Promise<Row[]> {
  const { ours, theirs, peerName } = await measureBoth(start, processes, lives, images, 1)
  return [...latencies(ours, theirs, peerName, costNeed), cpu('one after the other', ours, theirs, images, peerName)]
}

/** Apart from the other comparison: what starts a process leaves cold caches to whoever comes next. */
async function besideCommand(start: Start, command: RbdCommand, { commands }: Scale): Promise<Row[]> {
  await using cephkit = await start.cephkit()
  await live(cephkit, 1, 1)
  const [ours, theirs] = await alternate(commands, [
    () => live(cephkit, 1, 1),
    () => eachOperation(operation => command.measure(operation)),
  ])
  return latencies(ours, theirs, command.name, null)
}

async function manyInFlight(start: Start, { processes, rateLives, rateImages }: Scale): Promise<Row[]> {
  const { ours, theirs, peerName } = await measureBoth(start, processes, rateLives, rateImages, inFlight)
  const rows = timed.map(({ operation, title }) =>
    compare({
      part: 'lifecycle',
      load: `${title}; ${inFlight} in flight`,
      metric: 'rate',
      unit: 'ops/s',
      better: 'more',
      ours: rate(ours, operation, rateImages),
      peer: rate(theirs, operation, rateImages),
      peerName: `${peerName}, ${inFlight} threads`,
      need: rateNeed,
    }),
  )
  return [...rows, cpu(`${inFlight} in flight`, ours, theirs, rateImages, `${peerName}, ${inFlight} threads`)]
}

interface Both {
  ours: Life<Measurement>[]
  theirs: Life<Measurement>[]
  peerName: string
}

async function measureBoth(
  start: Start,
  processes: number,
  lives: number,
  images: number,
  atATime: number,
): Promise<Both> {
  const both: Both = { ours: [], theirs: [], peerName: '' }
  for (let i = 0; i < processes; i++) {
    await using cephkit = await start.cephkit()
    await using python = await start.python()
    // Connections, threads and compiled code come to be in the first.
    await liveTogether([cephkit, python], images, atATime, i)
    for (let turn = i; turn < i + lives; turn++) {
      const [ours, theirs] = await liveTogether([cephkit, python], images, atATime, turn)
      if (ours) both.ours.push(ours)
      if (theirs) both.theirs.push(theirs)
    }
    both.peerName = python.name
  }
  return both
}

/** Each operation is done by one after the other, and the next begins with another one. */
async function liveTogether(
  clients: readonly Client[],
  images: number,
  atATime: number,
  from: number,
): Promise<Life<Measurement>[]> {
  const lives = clients.map((): Partial<Life<Measurement | undefined>> => ({}))
  for (const [i, { operation }] of life.entries()) {
    const turns = clients.map(client => () => client.call<Measurement>('measure', operation, images, atATime))
    const measured = await alternate(1, turns, from + i)
    for (const [side, each] of lives.entries()) each[operation] = measured[side]?.[0]
  }
  return lives as Life<Measurement>[]
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
