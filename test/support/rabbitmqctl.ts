import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Stack } from '../../src/dev/describe.js'
import { run } from './cluster.js'

/** `rabbitmqctl` for the broker of a stack. */
export function rabbitmqctl({ dir, pids }: Stack): (...args: string[]) => Promise<string> {
  const mapper = readFileSync(`/proc/${pids.epmd}/cmdline`, 'utf8').split('\0')
  const node = {
    HOME: join(dir, 'rabbitmq', 'home'),
    RABBITMQ_NODENAME: 'cephkit@localhost',
    ERL_EPMD_PORT: mapper[mapper.indexOf('-port') + 1],
  }
  const settings = Object.entries(node).map(([name, value]) => `${name}=${value}`)
  return (...args) => run('env', ...settings, '/usr/lib/rabbitmq/bin/rabbitmqctl', ...args)
}
