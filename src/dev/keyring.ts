import { randomBytes } from 'node:crypto'

/** What a user may do, by the kind of daemon that is asked. */
export type Caps = Partial<Record<'mon' | 'mgr' | 'osd' | 'mds', string>>

/** An entry of a keyring file. */
export function keyringEntry(user: string, key: string, caps: Caps): string {
  const lines = Object.entries(caps).map(([daemon, cap]) => `caps ${daemon} = "${cap}"`)
  return `[${user}]\n${[`key = ${key}`, ...lines].map(line => `\t${line}\n`).join('')}`
}

/**
 * A new secret, as `ceph-authtool --gen-key` makes it: the little-endian key type 1 (AES), the time of creation in
 * seconds and nanoseconds, the length, and 16 random bytes. Written here because a process for each key takes longer
 * than all the rest of the preparation.
 */
export function newKey(): string {
  const header = Buffer.alloc(12)
  header.writeUInt16LE(1, 0)
  header.writeUInt32LE(Math.floor(Date.now() / 1000), 2)
  header.writeUInt32LE(0, 6)
  header.writeUInt16LE(16, 10)
  return Buffer.concat([header, randomBytes(16)]).toString('base64')
}
