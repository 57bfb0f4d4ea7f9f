/** Whether requests are as an OpenAPI text has them. */
import { Ajv, type ValidateFunction } from 'ajv'
import type { RecordedRequest } from './fake-dashboard.js'

interface Schema {
  type?: string
  description?: string
  properties?: Record<string, Schema>
  [key: string]: unknown
}

interface Parameter {
  in: 'path' | 'query'
  name: string
  required?: boolean
}

interface Operation {
  parameters: Parameter[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { content?: Record<string, unknown> }>
}

export interface OpenApi {
  paths: Record<string, Record<string, Operation>>
}

const ajv = new Ajv({ strict: false, allErrors: true })
const bodies = new WeakMap<Operation, ValidateFunction>()

/** What is not as the text says; nothing, if all is. */
export function problemsWith(api: OpenApi, { method, path, query, accept, body }: RecordedRequest): string[] {
  const operation = operationFor(api, method, path)
  if (operation === undefined) return [`no ${method} ${path}`]
  const known = operation.parameters.filter(parameter => parameter.in === 'query')
  const unknown = Object.keys(query).filter(name => !known.some(parameter => parameter.name === name))
  const missing = known.filter(({ name, required }) => required && query[name] === undefined).map(({ name }) => name)
  const versions = Object.values(operation.responses).flatMap(({ content = {} }) => Object.keys(content))
  return [
    ...unknown.map(name => `the query has ${name}`),
    ...missing.map(name => `the query has no ${name}`),
    ...(versions.includes(accept ?? '') ? [] : [`Accept is ${accept}, not ${versions[0]}`]),
    ...bodyProblems(operation, body),
  ]
}

function operationFor({ paths }: OpenApi, method: string, path: string): Operation | undefined {
  const operations = Object.entries(paths).find(([template]) => matches(template, path))?.[1]
  return operations?.[method.toLowerCase()]
}

function matches(template: string, path: string): boolean {
  const parts = path.split('/')
  const named = template.split('/')
  return parts.length === named.length && named.every((part, index) => part.startsWith('{') || part === parts[index])
}

function bodyProblems(operation: Operation, body: unknown): string[] {
  const schema = operation.requestBody?.content['application/json']?.schema
  if (schema === undefined) return body === undefined ? [] : ['there is a body']
  const validate = bodies.get(operation) ?? ajv.compile(withoutGuesses(schema))
  bodies.set(operation, validate)
  if (validate(body)) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `the body${instancePath} ${message}`)
}

/**
 * Of a parameter that nobody has described the text says that it is a string, although it is an object or a list as often. What
 * is left of such a one is its name; and no other names may be there.
 */
function withoutGuesses(schema: Schema): Schema {
  const isGuess = ({ type, description }: Schema) => type === 'string' && description === undefined
  const properties = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    return [name, isGuess(property) && !['username', 'password'].includes(name) ? {} : property] as const
  })
  return { ...schema, properties: Object.fromEntries(properties), additionalProperties: false }
}
