/** The log where standard output is the journal of systemd: there the variable JOURNAL_STREAM names it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { command } from '../support/command.js'

/** What an agent logs that cannot reach a cluster. */
async function logged(settings: (stream: string) => Record<string, string>): Promise<string[]> {
  const path = join(await mkdtemp(join(tmpdir(), 'cephkit-journal-')), 'log')
  const file = await open(path, 'w')
  const { dev, ino } = await file.stat()
  const env = {
    PATH: process.env.PATH,
    BROKER_URL: 'amqp://127.0.0.1:1',
    CEPH_CONF: '/nonexistent.conf',
    HTTP_PORT: '0',
    ...settings(`${dev}:${ino}`),
  }
  const child = spawn(process.execPath, [command, 'agent'], { env, stdio: ['ignore', file.fd, 'ignore'] })
  await once(child, 'exit')
  await file.close()
  return (await readFile(path, 'utf8')).split('\n').filter(line => line !== '')
}

t.test('a line has its priority in front, and neither a time nor a level of its own', async t => {
  const lines = await logged(stream => ({ JOURNAL_STREAM: stream }))
  t.equal(lines[0], '<6>starting')
  t.ok(lines.length > 1)
  for (const line of lines) t.match(line, /^<6>/, 'each line, also of what takes several')
})

t.test('a program that was started from a service, with output of its own, logs as ever', async t => {
  const lines = await logged(() => ({ JOURNAL_STREAM: '1:2' }))
  t.match(lines[0], /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: starting$/)
})

t.test('LOG_JSON=1 is what it says', async t => {
  const lines = await logged(stream => ({ JOURNAL_STREAM: stream, LOG_JSON: '1' }))
  t.match(JSON.parse(lines[0] ?? ''), { level: 30, msg: 'starting' })
})
