import type { Command } from 'commander'
import type { Examination, Finding } from '../doctor/examination.js'

interface DoctorOptions {
  json: boolean
}

/** `cephkit doctor`: what keeps an agent from working here. */
export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check what the agent needs here, and say what to do where something is missing')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
Looks at the settings (environment variables, as for cephkit agent), the files that they name, the cluster, the iSCSI target,
the mount at MOUNT_PATH and the broker, and leaves nothing behind. Exit status 1 if anything is wrong.

Example:
  $ (set -a; . /etc/cephkit/agent.env; cephkit doctor)     # with the settings of the service`,
    )
    .action(doctor)
}

async function doctor({ json }: DoctorOptions): Promise<void> {
  const { ok, findings } = await examineAll()
  console.log(json ? JSON.stringify({ ok, findings }, null, 2) : toText(findings))
  if (!ok) process.exitCode = 1
}

async function examineAll(): Promise<Pick<Examination, 'ok' | 'findings'>> {
  let examine: (environment: NodeJS.ProcessEnv) => Promise<Examination>
  try {
    // Not with the other commands, which do without a broker's client and without the addon.
    examine = (await import('../doctor/examine.js')).examine
  } catch (error) {
    const says = error instanceof Error ? error.message : String(error)
    return { ok: false, findings: [{ check: 'libraries', state: 'wrong', says }] }
  }
  return examine(process.env)
}

const marks = { ok: '✓', wrong: '✗', unknown: '–' }

function toText(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.map(({ check, state, says, todo }) => {
    const line = `${marks[state]} ${check.padEnd(width)}  ${says}`
    return todo === undefined ? line : `${line}\n  ${''.padEnd(width)}  → ${todo}`
  })
  return lines.join('\n')
}
