/** What this process holds, as the kernel counts it. */
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MiB } from '../../lib/index.js'

export const threads = () => readdirSync('/proc/self/task').length
export const fileDescriptors = () => readdirSync('/proc/self/fd').length
export const residentMiB = () => process.memoryUsage.rss() / MiB

/** The garbage collector, of a Node that was not started with --expose-gc. */
setFlagsFromString('--expose-gc')
export const collectGarbage = runInNewContext('gc') as () => void

/** Waits until a condition holds, and answers whether it did in time. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs: number): Promise<boolean> {
  const deadline = Date.now() + limitMs
  while (!(await condition())) {
    if (Date.now() > deadline) return false
    await sleep(20)
  }
  return true
}
