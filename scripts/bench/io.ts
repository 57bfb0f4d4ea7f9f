/**
 * Reading and writing an image: rates and what an operation costs the client, beside fio's rbd engine and the
 * asynchronous calls of python3-rbd, at one queue depth after the other.
 */
import { KiB, MiB } from '../../lib/index.js'
import { Client, cephkitProgram, pythonProgram } from './client.js'
import { createImage, fillImage } from './filled-image.js'
import { measureByFio } from './fio.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'
import type { IoMeasurement, Kind, Load } from './io-client.js'

export interface Scale {
  /** Of the image, in bytes. */
  size: number
  depths: readonly number[]
  /** How many processes of each client there are, one after the other, where a ratio is asked for; else one. */
  processes: number
  /** How often it is each one's turn with a process. Many short ones: what disturbs a machine hits all alike then. */
  turns: number
  /** How long a turn is. */
  seconds: number
}
const full: Scale = { size: 512 * MiB, depths: [1, 2, 4, 8, 16, 32, 64, 128], processes: 2, turns: 5, seconds: 0.4 }
const quick: Scale = { size: 64 * MiB, depths: [1, 32], processes: 1, turns: 3, seconds: 0.2 }

/** A client is slow at first: JavaScript is compiled as it runs. */
const warmUpSeconds = 0.3

export const titles = {
  randread: '4 KiB random read',
  randwrite: '4 KiB random write',
  read: '4 MiB sequential read',
  write: '4 MiB sequential write',
} as const satisfies Record<Kind, string>

export const io: Part = {
  name: 'io',
  measure: context => measureIo(context, context.quick ? quick : full),
}

export async function measureIo(context: Context, scale: Scale): Promise<Row[]> {
  // Not in the run's namespace, as fio's engine knows none.
  await using pool = await context.cluster.openPool(context.pool)
  const image = context.namespace
  try {
    await createImage(pool, image, scale.size)
    const rows: Row[] = []
    for (const load of loadsOf(scale)) {
      await fillImage(pool, image)
      const { cephkit, fio, python } = await measure(context, image, load, scale)
      rows.push(...rowsOf(load, cephkit, fio, 'fio'), ...rowsOf(load, cephkit, python, 'python3-rbd'))
    }
    return rows
  } finally {
    await pool.removeImage(image)
  }
}

function loadsOf({ depths }: Scale): Load[] {
  return [
    ...(['randread', 'randwrite'] as const).flatMap(kind => depths.map(depth => ({ kind, blockSize: 4 * KiB, depth }))),
    ...(['read', 'write'] as const).map(kind => ({ kind, blockSize: 4 * MiB, depth: 8 })),
  ]
}

type Measured = Record<'cephkit' | 'fio' | 'python', IoMeasurement[]>

async function measure(context: Context, image: string, load: Load, scale: Scale): Promise<Measured> {
  const { pool, cephConf, signal } = context
  const { processes, turns, seconds } = scale
  const measured: Measured = { cephkit: [], fio: [], python: [] }
  for (let process = 0; process < (isAskedFor(load) ? processes : 1); process++) {
    await using cephkit = await Client.start(cephkitProgram('io-client.js', pool, image), cephConf, signal)
    await using python = await Client.start(pythonProgram('io_client.py', pool, image), cephConf, signal)
    for (const client of [cephkit, python]) await client.call('measure', load, warmUpSeconds)
    const [ours, fios, pythons] = await alternate(turns, [
      () => cephkit.call<IoMeasurement>('measure', load, seconds),
      () => measureByFio({ pool, image, cephConf }, load, seconds),
      () => python.call<IoMeasurement>('measure', load, seconds),
    ])
    measured.cephkit.push(...ours)
    measured.fio.push(...fios)
    measured.python.push(...pythons)
  }
  return measured
}

/** The ratios that are asked for. Null: the figure is only told. Undefined: not even that. */
interface Needs {
  rate: number | null
  cpu?: number
}

function needsOf({ kind, depth }: Load, peerName: string): Needs {
  if (!kind.startsWith('rand')) return { rate: peerName === 'fio' ? 0.97 : null }
  if (peerName === 'fio' && [1, 32, 128].includes(depth)) return { rate: 0.95, cpu: 1 / 1.3 }
  if (peerName === 'python3-rbd' && depth === 32) return { rate: 1.1, cpu: 1 }
  return { rate: null }
}

function isAskedFor(load: Load): boolean {
  return needsOf(load, 'fio').rate !== null
}

function rowsOf(load: Load, ours: IoMeasurement[], peers: IoMeasurement[], peerName: string): Row[] {
  const needs = needsOf(load, peerName)
  const row = (
    figures: { metric: string; unit: string; better: 'less' | 'more'; need: number | null },
    of: (measurement: IoMeasurement) => number,
  ) =>
    compare({
      ...{ part: 'io', load: `${titles[load.kind]}, depth ${load.depth}`, peerName, ...figures },
      ours: median(ours.map(of)),
      peer: median(peers.map(of)),
    })
  const perSecond = ({ operations, elapsedMs }: IoMeasurement) => (operations / elapsedMs) * 1000
  const rate = load.kind.startsWith('rand')
    ? row({ metric: 'rate', unit: 'IOPS', better: 'more', need: needs.rate }, perSecond)
    : row({ metric: 'bandwidth', unit: 'MiB/s', better: 'more', need: needs.rate }, measurement => {
        return (perSecond(measurement) * load.blockSize) / MiB
      })
  if (needs.cpu === undefined) return [rate]
  const cpu = { metric: 'client CPU', unit: 'us/op', better: 'less', need: needs.cpu } as const
  return [rate, row(cpu, ({ cpuMs, operations }) => (cpuMs * 1000) / operations)]
}
