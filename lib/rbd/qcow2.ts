/**
 * qcow2 files, by `qemu-img` and its own driver for RBD. It gets the settings of our connection in a file that nobody
 * else can read, so that no secret is on a command line.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type FileHandle, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { onAbort } from '../abort.js'
import { wrongValue } from '../check.js'
import type { Cluster } from '../rados/cluster.js'
import type { Image } from './image.js'
import { presentName } from './present-name.js'
import type { Progress } from './progress.js'

const sectorBytes = 512n
const maxSize = BigInt(Number.MAX_SAFE_INTEGER)
const headerBytes = 104
const magic = 0x514649fb
const externalDataFile = 4n

/**
 * The size of the disk in a qcow2 file. Refused are those that name other files: whoever made one could have any file of
 * this host imported.
 */
export async function qcow2Size(file: FileHandle, path: string): Promise<number> {
  const { buffer: header, bytesRead } = await file.read(Buffer.alloc(headerBytes), 0, headerBytes, 0)
  if (bytesRead < 72 || header.readUInt32BE(0) !== magic) throw wrongValue('path', 'that of a qcow2 file', path)
  if (header.readBigUInt64BE(8) !== 0n) throw wrongValue('path', 'that of a qcow2 file without a backing file', path)
  const version = header.readUInt32BE(4)
  if (version >= 3 && (header.readBigUInt64BE(72) & externalDataFile) !== 0n) {
    throw wrongValue('path', 'that of a qcow2 file with its data in itself', path)
  }
  if (header.readUInt32BE(32) !== 0) throw wrongValue('path', 'that of a qcow2 file that is not encrypted', path)
  const size = header.readBigUInt64BE(24)
  if (size > maxSize || size % sectorBytes !== 0n) {
    throw wrongValue('path', `that of a qcow2 file of whole sectors and up to ${maxSize} bytes, not ${size}`, path)
  }
  return Number(size)
}

/** Whether the image, of that size in bytes, is one for qemu-img, which opens it itself. */
export function checkForQcow2(image: Image, size: number): void {
  if (image.encrypted) {
    const why = `qemu-img does not know of the encryption that is loaded for ${image.path}`
    throw wrongValue('format', `raw: ${why}`, 'qcow2')
  }
  if (BigInt(size) % sectorBytes !== 0n) {
    throw wrongValue('format', `raw: ${size} bytes are no whole sectors, which qcow2 has only`, 'qcow2')
  }
}

export async function convertFromImage(image: Image, path: string, progress: Progress): Promise<void> {
  // Another client reads it.
  await image.flush({ signal: progress.signal })
  await withConfig(image.pool.cluster, async config => {
    const source = `json:${JSON.stringify({ driver: 'raw', file: await rbd(image, config, progress) })}`
    await qemuImg(['convert', '-p', '-O', 'qcow2', source, resolve(path)], progress)
  })
}

/** Leaked clusters: they only take space. */
const harmless = [3]

/** The image must be empty, and its exclusive lock free or ours to give. */
export async function convertToImage(image: Image, path: string, progress: Progress): Promise<void> {
  const file = { driver: 'file', filename: resolve(path) }
  const source = `json:${JSON.stringify({ driver: 'qcow2', file, backing: null })}`
  // To convert, what a file has lost of its end is zeroes.
  await qemuImg(['check', source], progress, harmless)
  await withConfig(image.pool.cluster, async config => {
    const target = `json:${JSON.stringify({ driver: 'raw', file: await rbd(image, config, progress) })}`
    await qemuImg(['convert', '-p', '-W', '-n', '--target-is-zero', '-O', 'raw', source, target], progress)
  })
}

async function rbd(image: Image, conf: string, { signal }: Progress): Promise<Record<string, unknown>> {
  const { pool, snapshotName } = image
  return {
    driver: 'rbd',
    pool: pool.name,
    ...(pool.namespace !== '' && { namespace: pool.namespace }),
    image: await presentName(image, { signal }),
    ...(snapshotName !== null && { snapshot: snapshotName }),
    conf,
    user: pool.cluster.user,
  }
}

/** What it takes to connect, as librados has found it wherever it was told; and how long to wait, as this library does. */
const settings = [
  'mon_host',
  'keyring',
  'keyfile',
  'key',
  'auth_client_required',
  'auth_cluster_required',
  'auth_service_required',
  'ms_mon_client_mode',
  'ms_client_mode',
  'client_mount_timeout',
  'rados_mon_op_timeout',
  'rados_osd_op_timeout',
]

async function withConfig(cluster: Cluster, use: (config: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-'))
  try {
    const config = join(folder, 'ceph.conf')
    await writeFile(config, `[global]\n${await settingsOf(cluster)}`, { mode: 0o600 })
    await use(config)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function settingsOf(cluster: Cluster): Promise<string> {
  let lines = ''
  for (const option of settings) {
    const value = await cluster.getOption(option)
    if (value !== '') lines += `${option} = ${value}\n`
  }
  return lines
}

/** @param alright - What it may end with besides 0. */
async function qemuImg(args: string[], progress: Progress, alright: number[] = []): Promise<void> {
  progress.throwIfAborted()
  const child = spawn('qemu-img', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const stop = () => child.kill()
  const ignore = progress.signal && onAbort(progress.signal, stop)
  let failure: unknown
  child.stdout.on('data', (printed: Buffer) => {
    const percent = /\(([\d.]+)\/100%\)\s*$/.exec(printed.toString())?.[1]
    if (percent === undefined || failure !== undefined) return
    try {
      progress.at(Math.round((progress.total * Number(percent)) / 100))
    } catch (error) {
      failure = error
      stop()
    }
  })
  const [said, status] = await Promise.all([text(child.stderr), ended(child)]).finally(ignore)
  progress.throwIfAborted()
  if (failure !== undefined) throw failure
  if (status === null || (status !== 0 && !alright.includes(status))) {
    throw new Error(`qemu-img ${args[0]}: ${firstLine(said) || `ended by ${child.signalCode}`}`)
  }
}

/** Answers its exit status, or null when a signal ended it. */
async function ended(child: ChildProcess): Promise<number | null> {
  try {
    const [status] = await once(child, 'close')
    return status
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error
    throw new Error('qemu-img is missing. Install it (Debian: apt-get install qemu-utils qemu-block-extra).', {
      cause: error,
    })
  }
}

const firstLine = (text: string) => text.trim().split('\n', 1)[0]
