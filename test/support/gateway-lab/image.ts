/** The disk, kernel and initial RAM disk of the guests: a small Debian with ceph-iscsi, made once for each recipe. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

export interface GuestImage {
  disk: string
  kernel: string
  initrd: string
}

export const INIT = '/sbin/guest-init'

/** Of the host, to make an image. */
export const IMAGE_PROGRAMS = ['debootstrap', 'mke2fs', 'unshare', 'chroot']

/** All that an image is made of: where this differs, it is another image. */
const recipe = {
  suite: 'bookworm',
  // qemu-guest-agent runs commands without a network, keys or a daemon for logins.
  packages: ['attr', 'ceph-common', 'ceph-iscsi', 'dbus', 'iproute2', 'kmod', 'linux-image-amd64', 'procps'].concat([
    'python3-minimal',
    'qemu-guest-agent',
    'tcmu-runner',
    'udev',
  ]),
  diskSize: '3G',
  /** Written before those are unpacked. */
  files: {
    // No daemon is to start in this machine.
    '/usr/sbin/policy-rc.d': '#!/bin/sh\nexit 101\n',
    // The initial RAM disk that the kernel's package makes is to have what mounts the root, and no drivers of a real machine.
    '/etc/initramfs-tools/conf.d/guest': 'MODULES=list\nCOMPRESS=gzip\n',
    '/usr/share/initramfs-tools/modules.d/guest': 'virtio_pci\nvirtio_blk\ncrc32c_generic\next4\n',
    '/etc/dpkg/dpkg.cfg.d/guest': [
      'force-unsafe-io',
      'path-exclude=/usr/share/doc/*',
      'path-exclude=/usr/share/man/*',
      'path-exclude=/usr/share/locale/*',
      'path-exclude=/lib/modules/*/kernel/sound/*',
      ...['gpu', 'infiniband', 'media', 'net/ethernet', 'net/wireless', 'staging', 'usb'].map(
        drivers => `path-exclude=/lib/modules/*/kernel/drivers/${drivers}/*`,
      ),
      '',
    ].join('\n'),
    // All else is asked of the agent. While the shell waits for it, it also takes leave of processes whose parent has ended.
    [INIT]: `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ln -sf /proc/mounts /etc/mtab
modprobe -a virtio_net virtio_console
while [ ! -e /dev/vport*p1 ]; do sleep 0.1; done
while :; do
  qemu-ga --path=$(echo /dev/vport*p1)
  sleep 1
done
`,
  },
}

const folder = join(
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  'cephkit',
  `gateway-guest-${createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 16)}`,
)

/** The image, if it has been made. */
export function findImage(): GuestImage | undefined {
  if (!existsSync(folder)) return undefined
  return { disk: join(folder, 'disk'), kernel: join(folder, 'kernel'), initrd: join(folder, 'initrd') }
}

/** Takes root, and most of a minute. */
export async function makeImage(signal: AbortSignal): Promise<void> {
  await mkdir(dirname(folder), { recursive: true })
  const scratch = await mkdtemp(`${folder}.`)
  try {
    await build(scratch, signal)
    await rm(join(scratch, 'root'), { recursive: true })
    await rename(scratch, folder)
  } catch (error) {
    await rm(scratch, { recursive: true, maxRetries: 5 })
    // Somebody else was faster.
    if (!existsSync(folder)) throw error
  }
}

async function build(scratch: string, signal: AbortSignal): Promise<void> {
  const root = join(scratch, 'root')
  const run = (program: string, ...args: string[]) => runPrivately(program, args, signal)
  await run('debootstrap', '--variant=minbase', recipe.suite, root)
  for (const [path, text] of Object.entries(recipe.files)) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await writeFile(join(root, path), text, { mode: text.startsWith('#!') ? 0o755 : 0o644 })
  }
  const apt = (...args: string[]) => run('chroot', root, 'apt-get', '--yes', '--no-install-recommends', ...args)
  await apt('install', ...recipe.packages)
  await apt('clean')
  const boot = await readdir(join(root, 'boot'))
  const take = (prefix: string, name: string) =>
    copyFile(join(root, 'boot', String(boot.find(file => file.startsWith(prefix)))), join(scratch, name))
  await take('vmlinuz-', 'kernel')
  await take('initrd.img-', 'initrd')
  const disk = ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', root, join(scratch, 'disk'), recipe.diskSize]
  await run('mke2fs', ...disk)
}

/** What it mounts, and what it starts, ends with it. */
async function runPrivately(program: string, args: string[], signal: AbortSignal): Promise<void> {
  const all = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', program, ...args]
  const env = {
    ...process.env,
    PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
    LC_ALL: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
  }
  try {
    await promisify(execFile)('unshare', all, { env, signal, killSignal: 'SIGKILL', maxBuffer: 2 ** 28 })
  } catch (error) {
    const { message, stdout = '' } = error as Error & { stdout?: string }
    throw new Error(`${message}\n${stdout.split('\n').slice(-20).join('\n')}`, { cause: error })
  }
}
