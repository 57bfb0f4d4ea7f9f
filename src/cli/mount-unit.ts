import { Argument, type Command, InvalidArgumentError, Option } from 'commander'
import { cephConfFile, cloudInit, deviceSyntaxes, dropIn, type MountSettings, mountUnit } from '../mount/unit.js'

const outputs = ['unit', 'drop-in', 'ceph.conf', 'cloud-init'] as const

interface MountUnitOptions extends Omit<MountSettings, 'where' | 'monitors' | 'secretFile' | 'timeoutSeconds'> {
  monitor: string[]
  secretFile?: string
  timeout: number
  service?: string
  print: (typeof outputs)[number]
}

/** `cephkit mount-unit`: what a node needs that mounts a CephFS by its kernel. */
export function addMountUnitCommand(program: Command): void {
  program
    .command('mount-unit')
    .addArgument(new Argument('<where>', 'the mount point, a folder'))
    .description('print a systemd unit that mounts a CephFS, and what belongs to it')
    .requiredOption('--user <name>', 'the user of Ceph, without client.')
    .requiredOption('--fsid <id>', 'of the cluster: ceph fsid')
    .requiredOption('--monitor <address...>', 'the monitors; with port 3300, msgr2 is used')
    .option('--file-system <name>', 'which file system', 'cephfs')
    .option('--root <path>', 'what of the file system is mounted', '/')
    .option('--secret-file <file>', "the user's secret (default: /etc/ceph/ceph.client.NAME.secret)")
    .option('--timeout <seconds>', 'for the kernel to mount', parseSeconds, 30)
    .addOption(
      new Option('--device <syntax>', 'of the device: old also for mount.ceph before Ceph 17')
        .choices(deviceSyntaxes)
        .default('new'),
    )
    .option('--service <unit>', 'a service that is not to run without the mount')
    .addOption(new Option('--print <what>', 'what to print').choices(outputs).default('unit'))
    .addHelpText(
      'after',
      `
A unit has to be called as its first line says. drop-in is for the service: it starts after the mount, and ends with it.
cloud-init is a document that has all of them; it has no secret, which cephkit keyring secret extracts.

Examples:
  $ node='--user web --fsid 385afc49-2fbe-414f-b187-bc96a7173525 --monitor 10.0.0.1 10.0.0.2'
  $ cephkit mount-unit /srv/web $node > /etc/systemd/system/srv-web.mount
  $ cephkit mount-unit /srv/web $node --service nginx.service --print cloud-init > user-data`,
    )
    .action(print)
}

function print(where: string, { print: what, ...options }: MountUnitOptions): void {
  process.stdout.write(textOf(where, what, options))
}

function textOf(where: string, what: MountUnitOptions['print'], options: Omit<MountUnitOptions, 'print'>): string {
  const { monitor: monitors, timeout: timeoutSeconds, service, user, ...rest } = options
  const secretFile = options.secretFile ?? `/etc/ceph/ceph.client.${user}.secret`
  const settings = { ...rest, where, user, monitors, timeoutSeconds, secretFile }
  if (what === 'cloud-init') return cloudInit(settings, service)
  const { path, text } =
    what === 'unit' ? mountUnit(settings) : what === 'ceph.conf' ? cephConfFile(settings) : serviceFile()
  return `# ${path}\n${text}`

  function serviceFile() {
    if (service === undefined) throw new Error('--print drop-in needs --service')
    return dropIn(settings, service)
  }
}

function parseSeconds(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a number of seconds.')
  return Number(text)
}
