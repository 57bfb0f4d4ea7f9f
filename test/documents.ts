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

async function* examples(): AsyncGenerator<{ name: string; code: string }> {
  const documents = ['README.md', ...(await readdir(join(root, 'docs'))).map(name => `docs/${name}`)]
  for (const document of documents.filter(name => name.endsWith('.md'))) {
    const text = await readFile(join(root, document), 'utf8')
    let count = 0
    for (const [, code = ''] of text.matchAll(/^```js\n(.*?)^```/gms)) yield { name: `${document} ${++count}`, code }
  }
}

/** The examples use the pool as its owner would, so they begin and end with an empty one. */
async function empty(pool: Pool): Promise<void> {
  for (const { name: imageName } of (await pool.listImages()).reverse()) {
    const image = await pool.openImage(imageName)
    for (const { name } of await image.listSnapshots()) await image.snapshot(name).remove({ force: true })
    await image.close()
    await pool.removeImage(imageName)
  }
}

t.test('the examples', async t => {
  const cluster = await Cluster.connect()
  t.teardown(() => cluster.close())
  const pool = await cluster.openPool('rbd')
  await mkdir(programs, { recursive: true })
  for await (const { name, code } of examples()) {
    await t.test(name, async t => {
      const file = join(programs, `${name.replace(/\W+/g, '-')}.mjs`)
      await writeFile(file, code)
      await t.resolves(promisify(execFile)(process.execPath, [file]))
      await empty(pool)
    })
  }
})
