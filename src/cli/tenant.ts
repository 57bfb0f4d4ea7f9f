import type { Command } from 'commander'
import type { EnsuredTenant } from '../cephfs/tenants.js'
import { parseCount, type QuotaOptions, quotaOf, toUsageTable, withTenants } from './tenants.js'

interface JsonOptions {
  json: boolean
}

interface EnsureOptions extends JsonOptions, QuotaOptions {
  uid: string
  gid: string
  webroot?: string[]
  public?: string[]
}

interface DeleteOptions extends JsonOptions {
  snapshots?: boolean
}

/** `cephkit tenant …`: the directories of tenants on CephFS. */
export function addTenantCommands(program: Command): void {
  const tenant = program.command('tenant').description('the directories of tenants on CephFS, in CEPHFS_TENANT_BASE')
  addEnsure(tenant)
  addDelete(tenant)
  tenant
    .command('usage')
    .argument('<name>')
    .description('show quota and usage of a tenant')
    .option('--json', 'print JSON', false)
    .action(usage)
  tenant.command('list').description('list the tenants').option('--json', 'print JSON', false).action(list)
}

function addEnsure(tenant: Command): void {
  tenant
    .command('ensure')
    .argument('<name>')
    .description("make a tenant's directories, or mend owners, modes and quota of those that are there")
    .requiredOption('--uid <uid>', 'the user that they belong to')
    .requiredOption('--gid <gid>', 'the group')
    .option('--max-bytes <size>', 'such as 10GiB; none: no limit (default: as it is, at first none)')
    .option('--max-files <count>', 'of files and directories; none: no limit (default: as it is, at first none)')
    .option('--webroot <name...>', 'webroots to make')
    .option('--public <name...>', 'webroots to make, with a directory "public"')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
The tenant's own directory belongs to root, with mode 0755; home (0700), webroots (0750), logs (0750) and tmp (1777) in it
belong to the tenant. What is in them stays as it is. The user needs p in its MDS caps, for the quota.

Example:
  $ cephkit tenant ensure acme --uid 20001 --gid 20001 --max-bytes 20GiB --public example.org`,
    )
    .action(ensure)
}

function addDelete(tenant: Command): void {
  tenant
    .command('delete')
    .argument('<name>')
    .description('remove a tenant, with all that is in its directories')
    .option('--snapshots', 'remove the snapshots in it too (default: it is refused if there are any)')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
One that is interrupted is gone on with when it is asked for again. What cannot be removed is named, and the exit status is 1.`,
    )
    .action(remove)
}

async function ensure(name: string, options: EnsureOptions): Promise<void> {
  const quota = quotaOf(options)
  const webroots = [
    ...(options.webroot ?? []).map(webroot => ({ name: webroot })),
    ...(options.public ?? []).map(webroot => ({ name: webroot, public: true })),
  ]
  const uid = parseCount('--uid', options.uid)
  const gid = parseCount('--gid', options.gid)
  const { checkTenant } = await import('../cephfs/spec.js')
  const tenant = checkTenant({ name, uid, gid, quota, webroots })
  const ensured = await withTenants(
    async tenants => {
      const done = await tenants.ensure(tenant)
      await tenants.files.sync()
      return done
    },
    { make: true },
  )
  console.log(options.json ? JSON.stringify(ensured, null, 2) : describeEnsured(ensured))
}

function describeEnsured({ path, made, mended }: EnsuredTenant): string {
  if (made) return `${path} made`
  if (mended.length === 0) return `${path} is as it is to be`
  const lines = mended.map(({ path: part, was, now }) => {
    const before = was === undefined ? 'missing' : JSON.stringify(was)
    return `  ${part}: ${before} -> ${JSON.stringify(now)}`
  })
  return [`${path} mended`, ...lines].join('\n')
}

async function remove(name: string, { snapshots, json }: DeleteOptions): Promise<void> {
  const { BlockedError } = await import('../errors.js')
  const interrupted = new AbortController()
  for (const ending of ['SIGINT', 'SIGTERM'] as const) {
    process.once(ending, () => interrupted.abort(new Error(`${ending}: asked for again, it goes on`)))
  }
  const { signal } = interrupted
  try {
    const removed = await withTenants(tenants => tenants.delete(name, { snapshots, signal }))
    if (json) console.log(JSON.stringify({ name, deleted: removed !== undefined, removed: removed ?? 0 }, null, 2))
    else
      console.log(
        removed === undefined ? `there is no tenant ${name}` : `${name} deleted: ${removed} files and directories`,
      )
  } catch (error) {
    if (error instanceof BlockedError)
      throw new Error([error.message, ...error.blockers.map(({ kind, name }) => `  ${kind} ${name}`)].join('\n'))
    throw signal.aborted ? signal.reason : error
  }
}

async function usage(name: string, { json }: JsonOptions): Promise<void> {
  const { toUsage } = await import('../cephfs/quota-jobs.js')
  const found = await withTenants(tenants => tenants.usage(name))
  if (json) console.log(JSON.stringify({ ...found, usage: toUsage(found.usage) }, null, 2))
  else console.log(await toUsageTable([found]))
}

async function list({ json }: JsonOptions): Promise<void> {
  const found = await withTenants(async tenants => {
    const names: { name: string; path: string; deleting: boolean }[] = []
    for await (const { name, path, deleting } of tenants.list()) names.push({ name, path, deleting })
    return names.sort((a, b) => a.name.localeCompare(b.name))
  })
  if (json) console.log(JSON.stringify(found, null, 2))
  else if (found.length === 0) console.log('no tenants')
  else for (const { name, deleting } of found) console.log(deleting ? `${name}  (being deleted)` : name)
}
