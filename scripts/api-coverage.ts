/**
 * `npm run api-coverage`: how much of Ceph's C libraries the addon uses, and whether the `@implements` tags in lib/ tell
 * the truth about it.
 *
 * A library's functions are those that its installed header declares. Used are those that the built addon imports, or looks
 * up by name, which the binary itself says: what is only written in a source file does not count.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

const headers = { librbd: 'rbd/librbd.h', librados: 'rados/librados.h', libcephfs: 'cephfs/libcephfs.h' } as const
type Library = keyof typeof headers
const libraries = Object.keys(headers) as Library[]

/** What the names of Ceph's own functions begin with. */
const cephPrefix = /^(rbd|rados|ceph)_/

/** Used without a tag in lib/, as no method of it stands for them. */
const internal: { reason: string; functions: string[] }[] = [
  {
    reason: 'a completion, made and released around each asynchronous call',
    functions: [
      'rados_aio_create_completion2',
      'rados_aio_get_return_value',
      'rados_aio_get_version',
      'rados_aio_release',
      'rbd_aio_create_completion',
      'rbd_aio_get_return_value',
      'rbd_aio_release',
    ],
  },
  {
    reason: 'frees what another function has allocated, which is copied into JavaScript first',
    functions: [
      'ceph_free_snap_info_buffer',
      'ceph_userperm_destroy',
      'rados_buffer_free',
      'rbd_config_image_list_cleanup',
      'rbd_config_pool_list_cleanup',
      'rbd_group_info_cleanup',
      'rbd_image_spec_list_cleanup',
      'rbd_linked_image_spec_cleanup',
      'rbd_linked_image_spec_list_cleanup',
      'rbd_lock_get_owners_cleanup',
      'rbd_snap_spec_cleanup',
      'rbd_trash_get_cleanup',
      'rbd_trash_list_cleanup',
      'rbd_watchers_list_cleanup',
    ],
  },
  {
    reason: 'the way from a watch to the cluster that is flushed when it closes',
    functions: ['rados_ioctx_get_cluster'],
  },
]

interface Declaration {
  name: string
  deprecated: boolean
}

export interface LibraryCoverage {
  used: number
  total: number
  /** Declared and not used. */
  missing: string[]
}

/** The functions that a header declares, itself and not by including others. */
export function declaredFunctions(header: string): Declaration[] {
  const declarations = new Map<string, boolean>()
  for (const statement of statementsOf(preprocess(header), header)) {
    const declaration = parseDeclaration(statement)
    if (declaration) declarations.set(declaration.name, declaration.deprecated)
  }
  return [...declarations].map(([name, deprecated]) => ({ name, deprecated }))
}

/** As C, in which no class and no `extern "C"` gets in the way. */
function preprocess(header: string): string {
  const compiler = process.env.CXX ?? 'g++'
  const args = ['-E', '-x', 'c', '-D_FILE_OFFSET_BITS=64', '-']
  try {
    return execFileSync(compiler, args, {
      input: `#include <${header}>\n`,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string }
    throw new Error(`${compiler} cannot read <${header}>: ${(stderr || message).trim()}`, { cause: error })
  }
}

/** The statements of a preprocessed text that are in the header's own file, without the insides of braces. */
export function statementsOf(preprocessed: string, header: string): string[] {
  let own = false
  const lines = preprocessed.split('\n').filter(line => {
    const file = /^# \d+ "(.*?)"/.exec(line)?.[1]
    if (file === undefined) return own && !line.startsWith('#')
    own = file.endsWith(`/${header}`)
    return false
  })
  let text = lines.join(' ')
  for (let inner = ''; inner !== text; ) {
    inner = text
    text = text.replace(/\{[^{}]*\}/g, ' ')
  }
  return text.split(';').map(statement => statement.replace(/\s+/g, ' ').trim())
}

const attribute = /__attribute__ ?\(\((?:[^()]|\([^()]*\))*\)\)/g

/** A function is a name followed by parameters; a type that is named, or that has a pointer to a function, is none. */
export function parseDeclaration(statement: string): Declaration | undefined {
  const deprecated = (statement.match(attribute) ?? []).some(text => text.includes('deprecated'))
  const plain = statement.replace(attribute, ' ').trim()
  if (plain.startsWith('typedef')) return undefined
  const name = /^[\w\s*]*?(\w+) ?\(/.exec(plain)?.[1]
  return name === undefined ? undefined : { name, deprecated }
}

/** The addon, as the library loads it. */
export function addonPath(): string {
  const require = createRequire(import.meta.url)
  return require('node-gyp-build').path(packageRoot)
}

/** What a binary takes from Ceph's libraries: its undefined dynamic symbols. */
export function importedFunctions(binary: string): Set<string> {
  const symbols = execFileSync('nm', ['-D', '--undefined-only', '--format=posix', binary], { encoding: 'utf8' })
  const names = symbols.split('\n').map(line => line.replace(/[@ ].*/, ''))
  return new Set(names.filter(name => cephPrefix.test(name)))
}

/** What a binary looks up in libcephfs, which is opened when it is needed: the strings in it that are such names. */
export function lookedUpFunctions(binary: string): Set<string> {
  const strings = execFileSync('readelf', ['--string-dump=.rodata', binary], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  // In front of a string may be bytes of something else that look like characters.
  return new Set([...strings.matchAll(/(ceph_\w+)$/gm)].map(([, name = '']) => name))
}

/** What the doc comments of a source text say they implement. */
export function implementsTags(source: string): string[] {
  const comments = source.match(/\/\*\*[\s\S]*?\*\//g) ?? []
  return comments.flatMap(comment => {
    const text = comment.slice(3, -2).replace(/^\s*\*/gm, '')
    const tags = text.matchAll(/@implements\s([^@]*)/g)
    return [...tags].flatMap(([, names = '']) => names.split(/\s+/).filter(name => name !== ''))
  })
}

/** Tags by the name of the function, with the files they are in. */
function documentedFunctions(folder: string): Map<string, string[]> {
  const documented = new Map<string, string[]>()
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue
    for (const name of implementsTags(readFileSync(join(folder, file), 'utf8'))) {
      documented.set(name, [...new Set([...(documented.get(name) ?? []), join('lib', file)])])
    }
  }
  return documented
}

export function coverageOf(declared: readonly Declaration[], used: ReadonlySet<string>): LibraryCoverage {
  const missing = declared.map(({ name }) => name).filter(name => !used.has(name))
  return { used: declared.length - missing.length, total: declared.length, missing }
}

/** Where tags and binary disagree, one sentence each. */
export function contradictions(
  declared: ReadonlySet<string>,
  used: ReadonlySet<string>,
  documented: ReadonlyMap<string, string[]>,
  untagged: ReadonlySet<string>,
): string[] {
  const problems: string[] = []
  for (const name of used) {
    if (!declared.has(name)) problems.push(`The addon uses ${name}, which no header declares.`)
    else if (!documented.has(name) && !untagged.has(name))
      problems.push(`The addon uses ${name}, and no @implements in lib/ says so.`)
  }
  for (const [name, files] of documented) {
    const where = files.join(', ')
    if (!declared.has(name)) problems.push(`@implements ${name} in ${where}: no header declares it.`)
    else if (!used.has(name)) problems.push(`@implements ${name} in ${where}: the addon does not use it.`)
    if (untagged.has(name)) problems.push(`@implements ${name} in ${where}: it is listed as internal too.`)
  }
  for (const name of untagged) {
    if (!used.has(name)) problems.push(`${name} is listed as internal, and the addon does not use it.`)
  }
  return problems
}

interface Report {
  coverage: Record<Library, LibraryCoverage>
  /** Of each library's functions. */
  deprecated: Record<Library, Set<string>>
  problems: string[]
}

export function apiCoverage(): Report {
  const used = new Set([...importedFunctions(addonPath()), ...lookedUpFunctions(addonPath())])
  const declared = new Map(libraries.map(library => [library, declaredFunctions(headers[library])]))
  const all = [...declared.values()].flat()
  const perLibrary = <T>(make: (functions: Declaration[]) => T) =>
    Object.fromEntries(libraries.map(library => [library, make(declared.get(library) ?? [])])) as Record<Library, T>
  return {
    coverage: perLibrary(functions => coverageOf(functions, used)),
    deprecated: perLibrary(functions => new Set(functions.filter(f => f.deprecated).map(f => f.name))),
    problems: contradictions(
      new Set(all.map(({ name }) => name)),
      used,
      documentedFunctions(join(packageRoot, 'lib')),
      new Set(internal.flatMap(({ functions }) => functions)),
    ),
  }
}

function print({ coverage, deprecated }: Report): void {
  for (const library of libraries) {
    const { used, total, missing } = coverage[library]
    const old = deprecated[library]
    const missingOld = missing.filter(name => old.has(name))
    const percent = Math.floor((100 * used) / total)
    console.log(`${library}: ${used} of the ${total} functions in <${headers[library]}> are used (${percent} %).`)
    console.log(`  ${old.size} of the ${total} are deprecated; ${old.size - missingOld.length} of those are used.`)
    printNames(
      'not used',
      missing.filter(name => !old.has(name)),
    )
    printNames('not used, deprecated', missingOld)
  }
}

function printNames(title: string, names: string[]): void {
  if (names.length > 0) console.log(`  ${title} (${names.length}):\n${names.map(name => `    ${name}`).join('\n')}`)
}

function main(): void {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
  const report = apiCoverage()
  if (values.json) console.log(JSON.stringify(report.coverage, null, 2))
  else print(report)
  for (const problem of report.problems) console.error(problem)
  process.exitCode = report.problems.length === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
