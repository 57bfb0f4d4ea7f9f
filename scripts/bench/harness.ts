/** What all parts of the benchmark share: rows, statistics, rounds, and the table. */
import { cpus, release, totalmem } from 'node:os'
import { type Cluster, Image } from '../../lib/index.js'

/** One figure of ours beside the same figure of a peer, both from this run. */
export interface Row {
  part: string
  /** What was done, and how much of it at a time. */
  load: string
  metric: string
  unit: string
  ours: number
  peer: number
  peerName: string
  /** Above 1 we are better, whichever way the metric counts. */
  ratio: number
  /** The ratio asked for, or null for a figure that is only told. */
  need: number | null
  ok: boolean
}

export interface Comparison extends Omit<Row, 'ratio' | 'ok'> {
  better: 'less' | 'more'
}

/** Where a run takes place. */
export interface Place {
  cluster: Cluster
  /** The configuration file, for clients that are processes of their own. */
  cephConf: string
  pool: string
  /** The run's own: whatever is in it at the end is removed. */
  namespace: string
  /** A broker, for whoever needs one: from then on it takes some of the processor's time, too. */
  brokerUrl(): Promise<string>
  /** The settings by which a tgtd is reached, for whoever needs one. */
  tgtSettings(): Promise<Record<string, string>>
  /** A CephFS in the cluster. Answers the configuration file: with it the cluster has one. */
  fileSystem(): Promise<string>
}

export interface Context extends Place {
  quick: boolean
  /** Aborted when the run is interrupted. */
  signal: AbortSignal
}

export interface Part {
  name: string
  measure(context: Context): Promise<Row[]>
}

export function compare({ better, ...figures }: Comparison): Row {
  const { ours, peer, need } = figures
  const ratio = better === 'more' ? ours / peer : peer / ours
  return { ...figures, ratio, ok: need === null || ratio >= need }
}

/** The smallest value that at least `percent` of the values do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const value = sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]
  if (value === undefined) throw new RangeError('no values to take a percentile of')
  return value
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[Math.floor(sorted.length / 2)]]
  if (low === undefined || high === undefined) throw new RangeError('no values to take the median of')
  return (low + high) / 2
}

type Turn = () => Promise<unknown>
type Results<Turns extends readonly Turn[]> = { -readonly [I in keyof Turns]: Awaited<ReturnType<Turns[I]>>[] }

/**
 * Gives each its turn in every round, and each round begins with another: what changes on the machine in the course of
 * a run hits all of them alike. Answers what each turn has answered, by side.
 *
 * @param from - The number of the first round, for one who has rounds of several kinds. Default: 0.
 */
export async function alternate<const Turns extends readonly Turn[]>(
  rounds: number,
  turns: Turns,
  from = 0,
): Promise<Results<Turns>> {
  const results: unknown[][] = turns.map(() => [])
  for (let round = from; round < from + rounds; round++) {
    for (let i = 0; i < turns.length; i++) {
      const side = (round + i) % turns.length
      results[side]?.push(await turns[side]?.())
    }
  }
  return results as Results<Turns>
}

/** Figures to four digits: more would only be noise. */
export function toJson(rows: readonly Row[]): string {
  const round = (value: number) => Number(value.toPrecision(4))
  return JSON.stringify(
    rows.map(row => ({ ...row, ours: round(row.ours), peer: round(row.peer), ratio: round(row.ratio) })),
    null,
    2,
  )
}

const columns: { title: string; right: boolean; cell: (row: Row) => string }[] = [
  { title: 'load', right: false, cell: row => row.load },
  { title: 'metric', right: false, cell: row => row.metric },
  { title: 'cephkit', right: true, cell: row => `${figure(row.ours)} ${row.unit}` },
  { title: 'peer', right: true, cell: row => `${figure(row.peer)} ${row.unit}` },
  { title: 'peer is', right: false, cell: row => row.peerName },
  { title: 'ratio', right: true, cell: row => row.ratio.toFixed(2) },
  { title: 'needs', right: true, cell: row => (row.need === null ? '' : row.need.toFixed(2)) },
  { title: '', right: false, cell: row => (row.need === null ? '' : row.ok ? 'ok' : 'SHORT') },
]

export function toTable(rows: readonly Row[]): string {
  const lines = [columns.map(({ title }) => title), ...rows.map(row => columns.map(({ cell }) => cell(row)))]
  const widths = columns.map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  const pad = (cell: string, column: number) => {
    const width = widths[column] ?? 0
    return columns[column]?.right ? cell.padStart(width) : cell.padEnd(width)
  }
  return lines.map(line => line.map(pad).join('  ').trimEnd()).join('\n')
}

function figure(value: number): string {
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)
}

/** For above the table, as figures mean something only beside what they are from. */
export async function describe(cluster: Cluster): Promise<string> {
  const memory = Math.round(totalmem() / 2 ** 30)
  const { version } = await cluster.monCommand<{ version: string }>({ prefix: 'version' })
  const osds = await cluster.monCommand<{ num_osds: number }>({ prefix: 'osd stat' })
  return [
    `${cpus().length} x ${cpus()[0]?.model.trim()}, ${memory} GiB, Linux ${release()}`,
    `Node.js ${process.versions.node}, librbd ${Image.libraryVersion}`,
    `cluster: ${version}, OSDs: ${osds.num_osds}`,
  ].join('\n')
}
