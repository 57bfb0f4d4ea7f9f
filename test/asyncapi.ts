/** docs/asyncapi.json is what the schemas say, is AsyncAPI, and fits what the agent sends. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import t from 'tap'
import { describeMessages, path, toText } from '../scripts/asyncapi.js'
import { TestSite, until } from './support/broker.js'

const document = describeMessages()

function check(schema: object, value: unknown): object[] {
  const ajv = new Ajv({ strict: false, allErrors: true })
  formats.default(ajv)
  const validate = ajv.compile(schema)
  validate(value)
  return validate.errors ?? []
}

/** The schema of a message's body. */
function payload(message: string): object {
  const { messages } = document.components as { messages: Record<string, { payload: object }> }
  const found = messages[message]
  if (found === undefined) throw new Error(`there is no message ${message}`)
  return found.payload
}

t.test('the document is as the schemas are; npm run asyncapi writes it anew', async t => {
  t.equal(await readFile(path, 'utf8'), toText(document))
})

t.test('it is AsyncAPI 3.0', async t => {
  const schema = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json')
  t.same(check(schema, document), [])
})

t.test('what the agent sends is as it says', async t => {
  const site = await TestSite.open(t)
  await site.startAgent()
  const create = site.job('storage.create', { name: 'web', sizeMB: 8 })
  t.same(check(payload('storage.create'), create), [])
  t.not(check(payload('storage.create'), { ...create, data: { name: 'web' } }).length, 0)
  const created = await site.perform(create)
  t.same(check(payload('storage.create.result'), created), [])
  t.same(check(payload('storage.create.result'), await site.perform(site.job('storage.create', {}))), [])
  const refId = (created.result as { disk: { name: string } }).disk.name
  for (const [action, data] of Object.entries({
    'storage.resize': { refId, sizeMB: 16 },
    'storage.snapshot.create': { refId, snapshot: 'monday' },
    'storage.snapshot.list': { refId },
    'storage.qos.set': { refId, iops: { limit: 1000 } },
    'storage.flatten': { refId },
    'inventory.refresh': {},
    'storage.delete': { refId },
    'tenant.ensure': { uid: 20_001, gid: 20_001, quota: { maxBytes: 4096 } },
    'quota.set': { maxFiles: 100 },
    'quota.get': {},
    'quota.clear': {},
    'tenant.usage': {},
    'tenant.delete': {},
  })) {
    const result = await site.perform(site.job(action, data))
    t.ok(result.ok, action)
    t.same(check(payload(`${action}.result`), result), [], action)
  }
  await until('telemetry', () => site.telemetry.length > 2)
  for (const { routingKey, body } of site.telemetry) {
    t.same(check(payload(routingKey.startsWith('heartbeat') ? 'heartbeat' : 'inventory'), body), [], routingKey)
  }
})
