import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { readRecord } from '../src/dev/folder.js'
import { stackStatus, stopStack } from '../src/dev/stack.js'
import { TestSite } from './support/broker.js'
import { until } from './support/process.js'

const script = fileURLToPath(new URL('../scripts/start.js', import.meta.url))
const patienceMs = 120_000

t.setTimeout(240_000)

/** A folder to start in, with one for temporary files. What is left running in it is taken down after the test. */
function place(t: Test) {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'cephkit-test-')))
  const temporary = join(dir, 'tmp')
  mkdirSync(temporary)
  const stack = join(dir, '.cephkit/start/stack')
  t.teardown(async () => {
    await stopStack(stack)
    rmSync(dir, { recursive: true })
  })
  return { dir, temporary, stack }
}

type Place = ReturnType<typeof place>

/** `npm start`, where nothing is configured but what the test gives. */
function start(t: Test, { dir, temporary }: Place, args: string[] = [], environment: NodeJS.ProcessEnv = {}) {
  const env = { PATH: process.env.PATH, HOME: dir, TMPDIR: temporary, ...environment }
  const child = spawn(process.execPath, [script, ...args], { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit') as Promise<[code: number | null, signal: string | null]>
  const started = { child, ended, stdout: '', stderr: '' }
  child.stdout.on('data', chunk => {
    started.stdout += chunk
  })
  child.stderr.on('data', chunk => {
    started.stderr += chunk
  })
  const says = async (text: string) => {
    const said = await until(() => started.stdout.includes(text) || child.exitCode !== null, patienceMs)
    if (!said || !started.stdout.includes(text)) throw new Error(`${text}? ${started.stdout}${started.stderr}`)
  }
  return Object.assign(started, { says })
}

t.test('npm start', async t => {
  const here = place(t)
  const first = start(t, here)
  await first.says('Ctrl-C takes everything down')
  t.match(first.stdout, /hello\.txt: the same in the volume/)

  await t.test('is refused beside another one, which is left alone', async t => {
    const second = start(t, here, ['--once'])
    t.same(await second.ended, [1, null])
    t.equal(second.stderr, 'Another npm start is at work in .cephkit/start\n')
    t.match(await stackStatus(here.stack), { state: 'running', health: { status: 'HEALTH_OK' } })
  })

  await t.test('goes on taking down after a failure, and tells of it', async t => {
    const record = join(here.stack, 'cephkit-stack.json')
    renameSync(record, join(here.dir, 'record'))
    first.child.kill('SIGINT')
    t.same(await first.ended, [1, null])
    t.match(first.stderr, /NotAStackError/)
    t.strictSame(readdirSync(here.temporary), [], 'its temporary files are gone')
    renameSync(join(here.dir, 'record'), record)
  })
})

t.test('npm start -- --once', async t => {
  await t.test('ends well when all was as expected, and leaves nothing', async t => {
    const here = place(t)
    const once = start(t, here, ['--once'])
    t.same(await once.ended, [0, null])
    t.match(once.stdout, /numbers\.bin: the same in the volume.*\n\n── Taking everything down\n/)
    t.equal(once.stderr, '')
    t.notOk(existsSync(join(here.dir, '.cephkit/start')))
    t.strictSame(readdirSync(here.temporary), [])
  })

  await t.test('fails when another program reads something else, and leaves nothing either', async t => {
    const here = place(t)
    const programs = join(here.dir, 'bin')
    mkdirSync(programs)
    const rbdThatLies = '#!/bin/sh\n/usr/bin/rbd "$@" | sed "s/\\"size\\":134217728/\\"size\\":1/"\n'
    writeFileSync(join(programs, 'rbd'), rbdThatLies, { mode: 0o755 })
    const once = start(t, here, ['--once'], { PATH: `${programs}:${process.env.PATH}` })
    t.same(await once.ended, [1, null])
    t.match(once.stderr, /the volume has the size that was asked for/)
    t.notOk(existsSync(join(here.dir, '.cephkit/start')))
  })
})

t.test('npm start, after one that was killed', async t => {
  const here = place(t)
  const first = start(t, here)
  await first.says('Starting the agent')
  first.child.kill('SIGKILL')
  await first.ended
  const left = readRecord(here.stack)

  const next = start(t, here, ['--once'])
  await next.says('Starting the agent')
  t.not(readRecord(here.stack)?.id, left?.id, 'has a cluster of its own')

  await t.test('that is interrupted while the agent starts, takes everything down', async t => {
    next.child.kill('SIGINT')
    t.same(await next.ended, [130, null])
    t.equal(next.stderr, '')
    t.notOk(existsSync(join(here.dir, '.cephkit/start')))
  })
})

t.test('npm start, where a broker and a cluster are configured, runs the agent on them', async t => {
  const site = await TestSite.open(t)
  const here = place(t)
  const agent = start(t, here, [], { ...site.environment, HTTP_PORT: '0' })
  await agent.says('connected to the broker')
  const { disk } = await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 1 }))
  t.same(await site.imageNames(), [disk.name])
  agent.child.kill('SIGINT')
  t.same(await agent.ended, [0, null])
  t.notOk(existsSync(join(here.dir, '.cephkit')), 'nothing was brought up')
})

t.test('npm start, where what is configured is wrong, says so, and brings up nothing', async t => {
  const here = place(t)
  mkdirSync(join(here.dir, '.ceph'))
  writeFileSync(join(here.dir, '.ceph/ceph.conf'), 'no configuration\n')
  const ways: [environment: NodeJS.ProcessEnv, reason: RegExp, failure: RegExp][] = [
    [
      { BROKER_URL: 'amqp://localhost', CEPH_CONF: '/none' },
      /as BROKER_URL and CEPH_CONF are there/,
      /ENOENT: .*\/none/,
    ],
    [{ RMQ_URL: 'amqp://localhost', CEPH_CONF: '/none' }, /as RMQ_URL and CEPH_CONF are there/, /ENOENT: .*\/none/],
    [{ BROKER_URL: 'amqp://localhost' }, /as BROKER_URL and .*\/\.ceph\/ceph\.conf are there/, /not a configuration/],
  ]
  for (const [environment, reason, failure] of ways) {
    const agent = start(t, here, [], environment)
    t.same(await agent.ended, [1, null])
    t.match(agent.stdout, reason)
    t.match(agent.stderr, failure)
    const check = start(t, here, ['--once'], environment)
    t.same(await check.ended, [1, null])
    t.match(check.stderr, /^--once is for a cluster and a broker of its own/)
  }
  t.notOk(existsSync(join(here.dir, '.cephkit')), 'nothing was brought up')
})
