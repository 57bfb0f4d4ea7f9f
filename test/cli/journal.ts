/** The log where standard output is the journal of systemd: there the variable JOURNAL_STREAM names it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { command } from '../support/command.js'

/** What an agent logs that cannot reach a cluster; or another program. */
async function logged(
  t: Test,
  settings: (stream: string) => Record<string, string>,
  program = [command, 'agent'],
): Promise<string[]> {
  const path = join(t.testdir(), 'log')
  const file = await open(path, 'w')
  const { dev, ino } = await file.stat()
  const env = {
    PATH: process.env.PATH,
    BROKER_URL: 'amqp://127.0.0.1:1',
    CEPH_CONF: '/nonexistent.conf',
    HTTP_PORT: '0',
    ...settings(`${dev}:${ino}`),
  }
  const child = spawn(process.execPath, program, { env, stdio: ['ignore', file.fd, 'ignore'] })
  await once(child, 'exit')
  await file.close()
  return (await readFile(path, 'utf8')).split('\n').filter(line => line !== '')
}

t.test('a line has its priority in front, and neither a time nor a level of its own', async t => {
  const lines = await logged(t, stream => ({ JOURNAL_STREAM: stream }))
  t.match(lines[0], /^<6>starting \{"version":".*","agentId":".*"\}$/)
  for (const line of lines) t.match(line, /^<6>/)
})

t.test('the id of a job is in the line that tells of it, and each line of its stack has the priority', async t => {
  const script = `
    import { readConfig } from '${new URL('../../src/config.js', import.meta.url)}'
    import { createLogger } from '${new URL('../../src/log.js', import.meta.url)}'
    createLogger(readConfig(process.env)).child({ job: 'task-1' }).error({ err: new Error('full') }, 'job failed')`
  const program = ['--input-type=module', '-e', script]
  const lines = await logged(t, stream => ({ JOURNAL_STREAM: stream }), program)
  t.equal(lines[0], '<3>job failed {"job":"task-1"}')
  t.ok(lines.length > 2)
  for (const line of lines) t.match(line, /^<3>/)
})

t.test('a program that was started from a service, with output of its own, logs as ever', async t => {
  const lines = await logged(t, () => ({ JOURNAL_STREAM: '1:2' }))
  t.match(lines[0], /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: starting \{/)
})

t.test('LOG_JSON=1 is what it says', async t => {
  const lines = await logged(t, stream => ({ JOURNAL_STREAM: stream, LOG_JSON: '1' }))
  t.match(JSON.parse(lines[0] ?? ''), { level: 30, msg: 'starting' })
})
