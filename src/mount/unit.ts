/** How a node mounts a CephFS by its kernel: files for systemd and mount.ceph, as text. */

/** Whether it is for the mount.ceph of Ceph 17 and newer, or for older ones too. */
export const deviceSyntaxes = ['new', 'old'] as const

export interface MountSettings {
  /** The mount point. */
  where: string
  /** Ceph's, without `client.` */
  user: string
  fsid: string
  /** Addresses, each with a port or without. */
  monitors: readonly string[]
  fileSystem: string
  /** What of the file system is mounted. */
  root: string
  secretFile: string
  /** For the kernel to mount, in seconds. */
  timeoutSeconds: number
  device: (typeof deviceSyntaxes)[number]
}

/** How much longer systemd waits, in seconds, so that the kernel has said why before it is killed. */
const patienceSeconds = 15

/** Of msgr2, which a kernel speaks only if it is told to. */
const msgr2Port = /:3300$/

const units = '/etc/systemd/system'
const cephConf = '/etc/ceph/ceph.conf'

interface TextFile {
  path: string
  text: string
}

/** @throws {TypeError} a setting is not what it must be: nothing of it gets into a file then */
export function mountUnit(given: MountSettings): TextFile {
  const settings = checked(given)
  const { where, user, fileSystem, timeoutSeconds } = settings
  return {
    path: `${units}/${unitName(where)}`,
    text: `[Unit]
Description=CephFS ${fileSystem}, as client.${user}
Documentation=man:mount.ceph(8)

[Mount]
What=${plain(deviceOf(settings))}
Where=${plain(where)}
Type=ceph
Options=${plain(optionsOf(settings).join(','))}
TimeoutSec=${timeoutSeconds + patienceSeconds}

[Install]
WantedBy=remote-fs.target
`,
  }
}

/** With which a service starts after the mount, and ends with it: it never writes into the directory that is below. */
export function dropIn(given: MountSettings, service: string): TextFile {
  const unit = unitName(checked(given).where)
  expect(/^[\w:.@\\-]+\.service$/.test(service), '--service', 'the name of a unit, such as nginx.service', service)
  return {
    path: `${units}/${service}.d/cephfs.conf`,
    text: `[Unit]
BindsTo=${plain(unit)}
After=${plain(unit)}
`,
  }
}

export function cephConfFile(given: MountSettings): TextFile {
  const { fsid, monitors } = checked(given)
  return { path: cephConf, text: `[global]\nfsid = ${fsid}\nmon_host = ${monitors.join(',')}\n` }
}

/** All of these. Not the secret: everybody on a node can read what cloud-init was given. */
export function cloudInit(given: MountSettings, service: string | undefined): string {
  const settings = checked(given)
  const files = [
    mountUnit(settings),
    cephConfFile(settings),
    ...(service === undefined ? [] : [dropIn(settings, service)]),
  ]
  const unit = unitName(settings.where)
  return `#cloud-config
# The secret has to come by another way, with mode 0600: ${settings.secretFile}
packages:
  - ceph-common
write_files:
${files.map(writeFile).join('\n')}
runcmd:
  - ["systemctl", "daemon-reload"]
  - ${JSON.stringify(['systemctl', 'enable', '--now', unit])}
`
}

function writeFile({ path, text }: TextFile): string {
  const lines = text
    .trimEnd()
    .split('\n')
    .map(line => (line === '' ? '' : `      ${line}`))
  return [`  - path: ${JSON.stringify(path)}`, '    permissions: "0644"', '    content: |', ...lines].join('\n')
}

function deviceOf({ user, fsid, monitors, fileSystem, root, device }: MountSettings): string {
  return device === 'new' ? `${user}@${fsid}.${fileSystem}=${root}` : `${monitors.join(',')}:${root}`
}

function optionsOf({ user, monitors, fileSystem, secretFile, timeoutSeconds, device }: MountSettings): string[] {
  return [
    `name=${user}`,
    `secretfile=${secretFile}`,
    device === 'new' ? `mon_addr=${monitors.join('/')}` : `mds_namespace=${fileSystem}`,
    ...(monitors.every(monitor => msgr2Port.test(monitor)) ? ['ms_mode=prefer-crc'] : []),
    `mount_timeout=${timeoutSeconds}`,
    'noatime',
    '_netdev',
  ]
}

/** As systemd wants a mount unit to be called. */
export function unitName(where: string): string {
  return `${escapePath(where)}.mount`
}

/** As `systemd-escape --path` does. */
export function escapePath(path: string): string {
  const bytes = Buffer.from(names(path).join('/'))
  if (bytes.length === 0) return '-'
  return Array.from(bytes, (byte, index) => escapeByte(String.fromCharCode(byte), index)).join('')
}

function escapeByte(character: string, index: number): string {
  if (character === '/') return '-'
  const isPlain = /[A-Za-z\d:_.]/.test(character) && !(character === '.' && index === 0)
  return isPlain ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
}

function names(path: string): string[] {
  return path.split('/').filter(name => name !== '' && name !== '.')
}

/** A value of a unit, where % begins what systemd replaces. */
function plain(text: string): string {
  return text.replaceAll('%', '%%')
}

const name = /^[A-Za-z\d][\w.-]*$/
const monitor = /^(\[[\da-f:.]+\]|[A-Za-z\d][\w.-]*)(:\d{1,5})?$/i
const fsidPattern = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i

/** systemd's longest name of a unit. */
const longestUnit = 255

function checked(settings: MountSettings): MountSettings {
  const { user, fsid, monitors, fileSystem, timeoutSeconds, device } = settings
  expect(name.test(user) && !user.startsWith('client.'), '--user', "a user of Ceph's, without client. in front", user)
  expect(fsidPattern.test(fsid), '--fsid', "the cluster's id, which ceph fsid prints", fsid)
  expect(monitors.length > 0, '--monitor', 'at least one', monitors)
  for (const each of monitors)
    expect(monitor.test(each), '--monitor', 'an address, such as 10.0.0.1, mon-a:6789 or [::1]:3300', each)
  expect(name.test(fileSystem), '--file-system', 'a name of letters, digits, . _ and -', fileSystem)
  const inRange = Number.isInteger(timeoutSeconds) && timeoutSeconds >= 1 && timeoutSeconds <= 3600
  expect(inRange, '--timeout', 'an integer of seconds from 1 to 3600', timeoutSeconds)
  const where = checkedPath('the mount point', settings.where)
  expect(where !== '/', 'the mount point', 'a directory below /', where)
  const unit = unitName(where)
  expect(unit.length <= longestUnit, 'the mount point', `of ${longestUnit} bytes as the name of a unit`, where)
  const root = checkedPath('--root', settings.root)
  // mount.ceph looks for it first, to tell new devices from old ones.
  expect(device === 'new' || !root.includes('@'), '--root', 'without @ in a device of the old syntax', root)
  const secretFile = checkedPath('--secret-file', settings.secretFile)
  expect(!secretFile.includes(','), '--secret-file', 'without a comma, which ends an option', secretFile)
  return { ...settings, where, root, secretFile }
}

/**
 * Without what means nothing in it. What ends a line is refused, as one more would be a setting of its own: also a backslash, which
 * at the end of a line joins it with the next, and what only YAML takes for the end of one.
 */
function checkedPath(option: string, path: string): string {
  const isPlain = path.startsWith('/') && !/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\\]/u.test(path) && path.trimEnd() === path
  expect(isPlain && !names(path).includes('..'), option, 'an absolute path without .., control characters and \\', path)
  return `/${names(path).join('/')}`
}

function expect(isSo: boolean, option: string, expected: string, value: unknown): void {
  if (!isSo) throw new TypeError(`${option} must be ${expected}; got ${JSON.stringify(value)}`)
}
