/** An image with data here and there, by other programs than cephkit's. */
import { randomFillSync } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { run } from './cluster.js'
import { testFolder } from './golden.js'

/** 33 MiB and so many bytes; in most of it there is nothing. */
export function sparseContent(more = 12_345): Buffer {
  const content = Buffer.alloc(33 * MiB + more)
  for (const [offset, length] of [
    [0, 512],
    [4 * MiB - 100, 200],
    [9 * MiB, 3 * MiB],
    [20 * MiB + 65_536, 65_536],
    [content.length - 10, 10],
  ] as const) {
    randomFillSync(content, offset, length)
  }
  return content
}

/** What the image holds, by `rbd export`. */
export async function exported(t: Test, image: string): Promise<Buffer> {
  const path = join(await testFolder(t), 'exported.raw')
  await run('rbd', 'export', '--no-progress', image, path)
  const content = await readFile(path)
  await rm(path)
  return content
}

/** Makes an image of the content, by `rbd import`. */
export async function imported(t: Test, image: string, content: Buffer, ...options: string[]): Promise<void> {
  const path = join(await testFolder(t), 'imported.raw')
  await writeFile(path, content)
  await run('rbd', 'import', '--no-progress', ...options, path, image)
  await rm(path)
}
