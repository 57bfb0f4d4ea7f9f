/**
 * Tests against real gateways of ceph-iscsi and a kernel's CephFS client, in virtual machines beside a cluster.
 *
 *   npm run test:gateway [-- dist/test/gateway/FILE.js …]
 *
 * All of it is in namespaces that end with it, so nothing has to be taken down, whatever happens.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findImage, IMAGE_PROGRAMS, makeImage } from './image.js'

const run = promisify(execFile)
const dist = fileURLToPath(new URL('../../..', import.meta.url))

/** The Debian packages of what is needed here, beside what `scripts/setup` installs. */
const packageOf: Record<string, string> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  debootstrap: 'debootstrap',
  mke2fs: 'e2fsprogs',
  ip: 'iproute2',
  unshare: 'util-linux',
  chroot: 'coreutils',
}

const isRoot = process.getuid?.() === 0

const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
if (!isRoot) namespaces.unshift('--user', '--map-root-user')

const interrupted = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupted.abort())

/** Programs of `names` that are not there. */
function missing(names: string[]): string[] {
  const folders = `${process.env.PATH}:/usr/sbin:/sbin`.split(delimiter)
  return names.filter(name => !folders.some(folder => isExecutable(join(folder, name))))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Installs what is missing where that can be done. */
async function install(programs: string[]): Promise<void> {
  if (programs.length === 0 || missing(['apt-get']).length > 0) return
  const packages = programs.map(program => String(packageOf[program]))
  console.log(`# installing Debian packages: ${packages.join(' ')}`)
  const script = join(dist, '../scripts/apt-install')
  if (isRoot) await run(script, packages)
  // Where it wants a password, what is missing is said below.
  else await run('sudo', ['--non-interactive', script, ...packages]).catch(() => {})
}

/** Why the tests cannot be run here; undefined: they can. */
async function obstacle(): Promise<string | undefined> {
  if (process.arch !== 'x64') return `guests are for x64, and this is ${process.arch}`
  const programs = ['qemu-system-x86_64', 'ip', ...(findImage() ? ['unshare'] : IMAGE_PROGRAMS)]
  await install(missing(programs))
  const absent = missing(programs)
  if (absent.length > 0) return `not installed: ${absent.join(', ')}`
  if (!findImage() && !isRoot) return "making the guests' image takes root"
  try {
    await run('unshare', [...namespaces, 'true'])
    return undefined
  } catch (error) {
    return `unshare is not allowed: ${(error as { stderr?: string }).stderr?.trim()}`
  }
}

async function ensureImage(): Promise<void> {
  if (findImage()) return
  console.log("# making the guests' image, which takes a minute the first time")
  await makeImage(interrupted.signal)
}

/** Resolves with the status of the tests. */
async function runTests(files: string[]): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-lab-'))
  try {
    const { CEPH_CONF: _, ...env } = process.env
    const args = [process.execPath, '--enable-source-maps', join(dist, 'test/support/gateway-lab/run.js'), ...files]
    const child = spawn('unshare', [...namespaces, ...args], {
      env: { ...env, GATEWAY_LAB: folder },
      stdio: ['pipe', 'inherit', 'inherit'],
      // Ctrl-C is for this process, which ends the others in order.
      detached: true,
    })
    const ended = once(child, 'exit')
    const end = () => child.stdin.end()
    if (interrupted.signal.aborted) end()
    interrupted.signal.addEventListener('abort', end)
    const [status] = await ended
    return status ?? 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function allFiles(): string[] {
  const folder = join(dist, 'test/gateway')
  const files = readdirSync(folder).filter(file => file.endsWith('.js'))
  return files.sort().map(file => join(folder, file))
}

const reason = await obstacle()
if (reason !== undefined) {
  console.log(`1..0 # SKIP ${reason}`)
} else {
  await ensureImage()
  const named = process.argv.slice(2)
  process.exitCode = await runTests(named.length > 0 ? named : allFiles())
}
