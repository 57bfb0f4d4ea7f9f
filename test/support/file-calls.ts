/** All calls of a mounted file system, for what holds of each. */
import type { CallOptions, Directory, File, FileSystem, OpenDirectory } from '../../lib/index.js'

type Calls<T> = Record<string, (subject: T, options: CallOptions) => Promise<unknown>>

export const ofFiles: Calls<FileSystem> = {
  stat: (files, options) => files.stat('/file', options),
  lstat: (files, options) => files.lstat('/file', options),
  statfs: (files, options) => files.statfs('/', options),
  opendir: (files, options) => files.opendir('/folder', options),
  readdir: (files, options) => files.readdir('/folder', options),
  mkdir: (files, options) => files.mkdir('/new-folder', options),
  rmdir: (files, options) => files.rmdir('/folder', options),
  unlink: (files, options) => files.unlink('/file', options),
  rm: (files, options) => files.rm('/file', options),
  removeTree: (files, options) => files.removeTree('/folder', options),
  rename: (files, options) => files.rename('/file', '/renamed', options),
  link: (files, options) => files.link('/file', '/linked', options),
  symlink: (files, options) => files.symlink('file', '/symlink', options),
  readlink: (files, options) => files.readlink('/link', options),
  realpath: (files, options) => files.realpath('/link', options),
  chmod: (files, options) => files.chmod('/file', 0o600, options),
  chown: (files, options) => files.chown('/file', 1, 2, options),
  lchown: (files, options) => files.lchown('/link', 1, 2, options),
  utimes: (files, options) => files.utimes('/file', 1, 2, options),
  lutimes: (files, options) => files.lutimes('/link', 1, 2, options),
  truncate: (files, options) => files.truncate('/file', 1, options),
  open: (files, options) => files.open('/file', 'r+', options),
  readFile: (files, options) => files.readFile('/file', options),
  writeFile: (files, options) => files.writeFile('/file', 'new', options),
  sync: (files, options) => files.sync(options),
  getXattr: (files, options) => files.getXattr('/file', 'user.key', options),
  setXattr: (files, options) => files.setXattr('/file', 'user.key', 'new', options),
  listXattrs: (files, options) => files.listXattrs('/file', options),
  removeXattr: (files, options) => files.removeXattr('/file', 'user.key', options),
  getQuota: (files, options) => files.getQuota('/folder', options),
  setQuota: (files, options) => files.setQuota('/folder', { maxFiles: 10 }, options),
  clearQuota: (files, options) => files.clearQuota('/folder', options),
  effectiveQuota: (files, options) => files.effectiveQuota('/folder', options),
  usage: (files, options) => files.usage('/folder', options),
  listUsage: (files, options) => files.listUsage('/', options).next(),
  openDirectory: (files, options) => files.openDirectory('/folder', options),
  createSnapshot: (files, options) => files.createSnapshot('/folder', 'new', options),
  removeSnapshot: (files, options) => files.removeSnapshot('/folder', 'one', options),
  listSnapshots: (files, options) => files.listSnapshots('/folder', options),
}

export const ofFile: Calls<File> = {
  read: (file, options) => file.read(Buffer.alloc(10), options),
  write: (file, options) => file.write('new', options),
  'write of nothing': (file, options) => file.write('', options),
  sync: (file, options) => file.sync(options),
  datasync: (file, options) => file.datasync(options),
  stat: (file, options) => file.stat(options),
  truncate: (file, options) => file.truncate(0, options),
}

export const ofDirectory: Calls<Directory> = {
  readBatch: (directory, options) => directory.readBatch(options),
  entries: (directory, options) => directory.entries(options).next(),
}

export const ofOpenDirectory: Calls<OpenDirectory> = {
  stat: (held, options) => held.stat(options),
  getXattr: (held, options) => held.getXattr('user.key', options),
  setXattr: (held, options) => held.setXattr('user.key', 'new', options),
  getQuota: (held, options) => held.getQuota(options),
  setQuota: (held, options) => held.setQuota({ maxFiles: 10 }, options),
  usage: (held, options) => held.usage(options),
  ensureDirectories: (held, options) => held.ensureDirectories([{ path: 'a', uid: 1, gid: 1, mode: 0o700 }], options),
}

/** What those calls are made on. */
export async function fileSubjects(files: FileSystem) {
  await files.mkdir('/folder')
  await files.writeFile('/file', 'text')
  await files.symlink('file', '/link')
  await files.setXattr('/file', 'user.key', 'value')
  await files.createSnapshot('/folder', 'one')
  const file = await files.open('/file', 'r+')
  const directory = await files.opendir('/folder')
  const held = await files.openDirectory('/folder')
  return { files, file, directory, held }
}
export type FileSubjects = Awaited<ReturnType<typeof fileSubjects>>

interface NamedCall {
  /** Such as `files.stat`. */
  name: string
  call: (subjects: FileSubjects, options: never) => Promise<unknown>
}

const named = <K extends keyof FileSubjects>(kind: K, calls: Calls<FileSubjects[K]>): NamedCall[] =>
  Object.entries(calls).map(([name, call]) => ({
    name: `${kind}.${name}`,
    call: (subjects, options) => call(subjects[kind], options),
  }))

export const allFileCalls: readonly NamedCall[] = [
  ...named('files', ofFiles),
  ...named('file', ofFile),
  ...named('directory', ofDirectory),
  ...named('held', ofOpenDirectory),
]
