/**
 * libiscsi's own tests on a volume, beside the same on a file that the same tgtd exposes: a few suites, or, with
 * CONFORMANCE=all, all of them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite, until } from '../support/broker.js'
import { testFolder } from '../support/golden.js'
import { initiate, Tgt } from '../support/tgt.js'

type Outcome = 'passed' | 'failed' | 'skipped' | 'no outcome'

/** By suite and test, such as `Read10.Simple`. */
type Outcomes = Map<string, Outcome>

const suites = process.env.CONFORMANCE === 'all' ? /./ : /^(Inquiry|ReadCapacity16|Read10|Write10|Unmap)$/

const foreign = 'iqn.2020-01.org.example:file'

const limitMs = 600_000
const pollMs = 100

/**
 * What a volume does worse than a file, and why: librbd ends the process that reads nothing into no buffer, as tgtd does
 * when an initiator reads no blocks, or wants none of their bytes.
 */
const worseByTgtd = /^(Read(10|12|16)\.ZeroBlocks|iSCSIResiduals\.Read(10|12|16)(Invalid|Residuals))$/

/** Runs the tests of that name on a disk. The last one may be without an outcome: it has ended tgtd, or libiscsi's program. */
async function run(tgt: Tgt, name: string, url: string, folder: string): Promise<Outcomes> {
  // Line by line, so that it is known how far it has come. It writes to the folder that it is in.
  const args = ['-oL', 'iscsi-test-cu', '-d', '-v', '-t', `ALL.${name}`, url]
  const env = { ...process.env, LD_PRELOAD: undefined }
  const child = spawn('stdbuf', args, { env, cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] })
  const printed = text(child.stdout)
  const ended = once(child, 'exit')
  // It would wait for tgtd for ever.
  while (child.exitCode === null && child.signalCode === null && tgt.isRunning)
    await Promise.race([ended, delay(pollMs)])
  child.kill('SIGKILL')
  await ended
  return outcomesOf(await printed)
}

function outcomesOf(printed: string): Outcomes {
  const outcomes: Outcomes = new Map()
  for (const suite of printed.split(/^Suite: /m).slice(1)) {
    const name = suite.slice(0, suite.indexOf('\n'))
    for (const test of suite.split(/^ {2}Test: /m).slice(1)) {
      const [title = ''] = test.split(' ...')
      outcomes.set(`${name}.${title}`, outcomeOf(test))
    }
  }
  return outcomes
}

function outcomeOf(test: string): Outcome {
  if (/^FAILED/m.test(test)) return 'failed'
  if (!/passed$/m.test(test)) return 'no outcome'
  return test.includes('[SKIPPED]') ? 'skipped' : 'passed'
}

t.test('a volume fails no test of libiscsi that a file does not', { timeout: limitMs }, async t => {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  await site.startAgent(tgt.environment)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'disk', sizeMB: 64 }))
  const folder = await testFolder(t)
  const file = join(folder, 'file')
  await writeFile(file, '')
  await truncate(file, 64 * MiB)
  const listed = await initiate('iscsi-test-cu', '--list')
  const tests = [...listed.matchAll(/^ALL\.(\w+\.\S+)$/gm)].map(([, test = '']) => test)
  t.ok(tests.length > 200, 'there are tests')
  await exposeFile(tgt, file)

  const ofFile: Outcomes = new Map()
  const ofVolume: Outcomes = new Map()
  const targets = [
    { outcomes: ofFile, url: tgt.url(foreign) },
    { outcomes: ofVolume, url: tgt.url(disk.refId) },
  ]
  const names = new Set(tests.map(test => test.slice(0, test.indexOf('.'))))
  for (const suite of [...names].filter(name => suites.test(name))) {
    const ofSuite = tests.filter(test => test.startsWith(`${suite}.`))
    for (const { outcomes, url } of targets) {
      // One by one where one of them ends the others.
      let rest = [suite]
      for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
        for (const [test, outcome] of await run(tgt, name, url, folder)) outcomes.set(test, outcome)
        if (!tgt.isRunning) {
          await tgt.start()
          await exposeFile(tgt, file)
          await until('the volume', async () => isBack(await tgt.adm('target', 'show'), disk.refId))
        }
        if (name === suite) rest = ofSuite.filter(test => !outcomes.has(test))
      }
    }
  }
  t.same([...ofFile.keys()].sort(), [...ofVolume.keys()].sort(), 'the same tests for both')
  t.comment(`file: ${count(ofFile)}; volume: ${count(ofVolume)}`)
  for (const [test, outcome] of ofVolume) {
    if (outcome !== 'passed' || ofFile.get(test) !== 'passed')
      t.comment(`${test}: ${outcome}; the file: ${ofFile.get(test)}`)
  }
  const worse = [...ofVolume.keys()].filter(test => isBad(ofVolume.get(test)) && !isBad(ofFile.get(test)))
  t.same(
    worse.filter(test => !worseByTgtd.test(test)),
    [],
  )
})

async function exposeFile(tgt: Tgt, file: string): Promise<void> {
  await tgt.adm('target', 'new', '--tid', '1', '--targetname', foreign)
  await tgt.adm('logicalunit', 'new', '--tid', '1', '--lun', '1', '--backing-store', file)
  await tgt.adm('target', 'bind', '--tid', '1', '--initiator-address', 'ALL')
}

/** It lets initiators in again. */
function isBack(shown: string, iqn: string): boolean {
  const from = shown.indexOf(`: ${iqn}\n`)
  const to = shown.indexOf('\nTarget ', from)
  return from !== -1 && shown.slice(from, to === -1 ? undefined : to).includes('ALL')
}

function isBad(outcome: Outcome | undefined): boolean {
  return outcome !== 'passed' && outcome !== 'skipped'
}

function count(outcomes: Outcomes): string {
  const all = [...outcomes.values()]
  const kinds = [...new Set(all)].map(kind => `${all.filter(outcome => outcome === kind).length} ${kind}`)
  return kinds.join(', ')
}
