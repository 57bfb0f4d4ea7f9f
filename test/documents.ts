/** Every program in the README and in docs/ runs as it stands there, and what they list is all there is. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { Cluster, type Pool } from '../lib/index.js'
import { readConfig } from '../src/config.js'
import './support/stack.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Inside the package, so that `import 'cephkit'` finds it. */
const programs = join(root, 'dist', 'documents')

interface Example {
  document: string
  name: string
  code: string
}

async function* examples(): AsyncGenerator<Example> {
  const documents = ['README.md', ...(await readdir(join(root, 'docs'))).map(name => `docs/${name}`)]
  for (const document of documents.filter(name => name.endsWith('.md'))) {
    const text = await readFile(join(root, document), 'utf8')
    let count = 0
    for (const [, code = ''] of text.matchAll(/^```js\n(.*?)^```/gms))
      yield { document, name: `${document} ${++count}`, code }
  }
}

/** What the examples of a document have left. */
async function empty(pool: Pool): Promise<void> {
  for (const { name: imageName } of (await pool.listImages()).reverse()) {
    const image = await pool.openImage(imageName)
    for (const { name } of await image.listSnapshots())
      await image.snapshot(name).remove({ unprotect: true, flattenClones: true })
    await image.close()
    await pool.removeImage(imageName)
  }
}

t.test('the examples', async t => {
  t.setTimeout(240_000)
  const cluster = await Cluster.connect()
  t.teardown(() => cluster.close())
  const pool = await cluster.openPool('rbd')
  await mkdir(programs, { recursive: true })
  let last = ''
  for await (const { document, name, code } of examples()) {
    // Whoever reads on has what the earlier examples of the same document have made.
    if (document !== last) await empty(pool)
    last = document
    await t.test(name, async t => {
      const file = join(programs, `${name.replace(/\W+/g, '-')}.mjs`)
      await writeFile(file, code)
      // Another agent may have the usual port.
      const env = { ...process.env, HTTP_PORT: '0' }
      await t.resolves(promisify(execFile)(process.execPath, [file], { env }))
    })
  }
  await empty(pool)
})

const read = (...path: string[]) => readFile(join(root, ...path), 'utf8')

/** Reads a file of settings as systemd does: what is behind the `=` is the value, a `#` included. */
function environmentOf(text: string): Record<string, string> {
  const lines = text.split('\n').map(line => line.trim())
  const settings = lines.filter(line => line !== '' && !/^[#;]/.test(line))
  return Object.fromEntries(settings.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

t.test("the operator's file of settings is one for systemd", async t => {
  const [, text = ''] =
    /^In `\/etc\/cephkit\/agent\.env`.*?\n\n((?: {4}.*\n|\n)+)/ms.exec(await read('docs', 'operators.md')) ?? []
  t.match(readConfig(environmentOf(text)), {
    agentId: 'storage-controller-1',
    broker: { url: /^amqp:/ },
    iscsi: { driver: 'none' },
  })
})

/** Reasons why something is left, and what is wrong with the arguments of `Tenants`: no result has them. */
const noResults = ['INVALID_TENANT', 'NOT_UNDONE', 'VOLUME_READY']
/** What an error's code is, wherever one is made or named. */
const codePattern = /(?:super|JobError|BlockedError)\(\s*'([A-Z_]+)'|code: '([A-Z_]+)'|\[\w+Error, '([A-Z_]+)'\]/g

t.test('the codes of failed jobs are all in the table', async t => {
  const given = new Set<string>()
  for (const name of await readdir(join(root, 'src'), { recursive: true })) {
    // What brings up a stack, or fills the catalog, does no jobs.
    if (!name.endsWith('.ts') || /^(dev|catalog)\//.test(name)) continue
    for (const [, ...codes] of (await read('src', name)).matchAll(codePattern)) given.add(codes.find(Boolean) ?? '')
  }
  const rows = /^\| code \| \|\n.*?\n\n/ms.exec(await read('docs', 'agent.md'))?.[0] ?? ''
  const listed = [...rows.matchAll(/^\|(.*?)\|/gm)].flatMap(([, cell = '']) => cell.match(/[A-Z_]{2,}/g) ?? [])
  t.same(listed.sort(), [...given].filter(code => !noResults.includes(code)).sort())
  t.ok(noResults.every(code => given.has(code)))
})
