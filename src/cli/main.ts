#!/usr/bin/env node
import { Command } from 'commander'
import { version } from '../version.js'
import { addAgentCommand } from './agent.js'
import { addAuditCommand } from './audit.js'
import { addCatalogCommands } from './catalog.js'
import { addCompletionCommand } from './completion.js'
import { addDevCommands } from './dev.js'
import { addDoctorCommand } from './doctor.js'
import { addIscsiCommands } from './iscsi.js'
import { addJobsCommands } from './jobs.js'
import { addKeyringCommands } from './keyring.js'
import { addMountUnitCommand } from './mount-unit.js'
import { addQuotaCommands } from './quota.js'
import { addTenantCommands } from './tenant.js'

const program = new Command('cephkit')
  .description('Ceph for Node.js, in process, and a storage agent made of it')
  .version(version)
  .showHelpAfterError('(--help tells more)')

addAgentCommand(program)
addJobsCommands(program)
addAuditCommand(program)
addCatalogCommands(program)
addDevCommands(program)
addDoctorCommand(program)
addIscsiCommands(program)
addTenantCommands(program)
addQuotaCommands(program)
addMountUnitCommand(program)
addKeyringCommands(program)
addCompletionCommand(program)

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = 1
  // The stack of an error tells something to whoever works on cephkit, and hides the message from everybody else.
  console.error(process.env.CEPHKIT_DEBUG ? error : `cephkit: ${error instanceof Error ? error.message : error}`)
}
