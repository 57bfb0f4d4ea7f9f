import type { Command } from 'commander'
import { type QuotaOptions, quotaOf, toUsageTable, withTenants } from './tenants.js'

interface JsonOptions {
  json: boolean
}

/** `cephkit quota …`: how much there may be in directories of CephFS. */
export function addQuotaCommands(program: Command): void {
  const quota = program.command('quota').description('how much there may be in the directories of tenants on CephFS')
  ofPlace(quota.command('get')).description('show quota and usage').action(get)
  addSet(quota)
  ofPlace(quota.command('clear')).description('take the quota away').action(clear)
  addReport(quota)
}

function ofPlace(command: Command): Command {
  return command
    .argument('<place>', 'the name of a tenant, or the path of a directory in CEPHFS_TENANT_BASE')
    .option('--json', 'print JSON', false)
}

function addSet(quota: Command): void {
  ofPlace(quota.command('set'))
    .description('set the quota; what is not named stays as it is')
    .option('--max-bytes <size>', 'such as 10GiB; none: no limit')
    .option('--max-files <count>', 'of files and directories, that one itself too; none: no limit')
    .addHelpText(
      'after',
      `
It is read back before it counts as set. The user needs p in its MDS caps. Writers that are under way notice within seconds.

Example:
  $ cephkit quota set acme --max-bytes 20GiB --max-files 100000`,
    )
    .action(set)
}

function addReport(quota: Command): void {
  quota
    .command('report')
    .description('show quota and usage of all tenants, the fullest first')
    .option('--over <percent>', 'only of those that have used as much of a limit, or more')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
CephFS counts with some delay: seconds, and more where much changes.

Example:
  $ cephkit quota report --over 90`,
    )
    .action(report)
}

async function get(place: string, { json }: JsonOptions): Promise<void> {
  await showPlace(place, json)
}

async function set(place: string, { json, ...options }: QuotaOptions & JsonOptions): Promise<void> {
  const change = quotaOf(options)
  if (Object.keys(change).length === 0) throw new Error('--max-bytes or --max-files: missing')
  await showPlace(place, json, change)
}

async function clear(place: string, { json }: JsonOptions): Promise<void> {
  await showPlace(place, json, { maxBytes: null, maxFiles: null })
}

/** Sets the quota first, if there is one. */
async function showPlace(
  place: string,
  json: boolean,
  change?: { maxBytes?: number | null; maxFiles?: number | null },
): Promise<void> {
  const { checkPlace, openPlace, planPath, planTenant } = await import('../cephfs/place.js')
  const { toUsage } = await import('../cephfs/quota-jobs.js')
  const { readFileSystemConfig } = await import('../config.js')
  const config = { cephfs: readFileSystemConfig() }
  const plan = checkPlace(place).startsWith('/') ? planPath(place, undefined, config) : planTenant(place, config)
  const { quota, usage } = await withTenants(async tenants => {
    await using directory = await openPlace(tenants, plan)
    const quota = change ? await directory.setQuota(change) : await directory.getQuota()
    return { quota, usage: await directory.usage() }
  })
  if (json) console.log(JSON.stringify({ path: plan.path, quota, usage: toUsage(usage) }, null, 2))
  else console.log(await toUsageTable([{ name: plan.path, quota, usage }]))
}

async function report({ over, json }: JsonOptions & { over?: string }): Promise<void> {
  const { reportTenants } = await import('../cephfs/report.js')
  const { toUsage } = await import('../cephfs/quota-jobs.js')
  const percent = over === undefined ? undefined : parsePercent(over)
  const found = await withTenants(tenants => reportTenants(tenants, percent === undefined ? undefined : percent / 100))
  if (json) {
    const shown = found.map(({ usage, ...rest }) => ({ ...rest, usage: toUsage(usage) }))
    console.log(JSON.stringify(shown, null, 2))
  } else if (found.length === 0) console.log(over === undefined ? 'no tenants' : `no tenant has used ${over} %`)
  else console.log(await toUsageTable(found))
}

function parsePercent(text: string): number {
  if (!/^\d{1,5}(\.\d{1,3})?$/.test(text)) throw new Error(`--over ${text}: must be a number of percent`)
  return Number(text)
}
