import type { Image, SnapshotInfo } from '../../lib/index.js'

/** The snapshot that a catalog image offers. */
export const baseSnapshot = 'base'

export async function findBase(image: Image): Promise<SnapshotInfo | undefined> {
  return (await image.listSnapshots()).find(({ name }) => name === baseSnapshot)
}
