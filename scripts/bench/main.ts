/** `npm run bench -- [part...]`: cephkit beside its peers, on one cluster, in one run. */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { agent } from './agent.js'
import { cephfs } from './cephfs.js'
import { toChart } from './chart.js'
import { withPlace } from './cluster.js'
import { describe, type Part, type Row, toJson, toTable } from './harness.js'
import { io } from './io.js'
import { iscsi } from './iscsi.js'
import { lifecycle } from './lifecycle.js'
import { listing } from './listing.js'
import { loop } from './loop.js'
import { streams } from './streams.js'

/** Those with an agent come last: it needs a broker, which is never quite idle. */
const parts: Part[] = [lifecycle, listing, streams, io, loop, cephfs, agent, iscsi]

const usage = `Usage: npm run bench -- [part...] [--quick] [--json] [--chart FILE]

Parts: ${parts.map(({ name }) => name).join(', ')}. Without one, all.

  --quick       less of everything, for a run under a minute
  --json        print the figures as one JSON array
  --chart FILE  draw what io has measured, as an SVG

Runs on the cluster that CEPH_CONF names, in a namespace of its own of the pool that rbd uses by default; without
CEPH_CONF on a development stack, started for the run. The parts agent and iscsi make pools of their own, which the cluster
must allow to be removed, and use the broker that BROKER_URL names; iscsi uses the tgtd of TGT_IPC_SOCKET, too. The part cephfs
uses a CephFS of the cluster, and ceph-fuse.`

/** Something to tell the user in one line. */
class BenchError extends Error {}

function parse(args: string[]) {
  const options = {
    quick: { type: 'boolean' },
    json: { type: 'boolean' },
    chart: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  } as const
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
    return { quick: false, json: false, help: false, chart: undefined, ...values, chosen: choose(positionals) }
  } catch (error) {
    if (error instanceof TypeError && 'code' in error) throw new BenchError(error.message)
    throw error
  }
}

function choose(names: string[]): Part[] {
  const known = parts.map(({ name }) => name)
  const unknown = names.find(name => !known.includes(name))
  if (unknown !== undefined) throw new BenchError(`There is no part '${unknown}'. Parts: ${known.join(', ')}.`)
  return names.length === 0 ? parts : parts.filter(({ name }) => names.includes(name))
}

/** What a part needs beside the cluster. */
function checkGiven(chosen: Part[]): void {
  for (const part of [agent, iscsi]) {
    if (!chosen.includes(part) || process.env.BROKER_URL) continue
    throw new BenchError(`The part ${part.name} needs a broker: set BROKER_URL, too.`)
  }
  if (chosen.includes(iscsi) && !process.env.TGT_IPC_SOCKET) {
    throw new BenchError('The part iscsi needs a tgtd: set TGT_IPC_SOCKET, too.')
  }
}

async function main(): Promise<void> {
  const { quick, json, chart, help, chosen } = parse(process.argv.slice(2))
  if (help) return console.log(usage)
  if (chart !== undefined && !chosen.includes(io)) throw new BenchError('--chart is of the part io')
  if (process.env.CEPH_CONF) checkGiven(chosen)
  const interruption = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => interruption.abort(new BenchError(`${name}: cleaning up`)))
  }
  const { signal } = interruption
  const rows: Row[] = []
  await withPlace(signal, async place => {
    const description = await describe(place.cluster)
    if (!json) console.log(description)
    for (const part of chosen) {
      const measured = await part.measure({ ...place, quick, signal })
      rows.push(...measured)
      if (!json) console.log(`\n${part.name}\n${toTable(measured)}`)
    }
    if (chart !== undefined) await writeFile(chart, toChart(rows, description.split('\n')))
  })
  if (json) console.log(toJson(rows))
}

try {
  await main()
} catch (error) {
  // What the user can mend needs no stack trace.
  console.error(error instanceof BenchError ? error.message : error)
  process.exitCode = 1
}
