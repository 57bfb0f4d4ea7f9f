/** `cephkit catalog`, as a process. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { MiB, type Pool } from '../../lib/index.js'
import { startStack } from '../../src/dev/stack.js'
import { until } from '../support/broker.js'
import { run, testCluster, testWholePool } from '../support/cluster.js'
import { FileServer } from '../support/file-server.js'
import { testFolder } from '../support/golden.js'
import { exported, sparseContent } from '../support/sparse.js'

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const content = sparseContent()

function start(env: NodeJS.ProcessEnv, ...args: string[]) {
  const child = spawn(process.execPath, [main, 'catalog', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => {
    output.stdout += chunk
  })
  child.stderr.on('data', chunk => {
    output.stderr += chunk
  })
  return { child, output, ended: once(child, 'close') as Promise<[code: number | null, signal: string | null]> }
}

async function catalogPool(t: Test): Promise<{ pool: Pool; env: NodeJS.ProcessEnv }> {
  const pool = await testWholePool(t)
  return { pool, env: { ...process.env, BROKER_URL: undefined, CEPH_CATALOG_POOL: pool.name } }
}

const names = async (pool: Pool) => (await pool.listImages()).map(({ name }) => name)

t.test('cephkit catalog', async t => {
  const { pool, env } = await catalogPool(t)
  const path = join(await testFolder(t), 'golden.raw')
  await writeFile(path, content)
  const done = async (...args: string[]) => {
    const { ended, output } = start(env, ...args)
    const [code] = await ended
    return { code, ...output }
  }

  await t.test('imports under the name of the file, and once', async t => {
    const imported = { code: 0, stdout: `${pool.name}/golden imported\n`, stderr: '' }
    t.same(await done('import', path), imported, 'no bar where there is no terminal')
    t.ok((await exported(t, `${pool.name}/golden@base`)).equals(content))
    t.same(await done('import', path), { ...imported, stdout: `${pool.name}/golden is there already\n` })
  })

  await t.test('says in JSON what it has done, and what there is', async t => {
    const { stdout } = await done('import', path, '--name', 'second', '--json')
    const { imported, ...second } = JSON.parse(stdout)
    t.match(
      { imported, ...second },
      {
        imported: true,
        name: 'second',
        sizeBytes: content.length,
        record: { format: 'raw', source: path, sha256: /^[0-9a-f]{64}$/ },
      },
    )
    const listed = JSON.parse((await done('list', '--json')).stdout)
    t.same(listed[1], second)
    t.same(
      (await done('list')).stdout.split('\n').map(line => line.split(' ')[0]),
      ['golden', 'second', ''],
      'and in lines for people',
    )
  })

  await t.test('refuses what does not fit, in a line', async t => {
    const wrong = ['--sha256', '0'.repeat(64)]
    t.match(await done('import', path, '--name', 'third', ...wrong), {
      code: 1,
      stderr: /^cephkit: the sha256 of .*\n$/,
    })
    t.match(await done('import', path, ...wrong), {
      code: 1,
      stderr: /^cephkit: there is an image .*golden of a file.*\n$/,
    })
    t.match(await done('import', path, '--pool', 'no-such'), { code: 1, stderr: /^cephkit: ENOENT: .*no-such.*\n$/ })
    t.same(await names(pool), ['golden', 'second'])
  })

  await t.test('tells how it is used', async t => {
    for (const command of ['import', 'list']) {
      t.match(await done(command, '--help'), { code: 0, stdout: new RegExp(`^Usage: cephkit catalog ${command}`) })
    }
  })

  await t.test('has a bar on a terminal', async t => {
    const command = `'${process.execPath}' '${main}' catalog import '${path}' --name fourth`
    const { stdout } = await new Promise<{ stdout: string }>((resolve, reject) => {
      const child = spawn('script', ['-qec', command, '/dev/null'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
      let stdout = ''
      child.stdout.on('data', chunk => {
        stdout += chunk
      })
      child.once('error', reject)
      child.once('close', () => resolve({ stdout }))
    })
    t.match(stdout, /█+ +33\.0 of 33\.0 MiB/)
    t.match(stdout, /fourth imported\r\n$/)
  })

  await t.test('interrupted, removes what it had made', async t => {
    const before = await names(pool)
    const server = await FileServer.start(t, { content, rate: 4 * MiB })
    const { child, output, ended } = start(env, 'import', server.url('/slow.img', 'me:secret'))
    await until('the image', async () => (await names(pool)).some(name => name.startsWith('slow.import-')))
    child.kill('SIGINT')
    t.same(await ended, [1, null])
    t.equal(output.stderr, 'cephkit: SIGINT: gave up, and removed what had been made\n')
    t.same(await names(pool), before)
  })
})

t.test('an import that was killed is cleaned up after by the next', async t => {
  const dir = join(await testFolder(t), 'stack')
  const { env: stackEnv, cephConf, keyring } = await startStack({ dir })
  t.teardown(() => run(process.execPath, main, 'dev', 'down', '--dir', dir))
  const env = { ...process.env, ...stackEnv, BROKER_URL: undefined }
  const cluster = await testCluster(t, { configFile: cephConf, keyring })
  const pool = await cluster.openPool('catalog')
  // Ceph forgets a client that is gone after 30 seconds.
  await cluster.osdCommand(0, { prefix: 'config set', var: 'osd_client_watch_timeout', val: ['3'] })
  const server = await FileServer.start(t, { content, rate: 8 * MiB })
  const { child, ended } = start(env, 'import', server.url('/killed.img'))
  await until('some progress', async () => (await names(pool)).length > 0)
  await delay(1_000)
  child.kill('SIGKILL')
  await ended
  t.match(await names(pool), [/^killed\.import-/], 'what it has left does not look like the image')
  let messages = ''
  await until('an import', async () => {
    const { output, ended } = start(env, 'import', server.url('/killed.img'))
    const [code] = await ended
    messages += output.stderr
    return code === 0
  })
  t.match(messages, /^(cephkit: an import is at work on catalog\/killed\.import-.*\n)*$/)
  t.same(await names(pool), ['killed'])
})
