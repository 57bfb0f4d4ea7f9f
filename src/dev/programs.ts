import { accessSync, constants } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { MissingProgramsError } from './errors.js'
import type { Service } from './options.js'

/** Every program that a stack runs, and the Debian package that has it. */
const PACKAGE_OF = {
  'ceph-mon': 'ceph-mon',
  'ceph-mgr': 'ceph-mgr',
  'ceph-osd': 'ceph-osd',
  'ceph-mds': 'ceph-mds',
  monmaptool: 'ceph-base',
  radosgw: 'radosgw',
  rbd: 'ceph-common',
  // Not the first python3 of PATH: Debian's own is the one that Ceph's module is installed for.
  '/usr/bin/python3': 'python3-rados',
  '/usr/share/ceph/mgr/dashboard/module.py': 'ceph-mgr-dashboard',
  // Not /usr/sbin/rabbitmq-server: that one changes to the user rabbitmq, who has no access to the state folder.
  '/usr/lib/rabbitmq/bin/rabbitmq-server': 'rabbitmq-server',
  epmd: 'erlang-base',
  tgtd: 'tgt',
  tgtadm: 'tgt',
  '/usr/lib/tgt/backing-store/bs_rbd.so': 'tgt-rbd',
} as const

export type Program = keyof typeof PACKAGE_OF

const BLOCK: Program[] = ['ceph-mon', 'ceph-mgr', 'ceph-osd', 'monmaptool', 'rbd', '/usr/bin/python3']

const SERVICE: Record<Service, Program[]> = {
  mds: ['ceph-mds'],
  radosgw: ['radosgw'],
  dashboard: ['/usr/share/ceph/mgr/dashboard/module.py'],
  rabbitmq: ['/usr/lib/rabbitmq/bin/rabbitmq-server', 'epmd'],
  tgt: ['tgtd', 'tgtadm', '/usr/lib/tgt/backing-store/bs_rbd.so'],
}

/** Throws one error that names all that is missing, before anything is started. */
export function requirePrograms(services: Service[]): void {
  const needed = [...BLOCK, ...services.flatMap(service => SERVICE[service])]
  const missing = needed.filter(program => !findProgram(program))
  if (missing.length === 0) return
  throw new MissingProgramsError(missing, [...new Set(missing.map(program => PACKAGE_OF[program]))])
}

/** PATH, and the folders of daemons, which the PATH of a user other than root often lacks. */
export function searchPath(): string {
  return [process.env.PATH, '/usr/sbin', '/sbin'].filter(Boolean).join(delimiter)
}

/** The path of a program, for programs that may live elsewhere than usual. */
export function findProgram(program: Program): string | undefined {
  if (isAbsolute(program)) return exists(program) ? program : undefined
  return searchPath()
    .split(delimiter)
    .map(folder => join(folder, program))
    .find(exists)
}

function exists(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}
