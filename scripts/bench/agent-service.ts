/** The agent under test, as `cephkit agent` runs it; its log goes nowhere, and it tells what it has done. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { pino } from 'pino'
import type { CallReport } from '../../lib/index.js'
import { type Agent, createAgent, readConfig } from '../../src/agent/index.js'
import { journalNamespace } from '../../src/journal/layout.js'
import { createLogger } from '../../src/log.js'
import { serve } from './serve.js'

/** What has been written to the journal. */
export interface JournalCost {
  operations: number
  /** Operations that are under way together are one. */
  roundTrips: number
}

let agent: Agent | undefined
const writes: { begunAt: number; endedAt: number }[] = []

async function start(settings: Record<string, string>): Promise<void> {
  const config = readConfig({ ...process.env, ...settings, HTTP_PORT: '0' })
  agent = createAgent({ config, log: createLogger(config, pino.destination({ dest: '/dev/null', sync: true })) })
  await agent.start()
}

/** Of the whole process, user and system. */
async function cpuMs(): Promise<number> {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** For a job the journal is only written to; what reads it now and then, and renews the lease, is not of a job. */
function onCall(message: unknown): void {
  const { operation, resource, durationMs } = message as CallReport
  if (operation !== 'objectWrite' || !resource.name.includes(`/${journalNamespace}/`)) return
  const endedAt = performance.now()
  writes.push({ begunAt: endedAt - durationMs, endedAt })
}

async function listen(): Promise<void> {
  subscribe('cephkit:call', onCall)
}

async function heard(): Promise<JournalCost> {
  unsubscribe('cephkit:call', onCall)
  let roundTrips = 0
  let until = 0
  for (const { begunAt, endedAt } of writes.sort((a, b) => a.begunAt - b.begunAt)) {
    if (begunAt >= until) roundTrips++
    until = Math.max(until, endedAt)
  }
  return { operations: writes.splice(0).length, roundTrips }
}

await serve({ start, cpuMs, listen, heard })
await agent?.stop()
