/**
 * qcow2 files, by `qemu-img` and its own driver for RBD. It gets files as open descriptors: that of the disk, so that it reads the
 * one that was checked; and the settings of our connection in one that has no name, so that no secret is on a command line, or stays.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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

export async function convertFromImage(
  image: Image,
  file: FileHandle,
  path: string,
  progress: Progress,
): Promise<void> {
  // Another client reads it.
  await image.flush({ signal: progress.signal })
  await using config = await configFile(image.pool.cluster)
  const source = json({ driver: 'raw', file: await rbd(image, progress) })
  await qemuImg(['convert', '-p', '-O', 'qcow2', source, diskName], { files: [file, config], path, progress })
}

/** Leaked clusters: they only take space. */
const harmless = [3]

/** The image must be empty, and its exclusive lock free or ours to give. */
export async function convertToImage(image: Image, file: FileHandle, path: string, progress: Progress): Promise<void> {
  const source = json({ driver: 'qcow2', file: { driver: 'file', filename: diskName }, backing: null })
  // To convert, what a file has lost of its end is zeroes.
  await qemuImg(['check', source], { files: [file], path, progress, alright: harmless })
  await using config = await configFile(image.pool.cluster)
  const target = json({ driver: 'raw', file: await rbd(image, progress) })
  const args = ['convert', '-p', '-W', '-n', '--target-is-zero', '-O', 'raw', source, target]
  await qemuImg(args, { files: [file, config], path, progress })
}

/** What `qemuImg()` hands over, in this order. */
const diskName = '/proc/self/fd/3'
const configName = '/proc/self/fd/4'

const json = (value: object) => `json:${JSON.stringify(value)}`

async function rbd(image: Image, { signal }: Progress): Promise<Record<string, unknown>> {
  const { pool, snapshotName } = image
  return {
    driver: 'rbd',
    pool: pool.name,
    ...(pool.namespace !== '' && { namespace: pool.namespace }),
    image: await presentName(image, { signal }),
    ...(snapshotName !== null && { snapshot: snapshotName }),
    conf: configName,
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

async function configFile(cluster: Cluster): Promise<FileHandle> {
  const contents = `[global]\n${await settingsOf(cluster)}`
  const file = await namelessFile()
  try {
    await file.writeFile(contents)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Without a name before anything is in it: a process may die at any moment. */
async function namelessFile(): Promise<FileHandle> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-'))
  try {
    return await open(join(folder, 'ceph.conf'), 'wx+', 0o600)
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

/** Ends it when this process ends, for it would go on writing to an image that may be somebody else's by then. */
const withUs = ['--pdeathsig', 'KILL', '--']
/** Of env(1), setpriv(1) and the like. */
const commandNotFound = 127

interface QemuImgOptions {
  files: FileHandle[]
  /** What is told of when it fails. */
  path: string
  progress: Progress
  /** What it may end with besides 0. */
  alright?: number[]
}

async function qemuImg(args: string[], { files, path, progress, alright = [] }: QemuImgOptions): Promise<void> {
  progress.throwIfAborted()
  const descriptors = files.map(({ fd }) => fd)
  const child = spawn('setpriv', [...withUs, 'qemu-img', ...args], {
    stdio: ['ignore', 'pipe', 'pipe', ...descriptors],
  })
  const status = ended(child)
  const [printed, said] = [child.stdout, child.stderr]
  // Where there are too few file descriptors, there is neither a process nor a pipe, and the status is an error.
  if (!printed || !said) return void (await status)
  const stop = () => child.kill()
  const ignore = progress.signal && onAbort(progress.signal, stop)
  let failure: unknown
  printed.on('data', (text: Buffer) => {
    const percent = /\(([\d.]+)\/100%\)\s*$/.exec(text.toString())?.[1]
    if (percent === undefined || failure !== undefined) return
    try {
      progress.at(Math.round((progress.total * Number(percent)) / 100))
    } catch (error) {
      failure = error
      stop()
    }
  })
  const [words, code] = await Promise.all([text(said), status]).finally(ignore)
  progress.throwIfAborted()
  if (failure !== undefined) throw failure
  if (code === null || (code !== 0 && !alright.includes(code))) {
    throw code === commandNotFound
      ? missing(words)
      : new Error(`qemu-img ${args[0]}: ${firstLine(words) || `ended by ${child.signalCode}`}, '${path}'`)
  }
}

/** Answers its exit status, or null when a signal ended it. */
async function ended(child: ChildProcess): Promise<number | null> {
  try {
    const [status] = await once(child, 'close')
    return status
  } catch (error) {
    throw (error as { code?: unknown }).code === 'ENOENT' ? missing(error) : error
  }
}

function missing(cause: unknown): Error {
  const packages = 'qemu-utils qemu-block-extra util-linux'
  return new Error(`qemu-img is missing, or setpriv. Install it (Debian: apt-get install ${packages}).`, { cause })
}

const firstLine = (text: string) => text.trim().split('\n', 1)[0]
