import type { Command } from 'commander'

/** `cephkit agent`: the storage agent, as a service. */
export function addAgentCommand(program: Command): void {
  program
    .command('agent')
    .description('run the storage agent until it is interrupted; its settings are environment variables')
    .addHelpText(
      'after',
      `
Takes storage jobs from a broker, does them on a Ceph cluster, and answers. Needs at least BROKER_URL; docs/agent.md lists
all settings.

Example:
  $ cephkit dev up --rabbitmq && eval "$(cephkit dev env)"
  $ cephkit agent`,
    )
    .action(runAgent)
}

/** With settings from the environment, until SIGINT or SIGTERM. */
export async function runAgent(): Promise<void> {
  // Not with the other commands, which do without a broker's client and without the addon.
  const { createAgent, readConfig } = await import('../agent/index.js')
  const agent = createAgent({ config: readConfig(process.env) })
  // Once each: a second one ends the process at once, as it would without these.
  process.once('SIGINT', () => agent.stop())
  process.once('SIGTERM', () => agent.stop())
  await agent.start()
}
