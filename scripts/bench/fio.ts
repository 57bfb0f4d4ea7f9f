/** The data of an image by fio's rbd engine: a process for each measurement. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { IoMeasurement, Load } from './io-client.js'

/** The unit of the times in /proc, on every Linux. */
const clockTickMs = 10

const job = 'job'
/** fio's own figures are of its thread alone, without those of librbd. The shell's parent is fio, the whole process. */
const statOfFio = 'cat /proc/$PPID/stat'

interface Direction {
  total_ios: number
  /** In milliseconds. */
  runtime: number
}

/** The engine knows no namespaces: the image is in the pool itself. */
export async function measureByFio(
  { pool, image, cephConf }: { pool: string; image: string; cephConf: string },
  load: Load,
  seconds: number,
): Promise<IoMeasurement> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
  try {
    const options = {
      name: job,
      ...{ ioengine: 'rbd', clientname: 'admin', pool, rbdname: image },
      ...{ rw: load.kind, bs: load.blockSize, iodepth: load.depth, norandommap: 1, randrepeat: 0 },
      ...{ time_based: 1, runtime: `${Math.round(seconds * 1000)}ms` },
      ...{ exec_prerun: statOfFio, exec_postrun: statOfFio, 'output-format': 'json' },
    }
    const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`)
    const direction = directionOf(await run(args, folder, cephConf), load)
    const cpuMs = (await cpuMsAt(folder, 'postrun')) - (await cpuMsAt(folder, 'prerun'))
    return { operations: direction.total_ios, elapsedMs: direction.runtime, cpuMs }
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function run(args: string[], folder: string, cephConf: string): Promise<string> {
  // In a group of its own, so that Ctrl-C does not end it with the image open.
  const fio = spawn('fio', args, {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CEPH_CONF: cephConf },
    detached: true,
  })
  const [output, said, [status]] = await Promise.all([text(fio.stdout), text(fio.stderr), once(fio, 'close')])
  if (status !== 0) throw new Error(`fio ${args.join(' ')}: ${said.trim()}`)
  return output
}

/** It says a few other things first. */
function directionOf(output: string, { kind }: Load): Direction {
  const { read, write } = JSON.parse(output.slice(output.indexOf('{'))).jobs[0]
  return kind.endsWith('read') ? read : write
}

/** As in proc(5): user and system time are the 14th field and the 15th, and the second is the name in parentheses. */
async function cpuMsAt(folder: string, moment: 'prerun' | 'postrun'): Promise<number> {
  const stat = await readFile(join(folder, `${job}.${moment}.txt`), 'utf8')
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11)
  return (Number(user) + Number(system)) * clockTickMs
}
