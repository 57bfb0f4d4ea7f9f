import t from 'tap'
import { readConfig } from '../src/config.js'
import { brokerAddress, createLogger, redactor } from '../src/log.js'

const password = 'correct horse/battery'
const url = `amqp://agent:${encodeURIComponent(password)}@broker:5672/v`
const key = 'AQCvCbtToC6MDhAATtuT70Sl+DymPCfDSsyV4w=='

function lines(settings: Record<string, string>) {
  const written: string[] = []
  const config = readConfig({ BROKER_URL: url, ...settings })
  return { written, log: createLogger(config, { write: line => void written.push(line) }) }
}

t.test('a line has no secret in it, wherever it would stand', async t => {
  for (const json of ['1', '0']) {
    const { written, log } = lines({ LOG_JSON: json })
    const child = log.child({ job: `task ${url}` })
    child.info(`connecting to ${url}`)
    child.error({ err: new Error(`Invalid URL: ${url}`, { cause: new Error(password) }) }, 'failed')
    child.warn({ deep: { in: [{ it: url, and: { plain: password } }] } }, 'deep')
    child.info({ password: 'short', chapPassword: 'x', nested: { dashboardToken: 'abc', secret: 'a"b' } }, 'fields')
    child.info({ keyring: `[client.admin]\n key = ${key}` }, `the key is ${key}`)
    child.info(`another broker: amqps://someone:pw@elsewhere/`)
    const text = written.join('')
    t.equal(written.length, 6)
    for (const secret of [
      password,
      encodeURIComponent(password),
      'battery',
      '"short"',
      '"abc"',
      'a\\"b',
      key,
      ':pw@',
    ]) {
      t.notOk(text.includes(secret), `${secret} with LOG_JSON=${json}`)
    }
    t.match(text, /amqp:\/\/agent:\[redacted\]@broker:5672/, 'what is no secret is there')
    t.match(text, /Invalid URL/)
    if (json === '1') for (const line of written) t.ok(JSON.parse(line), 'and it is JSON still')
  }
})

t.test('a password that is a common word does not take that word from every line', async t => {
  const config = readConfig({ BROKER_URL: 'amqp://guest:guest@broker', LOG_JSON: '1' })
  const written: string[] = []
  createLogger(config, { write: line => void written.push(line) }).info('guest of amqp://guest:guest@broker')
  t.equal(JSON.parse(written[0] ?? '').msg, 'guest of amqp://guest:[redacted]@broker')
})

t.test('redacts what is in no URL', async t => {
  t.equal(redactor(['a"secret"\\'])(JSON.stringify({ it: 'a"secret"\\' })), '{"it":"[redacted]"}')
})

t.test('is for people, or for programs', async t => {
  const program = lines({ LOG_JSON: '1', LOG_SERVICE_NAME: 'storage' })
  program.log.child({ job: 'task-1' }).info({ ms: 7 }, 'job done')
  t.match(JSON.parse(program.written[0] ?? ''), { level: 30, name: 'storage', job: 'task-1', ms: 7, msg: 'job done' })
  const people = lines({ LOG_JSON: '0' })
  people.log.child({ job: 'task-1' }).info({ ms: 7 }, 'job done')
  t.match(people.written.join(''), /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: job done \{"job":"task-1","ms":7\}\n$/)
})

t.test('says as much as it is told to', async t => {
  const quiet = lines({ LOG_LEVEL: 'warn' })
  quiet.log.info('a')
  quiet.log.warn('b')
  t.equal(quiet.written.length, 1)
  const off = lines({ LOG_ENABLED: '0' })
  off.log.fatal('c')
  t.equal(off.written.length, 0)
})

t.test('the address of a broker has no password in it', async t => {
  t.equal(brokerAddress(url), 'amqp://broker:5672/v')
})
