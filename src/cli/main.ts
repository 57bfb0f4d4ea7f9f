#!/usr/bin/env node
import { Command } from 'commander'
import { version } from '../version.js'
import { addAgentCommand } from './agent.js'
import { addDevCommands } from './dev.js'

const program = new Command('cephkit')
  .description('Ceph for Node.js, in process, and a storage agent made of it')
  .version(version)
  .showHelpAfterError('(--help tells more)')

addAgentCommand(program)
addDevCommands(program)

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = 1
  // The stack of an error tells something to whoever works on cephkit, and hides the message from everybody else.
  console.error(process.env.CEPHKIT_DEBUG ? error : `cephkit: ${error instanceof Error ? error.message : error}`)
}
