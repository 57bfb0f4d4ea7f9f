/**
 * The real cluster that all tests share. Named by CEPH_CONF, as any program of Ceph's has it.
 */
import { execFile } from 'node:child_process'
import { basename } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { Cluster, type ConnectOptions, type Pool } from '../../lib/index.js'
import './stack.js'

const poolName = 'rbd'
let names = 0

const nextName = () => `${basename(process.argv[1] ?? 'test', '.js')}-${process.pid}-${++names}`

/** A connection that ends with the test. */
export async function testCluster(t: Test, options: ConnectOptions = {}): Promise<Cluster> {
  const cluster = await Cluster.connect(options)
  t.teardown(() => cluster.close())
  return cluster
}

/** A namespace of the test's own. It is left behind, for a look at it when the test has failed. */
export async function testPool(t: Test, options: ConnectOptions = {}): Promise<Pool> {
  const cluster = await testCluster(t, options)
  const namespace = nextName()
  const pool = await cluster.openPool(poolName)
  await pool.createNamespace(namespace)
  await pool.close()
  return cluster.openPool(poolName, { namespace })
}

/** A pool of the test's own, for what belongs to a pool as a whole, or is in no namespace. It goes with the test. */
export async function testWholePool(t: Test): Promise<Pool> {
  const cluster = await testCluster(t)
  const name = nextName()
  await cluster.createPool(name)
  t.teardown(() => cluster.deletePool(name))
  const pool = await cluster.openPool(name)
  await pool.initialize()
  return pool
}

/** Runs a program that is not cephkit; answers what it prints. One that hangs is ended, and the error names it. */
export async function run(program: string, ...args: string[]): Promise<string> {
  return runFor(120, program, ...args)
}

async function runFor(seconds: number, program: string, ...args: string[]): Promise<string> {
  // The runtime of a sanitizer is for this process, and some of those programs hang with it.
  const env = { ...process.env, LD_PRELOAD: undefined }
  const options = { env, maxBuffer: 64 * 1024 * 1024, timeout: seconds * 1000, killSignal: 'SIGKILL' } as const
  const { stdout } = await promisify(execFile)(program, args, options)
  return stdout
}

/**
 * Runs `rbd`, to read; answers its JSON. `rbdJson('info', pool.path + '/disk')`
 *
 * Again where it ended by a signal: it opens images at snapshots and closes them at once, of which librbd 16.2 dies or hangs. On
 * a machine that was busy, one `rbd du` of six died so, and one of a hundred hung.
 */
// biome-ignore lint/suspicious/noExplicitAny: the shape is that command's own
export async function rbdJson(...args: string[]): Promise<any> {
  for (let attempt = 1; ; attempt++) {
    try {
      return JSON.parse(await runFor(30, 'rbd', '--format', 'json', ...args))
    } catch (error) {
      if (attempt === 6 || !(error as { signal?: string }).signal) throw error
    }
  }
}
