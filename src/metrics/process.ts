/**
 * Metrics of the process, whoever runs in it: Node.js itself, and the library's calls, as the channel `cephkit:call` tells of
 * them.
 */
import { subscribe } from 'node:diagnostics_channel'
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { type CallReport, CephError, workerLoad } from '../../lib/index.js'
import { version } from '../version.js'

let registry: Registry | undefined

/** Counts from the first time on that it is asked for. */
export function processMetrics(): Registry {
  registry ??= newRegistry()
  return registry
}

function newRegistry(): Registry {
  const register = new Registry()
  const registers = [register]
  collectDefaultMetrics({ register })
  new Gauge({
    name: 'cephkit_info',
    help: 'Which cephkit this is; always 1.',
    labelNames: ['version'],
    registers,
  }).set({ version }, 1)
  new Gauge({
    name: 'cephkit_workers',
    help: "The library's own threads, busy or not, and calls that wait for one.",
    labelNames: ['state'],
    registers,
    collect() {
      const { threads, busy, queued } = workerLoad()
      this.set({ state: 'busy' }, busy)
      this.set({ state: 'idle' }, threads - busy)
      this.set({ state: 'queued' }, queued)
    },
  })
  countCalls(registers)
  return register
}

function countCalls(registers: Registry[]): void {
  const total = new Counter({
    name: 'cephkit_library_calls_total',
    help: 'Calls of the library that are over, well or badly.',
    labelNames: ['operation'],
    registers,
  })
  const seconds = new Counter({
    name: 'cephkit_library_call_seconds_total',
    help: 'For how long callers of the library have waited for their answers.',
    labelNames: ['operation'],
    registers,
  })
  const errors = new Counter({
    name: 'cephkit_library_errors_total',
    help: 'Calls of the library that have failed: the C function, and the errno by name.',
    labelNames: ['operation', 'syscall', 'code'],
    registers,
  })
  subscribe('cephkit:call', message => {
    const { operation, durationMs, error } = message as CallReport
    total.inc({ operation })
    seconds.inc({ operation }, durationMs / 1000)
    if (error !== undefined) errors.inc({ operation, ...causeOf(error) })
  })
}

function causeOf(error: unknown): { syscall: string; code: string } {
  if (error instanceof CephError) return { syscall: error.syscall, code: error.code }
  const { code } = error as { code?: unknown }
  return { syscall: '', code: typeof code === 'string' ? code : 'none' }
}
