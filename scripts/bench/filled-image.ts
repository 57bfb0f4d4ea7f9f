/** Images to read from and write to. */
import { randomFillSync } from 'node:crypto'
import { MiB, type Pool } from '../../lib/index.js'

/** Has no exclusive lock, which clients that take turns would have to hand over each time. */
export async function createImage(pool: Pool, name: string, size: number): Promise<void> {
  await pool.createImage(name, { size, features: ['layering'] })
}

/**
 * Puts data everywhere, so that no read is of a hole and no write the first of its object. Whole objects at once:
 * memstore is slow with those that were written in small pieces.
 */
export async function fillImage(pool: Pool, name: string): Promise<void> {
  await using image = await pool.openImage(name)
  const data = randomFillSync(Buffer.alloc(4 * MiB))
  const size = await image.size()
  for (let offset = 0; offset < size; offset += data.length) await image.write(offset, data)
}
