/**
 * Tenants on CephFS: directories, owners, modes and a quota for each, and a report of how full all of them are. Beside a shell
 * script that does the same on a mount of ceph-fuse, with `install`, `setfattr` and `getfattr`, a process for each step.
 */
import { Client, cephkitProgram } from './client.js'
import { FuseMount } from './fuse-mount.js'
import { alternate, type Context, compare, median, type Part, type Row } from './harness.js'

export interface Scale {
  /** How many tenants there are in the end. */
  tenants: number
  /** How many the script makes, and reports. */
  byScript: number
  /** How often it is each one's turn. */
  turns: number
}
const full: Scale = { tenants: 10_000, byScript: 200, turns: 10 }
const quick: Scale = { tenants: 1_000, byScript: 40, turns: 4 }

const need = 20
/**
 * Ten times the tenants would show in far more than this, which other work on the machine may make of it. An MDS of Ceph 16 makes
 * something of it, too: it goes through all directories that have a quota, whenever another gets its first.
 */
const flat = 0.5

export const cephfs: Part = {
  name: 'cephfs',
  measure: context => measureCephfs(context, context.quick ? quick : full),
}

export async function measureCephfs(context: Context, scale: Scale): Promise<Row[]> {
  const { namespace, signal } = context
  const cephConf = await context.fileSystem()
  const base = `/${namespace}`
  await using client = await Client.start(cephkitProgram('cephfs-client.js', base), cephConf, signal)
  await client.call('prepare')
  try {
    await using mount = await FuseMount.start(base, cephConf, signal)
    return await measure(client, mount, scale)
  } finally {
    await client.call('clear')
  }
}

async function measure(client: Client, mount: FuseMount, { tenants, byScript, turns }: Scale): Promise<Row[]> {
  const [each, eachByScript] = [Math.floor(tenants / turns), Math.floor(byScript / turns)]
  let [made, madeByScript] = [0, 0]
  // Each answers milliseconds a tenant.
  const ensure = async (from: number, to: number) => (await client.call<number>('ensure', from, to)) / (to - from)
  const report = async () => (await client.call<number>('report', made)) / made
  const run = async (script: string, from: number, to: number) => (await mount.run(script, from, to)) / (to - from)
  const [ensures, scripts] = await alternate(turns, [
    () => {
      made += each
      return ensure(made - each, made)
    },
    () => {
      madeByScript += eachByScript
      return run(makeByScript, madeByScript - eachByScript, madeByScript)
    },
  ])
  const [again] = await alternate(1, [() => ensure(0, made)])
  const [reports, scriptReports] = await alternate(3, [report, () => run(reportByScript, 0, madeByScript)])
  const load = (what: string) => `${what} ${made} tenants`
  const [first, last] = [ensures.slice(0, Math.ceil(turns / 4)), ensures.slice(-Math.ceil(turns / 4))]
  return [
    row(load('ensure'), ensures, scripts, 'install, setfattr, getfattr', need),
    row(load('ensure anew'), again, scripts, 'install, setfattr, getfattr', null),
    row(load('report of'), reports, scriptReports, 'getfattr', need),
    row(load('ensure, the last of'), last, first, 'the first of them', flat),
  ]
}

function row(load: string, ours: number[], peer: number[], peerName: string, needed: number | null): Row {
  return compare({
    ...{ part: 'cephfs', load, metric: 'time a tenant', unit: 'ms', better: 'less', peerName, need: needed },
    ours: median(ours),
    peer: median(peer),
  })
}

/** Of those from $1 on, before $2. */
const makeByScript = `
for ((i = $1; i < $2; i++)); do
  tenant=script-$i
  install -d -m 0755 $tenant
  install -d -m 0700 -o 20001 -g 20001 $tenant/home
  install -d -m 0750 -o 20001 -g 20001 $tenant/webroots $tenant/logs
  install -d -m 1777 -o 20001 -g 20001 $tenant/tmp
  setfattr -n ceph.quota.max_bytes -v 1073741824 $tenant
  setfattr -n ceph.quota.max_files -v 100000 $tenant
  getfattr --only-values -n ceph.quota.max_bytes $tenant
  getfattr --only-values -n ceph.quota.max_files $tenant
done`

const reportByScript = `
for ((i = $1; i < $2; i++)); do
  for attribute in quota.max_bytes quota.max_files dir.rbytes dir.rfiles dir.rsubdirs; do
    getfattr --only-values -n ceph.$attribute script-$i
  done
done`
