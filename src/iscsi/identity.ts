/** What tells disks apart. */
import { createHash } from 'node:crypto'
import type { Identity } from './driver.js'

const naaDigits = 32

/**
 * Other images have other ones, in other clusters too: initiators take two disks of one identity for two ways to one disk.
 * It follows from what a rename of the image does not change.
 */
export function identityOf(fsid: string, poolName: string, id: string): Identity {
  const hash = createHash('sha256')
    .update(JSON.stringify([fsid, poolName, id]))
    .digest('hex')
  return { serial: id, naa: `6${hash.slice(0, naaDigits - 1)}` }
}

/** Whether it is the identity of another pool's disk, or another cluster's. A disk that has been given none yet is nobody's. */
export function isElsewhere({ serial, naa }: Identity, fsid: string, poolName: string): boolean {
  const hasIdentity = naa.length === naaDigits && naa.startsWith('6')
  return hasIdentity && naa !== identityOf(fsid, poolName, serial).naa
}
