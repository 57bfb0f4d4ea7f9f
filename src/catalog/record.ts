/**
 * What an import notes of itself, as one entry of the image's metadata. It names the image's id, as RBD gives clones and
 * copies the metadata of their original.
 */
import { z } from 'zod'
import type { Image } from '../../lib/index.js'

const recordKey = 'cephkit.catalog'

const schema = z.object({
  /** The id of the image. */
  image: z.string(),
  /** The file, or the URL without what is secret in it. */
  source: z.string(),
  format: z.enum(['raw', 'qcow2']),
  /** Of the file, in lower-case hexadecimal digits. */
  sha256: z.string(),
  sha512: z.string().optional(),
  /** As an ISO 8601 date. */
  importedAt: z.string(),
})

export type CatalogRecord = z.output<typeof schema>

/** Undefined if the image was not made by an import. */
export async function readRecord(image: Image): Promise<CatalogRecord | undefined> {
  const text = await image.metadata.get(recordKey)
  if (text === undefined) return undefined
  const record = parse(text)
  return record?.image === (await image.stat()).id ? record : undefined
}

export async function writeRecord(image: Image, record: Omit<CatalogRecord, 'image'>): Promise<void> {
  const { id } = await image.stat()
  await image.metadata.set(recordKey, JSON.stringify({ image: id, ...record } satisfies CatalogRecord))
}

/** What anybody can write, anybody can write wrongly: then it is no record. */
function parse(text: string): CatalogRecord | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
