/** A catalog image with something in it. */
import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { importCatalogImage } from '../../src/agent/index.js'
import type { TestSite } from './broker.js'

export interface Golden {
  name: string
  /** What the image holds. */
  content: Buffer
}

/** A folder of the test's own. */
export async function testFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-test-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

/** Imports a catalog image of 8 MiB, with data at both ends and nothing between. */
export async function golden(t: Test, site: TestSite, name = 'golden'): Promise<Golden> {
  const content = Buffer.alloc(8 * MiB)
  randomFillSync(content, 0, MiB)
  randomFillSync(content, 7 * MiB)
  const file = join(await testFolder(t), 'image.raw')
  await writeFile(file, content)
  const pool = await site.catalogPool()
  await importCatalogImage(pool, name, file)
  await pool.close()
  return { name, content }
}
