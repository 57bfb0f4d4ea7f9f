/** `npm run bench -- [part...] [--quick] [--json]`: cephkit beside its peers, on one cluster, in one run. */
import { parseArgs } from 'node:util'
import { withPlace } from './cluster.js'
import { describe, type Part, type Row, toJson, toTable } from './harness.js'
import { lifecycle } from './lifecycle.js'
import { listing } from './listing.js'
import { streams } from './streams.js'

const parts: Part[] = [lifecycle, listing, streams]

const usage = `Usage: npm run bench -- [part...] [--quick] [--json]

Parts: ${parts.map(({ name }) => name).join(', ')}. Without one, all.

  --quick  less of everything, for a run under a minute
  --json   print the figures as one JSON array

Runs on the cluster that CEPH_CONF names, in a namespace of its own of the pool that rbd uses by default; without
CEPH_CONF on a development stack, started for the run.`

/** Something to tell the user in one line. */
class BenchError extends Error {}

function parse(args: string[]) {
  const options = {
    quick: { type: 'boolean' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
    return { quick: false, json: false, help: false, ...values, chosen: choose(positionals) }
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

async function main(): Promise<void> {
  const { quick, json, help, chosen } = parse(process.argv.slice(2))
  if (help) return console.log(usage)
  const interruption = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => interruption.abort(new BenchError(`${name}: cleaning up`)))
  }
  const { signal } = interruption
  const rows: Row[] = []
  await withPlace(signal, async place => {
    if (!json) console.log(await describe(place.cluster))
    for (const part of chosen) {
      const measured = await part.measure({ ...place, quick, signal })
      rows.push(...measured)
      if (!json) console.log(`\n${part.name}\n${toTable(measured)}`)
    }
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
