/**
 * `npm run asyncapi`: writes docs/asyncapi.json, which describes the agent's messages, from the schemas that the agent checks
 * them with. AsyncAPI 3.0.
 */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { inventorySchema } from '../src/inventory/collect.js'
import { heartbeatSchema, mountEventSchema } from '../src/inventory/telemetry.js'
import { type Action, allActions } from '../src/jobs/actions.js'
import { envelopeSchema, resultSchema } from '../src/jobs/message.js'
import { version } from '../src/version.js'

export const path = fileURLToPath(new URL('../../docs/asyncapi.json', import.meta.url))

type Json = Record<string, unknown>

/** Each action once, with all its names. */
function actionsByName(): { names: [string, ...string[]]; action: Action }[] {
  const found: { names: [string, ...string[]]; action: Action }[] = []
  for (const [name, action] of allActions()) {
    const known = found.find(each => each.action === action)
    if (known) known.names.push(name)
    else found.push({ names: [name], action })
  }
  return found
}

export function describeMessages(): Json {
  const actions = actionsByName()
  const jobs = Object.fromEntries(actions.map(({ names, action }) => [names[0], jobMessage(names, action)]))
  const results = Object.fromEntries(
    actions.map(({ names, action }) => [`${names[0]}.result`, resultMessage(names, action)]),
  )
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'cephkit agent',
      version,
      description:
        'Jobs for a storage agent over AMQP 0-9-1, and what it has to say. Exchanges and keys are those of the default settings; docs/agent.md has the settings.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    channels: {
      jobs: {
        address: '{agentId}',
        description: 'Persistent messages, each published once for a job, or again with the same taskId.',
        parameters: { agentId: { description: 'STORAGE_CONTROLLER_AGENT_ID: the routing key' } },
        messages: references(jobs),
        bindings: exchange('jobs', 'direct'),
      },
      results: {
        address: 'task.{action}',
        description: 'One result a job, or the same one again.',
        parameters: { action: { description: "the job's action, as it was given" } },
        messages: references(results),
        bindings: exchange('results', 'topic'),
      },
      inventory: {
        address: 'inventory.storage.full',
        messages: { inventory: reference('inventory') },
        bindings: exchange('agent.telemetry', 'topic'),
      },
      heartbeat: {
        address: 'heartbeat.{agentId}',
        parameters: { agentId: { description: 'STORAGE_CONTROLLER_AGENT_ID' } },
        messages: { heartbeat: reference('heartbeat') },
        bindings: exchange('agent.telemetry', 'topic'),
      },
      mount: {
        address: 'mount.{agentId}',
        parameters: { agentId: { description: 'STORAGE_CONTROLLER_AGENT_ID' } },
        messages: { mount: reference('mount') },
        bindings: exchange('agent.telemetry', 'topic'),
      },
      deadLetters: {
        address: '{routingKey}',
        description: 'Messages that are no jobs, as they came, with the reason in a header.',
        parameters: { routingKey: { description: 'that of the message' } },
        messages: { deadLetter: reference('deadLetter') },
        bindings: exchange('jobs.dead', 'topic'),
      },
    },
    operations: {
      doJob: {
        action: 'receive',
        channel: { $ref: '#/channels/jobs' },
        reply: { channel: { $ref: '#/channels/results' } },
      },
      tellInventory: { action: 'send', channel: { $ref: '#/channels/inventory' } },
      tellHeartbeat: { action: 'send', channel: { $ref: '#/channels/heartbeat' } },
      tellMount: { action: 'send', channel: { $ref: '#/channels/mount' } },
      putAside: { action: 'send', channel: { $ref: '#/channels/deadLetters' } },
    },
    components: {
      messages: {
        ...jobs,
        ...results,
        inventory: {
          summary: 'All there is: at start, in intervals, after changes, and when inventory.refresh asks for it.',
          payload: schemaOf(z.object({ storageId: z.string(), ts: z.string(), inventory: inventorySchema })),
        },
        heartbeat: { summary: 'The agent is there.', payload: schemaOf(heartbeatSchema) },
        mount: {
          summary: 'Health of the mount at MOUNT_PATH: when it changes, and when the broker is reached.',
          payload: schemaOf(mountEventSchema),
        },
        deadLetter: {
          summary: 'Any message.',
          headers: {
            type: 'object',
            properties: {
              'x-cephkit-reason': { type: 'string' },
              'x-cephkit-agent': { type: 'string' },
              'x-cephkit-exchange': { type: 'string', description: 'where the message had been published to' },
            },
            required: ['x-cephkit-reason', 'x-cephkit-agent'],
          },
        },
      },
    },
  }
}

function jobMessage(names: readonly string[], { data }: Action): Json {
  const { properties, ...envelope } = schemaOf(envelopeSchema)
  return {
    title: names.join(', '),
    payload: {
      ...envelope,
      properties: { ...(properties as Json), action: { enum: names }, data: schemaOf(data, 'output') },
    },
  }
}

function resultMessage(names: readonly string[], { gives }: Action): Json {
  const { properties, ...result } = schemaOf(resultSchema)
  return {
    title: `the result of ${names.join(', ')}`,
    correlationId: { location: '$message.payload#/taskId' },
    payload: { ...result, properties: { ...(properties as Json), ...(gives && { result: schemaOf(gives) }) } },
  }
}

/** @param io - Data is described as it is when it has been read: under one name for each key. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output' = 'input'): Json {
  const { $schema, ...described } = z.toJSONSchema(schema, {
    io,
    target: 'draft-7',
    override: ({ jsonSchema }) => simplify(jsonSchema),
  })
  return described
}

/** The format says it better than the regular expression that zod has for it. */
function simplify(schema: { format?: string; pattern?: string }): void {
  if (schema.format === 'date-time') delete schema.pattern
}

function reference(message: string): Json {
  return { $ref: `#/components/messages/${message}` }
}

function references(messages: Json): Json {
  return Object.fromEntries(Object.keys(messages).map(name => [name, reference(name)]))
}

function exchange(name: string, type: 'direct' | 'topic'): Json {
  return { amqp: { is: 'routingKey', exchange: { name, type, durable: true, vhost: '/' }, bindingVersion: '0.3.0' } }
}

export function toText(document: Json): string {
  return `${JSON.stringify(document, null, 2)}\n`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(path, toText(describeMessages()))
