/** Every program in the README and in docs/ runs as it stands there. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { Cluster, type Pool } from '../lib/index.js'
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
    for (const { name } of await image.listSnapshots()) await image.snapshot(name).remove({ force: true })
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
