/**
 * What else a process gets to do while cephkit keeps it busy: how long an event waits for the event loop, and that
 * memory does not grow.
 */
import { MiB } from '../../lib/index.js'
import { Client, cephkitProgram } from './client.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'
import type { Delays } from './loop-client.js'

export interface Scale {
  /** Of the image, in bytes. */
  size: number
  /** How often the delays are measured, and for how long. */
  turns: number
  seconds: number
  /** How long memory is watched. */
  memorySeconds: number
}
const full: Scale = { size: 256 * MiB, turns: 5, seconds: 5, memorySeconds: 60 }
const quick: Scale = { size: 128 * MiB, turns: 3, seconds: 1, memorySeconds: 24 }

const inFlight = 1000
/** More than an idle loop has. */
const allowedMs = 10

const memoryDepth = 128
/** As large as V8 makes it by itself, some ten seconds into a load: 25 MiB more, once, which are no leak of cephkit's. */
const youngGeneration = ['--min-semi-space-size=16']
/** Memory may grow in the first; the last is beside the second. */
const memoryIntervals = 12
const samplesPerInterval = 10

export const loop: Part = {
  name: 'loop',
  measure: context => measureLoop(context, context.quick ? quick : full),
}

export async function measureLoop(context: Context, scale: Scale): Promise<Row[]> {
  const { pool, namespace, cephConf, signal } = context
  const program = cephkitProgram('loop-client.js', pool, namespace, 'loop')
  const grown = { ...program, args: [...youngGeneration, ...program.args] }
  const start = () => Client.start(program, cephConf, signal)
  {
    await using client = await start()
    await client.call('prepare', scale.size)
  }
  return [...(await delayRows(start, scale)), await memoryRow(() => Client.start(grown, cephConf, signal), scale)]
}

async function delayRows(start: () => Promise<Client>, { turns, seconds }: Scale): Promise<Row[]> {
  await using client = await start()
  const delays = (depth: number) => () => client.call<Delays>('delays', depth, seconds)
  await delays(inFlight)()
  const [idle, busy] = await alternate(turns, [delays(0), delays(inFlight)])
  const row = (metric: string, of: (delays: Delays) => number, allowed: number, need: number | null) =>
    compare({
      ...{
        part: 'loop',
        load: `4 KiB reads and writes, ${inFlight} in flight`,
        metric,
        unit: 'ms',
        better: 'less',
        need,
      },
      ours: median(busy.map(of)),
      peer: median(idle.map(of)) + allowed,
      peerName: allowed === 0 ? 'idle loop' : `idle loop + ${allowed} ms`,
    })
  return [
    row('event-loop delay p99', ({ p99 }) => p99, allowedMs, 1),
    row('event-loop delay p99', ({ p99 }) => p99, 0, null),
    row('longest event-loop delay', ({ max }) => max, 0, null),
  ]
}

/** In a process of its own, as a new one is what grows. */
async function memoryRow(start: () => Promise<Client>, { memorySeconds }: Scale): Promise<Row> {
  await using client = await start()
  const samples = await client.call<number[]>(
    'memory',
    memoryDepth,
    memoryIntervals * samplesPerInterval,
    memorySeconds / memoryIntervals / samplesPerInterval,
  )
  const meanMiB = (interval: number) => {
    const own = samples.slice(interval * samplesPerInterval, (interval + 1) * samplesPerInterval)
    return own.reduce((sum, bytes) => sum + bytes, 0) / own.length / MiB
  }
  const interval = memorySeconds / memoryIntervals
  return compare({
    part: 'loop',
    load: `4 KiB reads and writes, ${memoryDepth} in flight for ${memorySeconds} s`,
    metric: `resident memory, mean of the last ${interval} s`,
    unit: 'MiB',
    better: 'less',
    ours: meanMiB(memoryIntervals - 1),
    peer: meanMiB(1),
    peerName: `the same from ${interval} s to ${2 * interval} s`,
    need: 0.95,
  })
}
