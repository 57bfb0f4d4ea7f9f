import { basename } from 'node:path'
import type { Command } from 'commander'
import type { Pool } from '../../lib/index.js'
import type { CatalogImage } from '../catalog.js'
import { withCluster } from './cluster.js'
import { progressBar } from './progress-bar.js'

const ENDINGS: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

interface CommonOptions {
  pool?: string
  json: boolean
}

interface ImportOptions extends CommonOptions {
  name?: string
  sha256?: string
  sha512?: string
}

/** `cephkit catalog …`: the golden images that volumes are cloned from. */
export function addCatalogCommands(program: Command): void {
  const catalog = program.command('catalog').description('golden images, which volumes are cloned from')
  addImport(catalog)
  addList(catalog)
}

function addImport(catalog: Command): void {
  common(catalog.command('import'))
    .argument('<source>', 'a file, raw or qcow2, or its http(s) URL')
    .description('put an image into the catalog, with a protected snapshot "base"')
    .option('--name <name>', "the image's name (default: the file's, without .raw, .img or .qcow2)")
    .option('--sha256 <hex>', 'what the SHA-256 of the file must be')
    .option('--sha512 <hex>', 'what the SHA-512 of the file must be')
    .addHelpText(
      'after',
      `
Does nothing if the catalog has an image of that name which was made of the same file, and refuses if it has another one.
Interrupted or killed, it leaves no image that looks whole. A qcow2 file must not need another file; one from a URL is put
into TMPDIR first.

Examples:
  $ cephkit catalog import disk.raw --name debian-12
  $ cephkit catalog import https://example.org/debian-12.qcow2 --sha512 "$(cut -d' ' -f1 debian-12.qcow2.sha512)"`,
    )
    .action(importImage)
}

function addList(catalog: Command): void {
  common(catalog.command('list')).description('list the images that volumes can be cloned from').action(list)
}

function common(command: Command): Command {
  return command
    .option('--pool <pool>', 'the pool of the catalog (default: CEPH_CATALOG_POOL, or "catalog")')
    .option('--json', 'print JSON', false)
}

async function importImage(source: string, { pool: poolName, json, name, ...sums }: ImportOptions): Promise<void> {
  const { findCatalogImage, importCatalogImage } = await import('../catalog.js')
  const imageName = name ?? nameOf(source)
  const interrupted = new AbortController()
  const stop = (ending: NodeJS.Signals) => {
    // A second one, whichever it is, ends the process at once, as it would without these.
    for (const each of ENDINGS) process.off(each, stop)
    interrupted.abort(new Error(`${ending}: gave up, and removed what had been made`))
  }
  for (const ending of ENDINGS) process.on(ending, stop)
  const { signal } = interrupted
  const bar = progressBar(process.stderr)
  try {
    await withCatalog(poolName, signal, async pool => {
      const imported = await importCatalogImage(pool, imageName, source, { ...sums, signal, onProgress: bar.show })
      bar.clear()
      if (json) console.log(JSON.stringify({ imported, ...(await findCatalogImage(pool, imageName)) }, null, 2))
      else console.log(`${pool.path}/${imageName} ${imported ? 'imported' : 'is there already'}`)
    })
  } catch (error) {
    bar.clear()
    throw error instanceof Error && error.name === 'AbortError' ? signal.reason : error
  }
}

/** What the file is called, without what tells its format. */
function nameOf(source: string): string {
  const path = URL.canParse(source) ? decodeURIComponent(new URL(source).pathname) : source
  const name = basename(path).replace(/\.(raw|img|qcow2)$/i, '')
  if (name === '') throw new Error('the source has no name that the image could have: --name')
  return name
}

async function list({ pool: poolName, json }: CommonOptions): Promise<void> {
  const { listCatalog } = await import('../catalog.js')
  const images = await withCatalog(poolName, undefined, listCatalog)
  if (json) console.log(JSON.stringify(images, null, 2))
  else for (const image of images) console.log(describeImage(image))
}

function describeImage({ name, sizeBytes, record }: CatalogImage): string {
  const origin = record ? `${record.format} ${record.source} sha256:${record.sha256}` : '-'
  return `${name}  ${(sizeBytes / 2 ** 20).toFixed(1)} MiB  ${origin}`
}

function withCatalog<T>(
  poolName: string | undefined,
  signal: AbortSignal | undefined,
  use: (pool: Pool) => Promise<T>,
): Promise<T> {
  return withCluster(async (cluster, { catalogPool }) => {
    return await use(await cluster.openPool(poolName ?? catalogPool, { signal }))
  }, signal)
}
