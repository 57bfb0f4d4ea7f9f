/** What the agent tells over HTTP, as somebody who scrapes it has it. */
import { once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Agent } from '../../src/agent/index.js'

export interface Readiness {
  ready: boolean
  stopping: boolean
  broker: { ok: boolean; since: string; reason?: string }
  cluster: { ok: boolean; since: string; reason?: string }
  journal: { ok: boolean; since: string; reason?: string }
}

/** On a connection of its own: one that is kept may be closed at the very moment at which it is used again. */
export async function get(agent: Agent, path: string): Promise<{ status: number; type: string; body: string }> {
  const request = httpGet(`${agent.httpUrl}${path}`, { agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const { statusCode = 0, headers } = response
  return { status: statusCode, type: headers['content-type'] ?? '', body: await text(response) }
}

export async function readiness(agent: Agent): Promise<Readiness & { status: number }> {
  const { status, body } = await get(agent, '/readyz')
  return { status, ...(JSON.parse(body) as Readiness) }
}

const sample = /^([a-zA-Z_:][\w:]*)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (-?[\d.e+-]+|NaN|Nan|[+-]Inf)$/

/** By name and labels, such as `cephkit_jobs_total{action="storage.create",outcome="ok"}`. Throws if it is no such text. */
export async function metricsOf(agent: Agent): Promise<Map<string, number>> {
  const { status, body } = await get(agent, '/metrics')
  if (status !== 200) throw new Error(`${status} ${body}`)
  const samples = new Map<string, number>()
  for (const line of body.split('\n')) {
    if (line === '' || /^# (HELP|TYPE) [\w:]+ ./.test(line)) continue
    const [, name, labels, value] = sample.exec(line) ?? []
    if (name === undefined) throw new Error(`no line of Prometheus' text format: ${line}`)
    samples.set(labels ? `${name}{${labels}}` : name, Number(value))
  }
  return samples
}
