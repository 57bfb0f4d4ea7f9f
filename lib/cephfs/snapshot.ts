import type { CallOptions } from '../call.js'
import { checkKey, checkObject, checkText } from '../check.js'
import type { NativeFileSnapshot } from './bindings.js'

export interface CreateFileSnapshotOptions extends CallOptions {
  /** Keys and values that the snapshot has from then on. Default: none. */
  metadata?: Record<string, string> | undefined
}

export interface FileSnapshot {
  name: string
  id: number
  metadata: Record<string, string>
  /** Absent where the cluster does not tell. */
  createdAt?: Date
}

/** @internal */
export function checkMetadata(metadata: Record<string, string>): Record<string, string> {
  for (const [key, value] of Object.entries(checkObject('metadata', metadata))) {
    checkKey('a key of metadata', key)
    checkText(`metadata ${key}`, value)
  }
  return metadata
}

/** @internal */
export function toSnapshot({ createdAt, metadata, ...snapshot }: NativeFileSnapshot): FileSnapshot {
  const told = { ...snapshot, metadata: Object.fromEntries(metadata) }
  return { ...told, ...(createdAt !== undefined && { createdAt: new Date(Number(createdAt) * 1000) }) }
}
