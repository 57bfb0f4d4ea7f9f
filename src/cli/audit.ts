import type { Command } from 'commander'
import type { Finding } from '../audit/audit.js'
import { withJournal } from './journal.js'

interface AuditOptions {
  fix: boolean
  json: boolean
}

interface Fixed extends Omit<Finding, 'fix'> {
  fixable: boolean
  /** With --fix. */
  fixed?: boolean
  reason?: string
}

/** `cephkit audit`: what is there that nobody looks after. */
export function addAuditCommand(program: Command): void {
  program
    .command('audit')
    .description(
      'compare the journal with images, snapshots, trash, locks and targets, and name what nobody looks after',
    )
    .option('--fix', 'remove or mend it, where it is marked as ours', false)
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
Looks at the pool of the volumes (CEPH_DEFAULT_POOL, or "rbd"), and at the journals of all agents there; agents may run
meanwhile. Opens each image. Looks at the targets of this host, too, with the settings of the agent (ISCSI_DRIVER, IQN_PREFIX,
TGT_…); ISCSI_DRIVER=none leaves them out. Exit status 1 if there are findings that were not fixed.

Example:
  $ cephkit audit --json | jq -r '.[] | select(.kind == "image").name'`,
    )
    .action(runAudit)
}

async function runAudit({ fix, json }: AuditOptions): Promise<void> {
  const { audit } = await import('../audit/audit.js')
  const { readTargetConfig } = await import('../config.js')
  const targets = readTargetConfig()
  const reports = await withJournal(async place => {
    const reported: Fixed[] = []
    for (const finding of await audit({ ...place, targets })) reported.push(await report(finding, fix))
    return reported
  })
  if (json) console.log(JSON.stringify(reports, null, 2))
  else console.log(reports.length === 0 ? 'nothing found' : reports.map(toText).join('\n'))
  if (reports.some(({ fixed }) => !fixed)) process.exitCode = 1
}

async function report({ fix, ...finding }: Finding, isToFix: boolean): Promise<Fixed> {
  const about = { ...finding, fixable: fix !== undefined }
  if (!isToFix || fix === undefined) return about
  try {
    await fix()
    return { ...about, fixed: true }
  } catch (error) {
    return { ...about, fixed: false, reason: error instanceof Error ? error.message : String(error) }
  }
}

function toText({ kind, name, agent, says, fixable, fixed, reason }: Fixed): string {
  const whose = agent === undefined ? '' : ` (agent ${agent})`
  const fate = fixed ? ' [fixed]' : reason !== undefined ? ` [not fixed: ${reason}]` : fixable ? ' [--fix]' : ''
  return `${kind} ${name}${whose}: ${says}${fate}`
}
