import type { Command } from 'commander'
import type { Kept, TargetKeeper } from '../iscsi/keeper.js'
import { withCluster } from './cluster.js'
import { type SubmitOptions, submit, withSubmitOptions } from './jobs.js'

interface JsonOptions {
  json: boolean
}

interface ExposeOptions extends SubmitOptions {
  initiator?: string[]
  address?: string[]
  /** False: with --no-chap. */
  chap?: string | false
  mutual?: string
}

interface UnexposeOptions extends SubmitOptions {
  initiator?: string[]
  force: boolean
}

/** `cephkit iscsi …`: volumes as initiators see them. */
export function addIscsiCommands(program: Command): void {
  const iscsi = program.command('iscsi').description('volumes that are exposed over iSCSI, and who uses them')
  iscsi
    .command('list')
    .description('list the volumes that the agent exposes')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
To be run on the host of the agent, with its settings (ISCSI_DRIVER, STORAGE_CONTROLLER_AGENT_ID, CEPH_…, TGT_…). A volume
that should be exposed, and has no target, is listed as missing; the agent is about to make one, or its log says why not.`,
    )
    .action(list)
  iscsi
    .command('sessions')
    .argument('[refId]', 'of this volume: its iqn, or the name of its image (default: of all)')
    .description('list the initiators that are logged in')
    .option('--json', 'print JSON', false)
    .action(sessions)
  addExpose(iscsi)
  addUnexpose(iscsi)
}

function addExpose(iscsi: Command): void {
  withSubmitOptions(iscsi.command('expose'))
    .argument('<refId>', 'the volume: its iqn, or the name of its image')
    .description('expose a volume, or say anew to whom it is exposed; by a job storage.expose')
    .option('--initiator <name...>', 'the initiators that may log in (default: as it is, at first all)')
    .option('--address <address...>', 'IP addresses and networks, from where others may log in too')
    .option('--chap <user>', 'the user to log in with; its password is in the variable CHAP_PASSWORD')
    .option('--no-chap', 'without a password, whatever the settings of the agent say')
    .option('--mutual <user>', 'the user that the target shows; its password is in CHAP_MUTUAL_PASSWORD')
    .addHelpText(
      'after',
      `
Passwords are in variables because everybody on the host can see the arguments of a command.

Example:
  $ read -rs CHAP_PASSWORD && export CHAP_PASSWORD
  $ cephkit iscsi expose acme-web-0a2b3c4d --initiator iqn.1993-08.org.debian:01:abc --chap web-server`,
    )
    .action(expose)
}

function addUnexpose(iscsi: Command): void {
  withSubmitOptions(iscsi.command('unexpose'))
    .argument('<refId>', 'the volume: its iqn, or the name of its image')
    .description('expose a volume no more, or not to some; by a job storage.unexpose')
    .option('--initiator <name...>', 'these alone may not log in any more (default: nobody may)')
    .option('--force', 'although an initiator is logged in, who loses the disk', false)
    .action(unexpose)
}

async function list({ json }: JsonOptions): Promise<void> {
  const kept = await withKeeper(keeper => keeper.look())
  if (json) return console.log(JSON.stringify(kept.map(toJson), null, 2))
  if (kept.length === 0) return console.log('no volumes are exposed')
  for (const { exposure, isServed, sessions } of kept) {
    const { iqn, poolName, name, initiators, addresses } = exposure
    const access = [...initiators, ...addresses].join(',') || 'everybody'
    const use = isServed ? `${sessions?.length ?? 'unknown'} sessions` : 'missing'
    console.log(`${iqn}  ${poolName}/${name}  ${use}  ${access}`)
  }
}

/** Without passwords. */
function toJson({ exposure, isServed, sessions, portals }: Kept): object {
  const { iqn, poolName, name, id, initiators, addresses, chap, disk } = exposure
  const users =
    chap === null || chap === 'settings' ? chap : { user: chap.user, ...(chap.mutual && { mutual: chap.mutual.user }) }
  return { iqn, pool: poolName, image: name, id, portals, isServed, sessions, initiators, addresses, chap: users, disk }
}

async function sessions(refId: string | undefined, { json }: JsonOptions): Promise<void> {
  const { imageOf } = await import('../names.js')
  const kept = await withKeeper(keeper => keeper.look())
  const chosen = refId === undefined ? kept : kept.filter(({ exposure }) => exposure.name === imageOf(refId))
  if (refId !== undefined && chosen.length === 0) throw new Error(`${refId} is not exposed`)
  const untold = chosen.find(each => each.sessions === undefined)?.exposure.iqn
  if (untold !== undefined) throw new Error(`who is logged in to ${untold} cannot be told: a gateway does not answer`)
  const found = chosen.flatMap(({ exposure: { iqn }, sessions = [] }) =>
    sessions.map(({ initiator, addresses }) => ({ iqn, initiator, addresses })),
  )
  if (json) console.log(JSON.stringify(found, null, 2))
  else if (found.length === 0) console.log('nobody is logged in')
  else
    for (const { iqn, initiator = 'unknown', addresses } of found) {
      console.log([iqn, initiator, ...(addresses.length > 0 ? [addresses.join(',')] : [])].join('  '))
    }
}

async function expose(refId: string, options: ExposeOptions): Promise<void> {
  const { initiator, address, chap, mutual } = options
  if (mutual !== undefined && !chap) throw new Error('--mutual needs --chap')
  await submit(
    'storage.expose',
    {
      refId,
      ...(initiator && { initiators: initiator }),
      ...(address && { addresses: address }),
      ...(chap === false && { chap }),
      ...(chap && {
        chap: {
          ...login(chap, 'CHAP_PASSWORD'),
          ...(mutual !== undefined && { mutual: login(mutual, 'CHAP_MUTUAL_PASSWORD') }),
        },
      }),
    },
    options,
  )
}

function login(user: string, variable: string): { user: string; password: string } {
  const password = process.env[variable]
  if (!password) throw new Error(`${variable} is not set`)
  return { user, password }
}

async function unexpose(refId: string, options: UnexposeOptions): Promise<void> {
  const { initiator, force } = options
  await submit('storage.unexpose', { refId, ...(initiator && { initiators: initiator }), force }, options)
}

async function withKeeper<T>(use: (keeper: TargetKeeper) => Promise<T>): Promise<T> {
  const { readTargetConfig } = await import('../config.js')
  const { TargetKeeper } = await import('../iscsi/keeper.js')
  const { pino } = await import('pino')
  const config = readTargetConfig()
  return withCluster(async cluster => {
    const keeper = TargetKeeper.of({ config, cluster, log: pino({ enabled: false }) })
    if (keeper === undefined) throw new Error('ISCSI_DRIVER is none: no volumes are exposed')
    return await use(keeper)
  })
}
