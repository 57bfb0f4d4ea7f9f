/**
 * What it costs to learn about all images of a pool: sizes, parents, snapshots and features, beside `rbd ls -l`; and
 * how much each uses, beside `rbd du`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { Client, cephkitProgram } from './client.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'
import { operationsOf } from './osd.js'

/** One listing of all images, its connection included. */
export interface Listing {
  images: number
  seconds: number
  /** The most memory that the whole process has had. */
  peakBytes: number
}

export interface Scale {
  /** How often it is each one's turn. */
  turns: number
  /** How many images are listed. */
  listed: number
  /** Of how many the use is asked. */
  used: number
}
const full: Scale = { turns: 5, listed: 10_000, used: 1000 }
const quick: Scale = { turns: 3, listed: 400, used: 80 }

const need = 5

export const listing: Part = {
  name: 'listing',
  measure: context => measureListing(context, context.quick ? quick : full),
}

export async function measureListing(context: Context, { turns, listed, used }: Scale): Promise<Row[]> {
  const { pool, namespace, cephConf, signal } = context
  const start = () => Client.start(cephkitProgram('listing-client.js', pool, namespace), cephConf, signal)
  // Apart, because making images takes more memory than listing them.
  await using maker = await start()
  await using cephkit = await start()
  const place = ['--pool', pool, '--namespace', namespace, '--format', 'json']
  const beside = (name: string, args: string[], rowsOf: (output: string) => ImageRow[]) => ({
    name,
    list: () => listByRbd([...args, ...place], cephConf, rowsOf),
  })
  const du = beside('rbd du', ['du'], output => JSON.parse(output).images)
  const ls = beside('rbd ls -l', ['ls', '-l'], output => JSON.parse(output))
  try {
    // One image more is the one that the clones are of.
    await maker.call('prepare', 0, used - 1)
    const usage = await measureBoth(context, turns, used, () => cephkit.call<Listing>('usage'), du)
    await maker.call('prepare', used - 1, listed - 1)
    const details = await measureBoth(context, turns, listed, () => cephkit.call<Listing>('details'), ls)
    return [
      ...rows(`list ${listed} images: size, parent, snapshots, features`, details, ls.name, listed),
      ...rows(`used bytes of ${used} images`, usage, du.name, used),
    ]
  } finally {
    // Here, because one after the other takes much longer.
    await maker.call('clear', listed - 1)
  }
}

/** Some of the columns of `rbd`: of an image, and of a snapshot. */
interface ImageRow {
  snapshot?: string
}

/** `rbd` closes images at snapshots as soon as they are open, of which librbd 16.2 dies now and then: then it is tried again. */
async function listByRbd(
  args: string[],
  cephConf: string,
  rowsOf: (output: string) => ImageRow[],
  tries = 6,
): Promise<Listing> {
  const start = performance.now()
  // In a group of its own, so that Ctrl-C does not end it in the middle.
  const rbd = spawn('rbd', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CEPH_CONF: cephConf },
    detached: true,
  })
  // At once too, for it may be done before the first tick.
  let peakBytes = peakOf(rbd.pid) ?? 0
  const watching = setInterval(() => {
    peakBytes = peakOf(rbd.pid) ?? peakBytes
  }, 50)
  const [output, said, [status, signal]] = await Promise.all([text(rbd.stdout), text(rbd.stderr), once(rbd, 'close')])
  clearInterval(watching)
  if (signal !== null && tries > 1) return listByRbd(args, cephConf, rowsOf, tries - 1)
  if (status !== 0) throw new Error(`rbd ${args.join(' ')}: ${said.trim()}`)
  const seconds = (performance.now() - start) / 1000
  return { images: rowsOf(output).filter(({ snapshot }) => snapshot === undefined).length, seconds, peakBytes }
}

/** Undefined for a process that has ended. */
function peakOf(pid: number | undefined): number | undefined {
  try {
    const [, kibibytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return undefined
    throw error
  }
}

interface Measured extends Listing {
  /** What the OSDs were asked. */
  operations: number
}

async function measureBoth(
  { cluster, signal }: Context,
  turns: number,
  images: number,
  ours: () => Promise<Listing>,
  peer: { name: string; list: () => Promise<Listing> },
): Promise<[Measured[], Measured[]]> {
  const measured = async (name: string, list: () => Promise<Listing>): Promise<Measured> => {
    signal.throwIfAborted()
    const before = await operationsOf(cluster)
    const listed = await list()
    if (listed.images !== images) throw new Error(`${name} listed ${listed.images} of ${images} images`)
    return { ...listed, operations: (await operationsOf(cluster)) - before }
  }
  return alternate(turns, [() => measured('cephkit', ours), () => measured(peer.name, peer.list)])
}

function rows(load: string, [ours, theirs]: [Measured[], Measured[]], peerName: string, images: number): Row[] {
  const row = (metric: string, unit: string, need: number | null, of: (measured: Measured) => number) =>
    compare({
      ...{ part: 'listing', load, metric, unit, better: 'less', peerName, need },
      ours: median(ours.map(of)),
      peer: median(theirs.map(of)),
    })
  return [
    row('time', 's', need, ({ seconds }) => seconds),
    row('round trips an image', '', null, ({ operations }) => operations / images),
    row('peak memory', 'MiB', null, ({ peakBytes }) => peakBytes / 2 ** 20),
  ]
}
