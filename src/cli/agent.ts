import type { Command } from 'commander'

const ENDINGS: NodeJS.Signals[] = ['SIGINT', 'SIGTERM']

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
  const stop = () => {
    // A second one, whichever it is, ends the process at once, as it would without these.
    for (const name of ENDINGS) process.off(name, stop)
    void agent.stop()
  }
  for (const name of ENDINGS) process.on(name, stop)
  // The agent has said why, and stops by itself: whoever supervises the process starts another.
  void agent.lost.then(() => {
    process.exitCode = 1
  })
  try {
    await agent.start()
  } catch (error) {
    if (!isAbort(error)) throw error
    await agent.stop()
  }
}

/** The start was given up because of a stop. Told by its name, as the class would load the addon. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}
