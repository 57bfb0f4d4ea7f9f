/** Whoever imports cephkit can name every type that he is given or asked for: by the declarations that are published. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import * as errors from '../lib/errors.js'
import * as library from '../lib/index.js'

const dist = fileURLToPath(new URL('..', import.meta.url))

interface Declaration {
  file: string
  name: string
}

interface Module {
  /** What is declared there, by its name. */
  declarations: Map<string, { text: string; thrown: string[] }>
  imports: Map<string, Declaration>
  exports: Map<string, Declaration>
}

const modules = new Map<string, Module>()
/** Each with its comment. */
const parts = /(?<!\*\/\n)^(?=\/\*\*|(?:import|export|declare|interface|type) )/m
const statement = /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|function|const) (\w+)/
const reference = /^(import|export) (?:type )?(?:\{([^}]*)\}|\*) from '(\.[^']+)\.js'/

function read(file: string): Module {
  const known = modules.get(file)
  if (known) return known
  const module: Module = { declarations: new Map(), imports: new Map(), exports: new Map() }
  modules.set(file, module)
  for (const part of readFileSync(join(dist, file), 'utf8').split(parts)) {
    const thrown = [...part.matchAll(/@throws \{(\w+)\}/g)].map(([, name = '']) => name)
    const text = part.replace(/\/\*\*.*?\*\/\n?/gs, '').trimStart()
    const [, name] = statement.exec(text) ?? []
    if (name !== undefined) {
      module.declarations.set(name, { text, thrown })
      if (text.startsWith('export')) module.exports.set(name, { file, name })
    }
    const [, verb, names, path] = reference.exec(text) ?? []
    if (path === undefined) continue
    const from = join(dirname(file), `${path}.d.ts`)
    const named = names?.match(/\b[A-Za-z_]\w*\b/g)?.filter(each => each !== 'type') ?? [...read(from).exports.keys()]
    for (const each of named) {
      module[verb === 'import' ? 'imports' : 'exports'].set(each, { file: from, name: each })
    }
  }
  return module
}

/** Where it is declared, by way of those who pass it on. */
function declared({ file, name }: Declaration): Declaration {
  const { declarations, exports, imports } = read(file)
  const from = declarations.has(name) ? undefined : (exports.get(name) ?? imports.get(name))
  return from ? declared(from) : { file, name }
}

const keyOf = ({ file, name }: Declaration) => `${name} of ${file}`

/** The types that the declarations have in them, or errors that they name, and that are not among them. */
function missing(entry: string, others: string[] = []): string[] {
  const all = [entry, ...others].flatMap(file => [...read(file).exports.values()].map(declared))
  const exported = new Set(all.map(keyOf))
  const names = new Set([...all.map(({ name }) => name), ...Object.getOwnPropertyNames(globalThis)])
  const found = new Set<string>()
  const looked = new Set<string>()
  const look = (declaration: Declaration) => {
    if (looked.has(keyOf(declaration))) return
    looked.add(keyOf(declaration))
    const { declarations, imports } = read(declaration.file)
    const { text, thrown } = declarations.get(declaration.name) ?? { text: '', thrown: [] }
    for (const name of thrown) if (!names.has(name)) found.add(`${name}, thrown by ${declaration.name}`)
    const [head = ''] = text.split('{', 1)
    for (const name of new Set(text.match(/\b[A-Z]\w*\b/g))) {
      const { file } = declaration
      const used = declarations.has(name) ? { file, name } : imports.get(name)
      if (used === undefined || name === declaration.name) continue
      // What it has of its base is its own; the base itself nobody has to name.
      const isBase = /\bextends\b/.test(head) && head.includes(name)
      if (isBase) look(declared(used))
      else if (!exported.has(keyOf(declared(used)))) found.add(`${keyOf(declared(used))}, in ${declaration.name}`)
    }
  }
  for (const declaration of all) look(declaration)
  return [...found].sort()
}

t.test('the declarations are whole without what is internal', async t => {
  const tsc = join(dist, '../node_modules/.bin/tsc')
  const entries = ['lib/index.d.ts', 'src/agent/index.d.ts'].map(file => join(dist, file))
  const as = ['--ignoreConfig', '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node']
  await t.resolves(promisify(execFile)(tsc, [...as, '--lib', 'es2023,esnext.disposable', ...entries]))
})

t.test('every type of the library has a name', async t => {
  t.same(missing('lib/index.d.ts'), [])
  t.ok(missing('lib/rbd/image.d.ts').length > 10, 'which is found out')
})

t.test('every error of the library is exported, and nothing else of where they are made', t => {
  const { toCephError, ...classes } = errors
  for (const name of Object.keys(classes)) t.ok(name in library, name)
  t.notOk(toCephError.name in library)
  t.end()
})

t.test('every type of the agent has a name', async t => {
  t.same(missing('src/agent/index.d.ts', ['lib/index.d.ts']), [])
  const less = missing('src/cephfs/tenants.d.ts', ['lib/index.d.ts'])
  t.ok(less.includes('InvalidTenantError, thrown by Tenants'), 'and every error that comments name')
})
