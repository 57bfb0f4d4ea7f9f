/** Removing a directory with all that is in it, a batch at a time, so that each call is done in time. */
import type { CallOptions } from '../call.js'
import { type CephError, type Resource, toCephError } from '../errors.js'
import { native } from '../native.js'
import type { NativeKeptEntry, RemovalHandle } from './bindings.js'
import type { Calls } from './calls.js'

export interface RemoveTreeOptions extends CallOptions {
  /** Remove the snapshots of what is in it too; they take `s` in the MDS caps. Default: false. */
  snapshots?: boolean | undefined
}

/** Something that could not be removed. What it is in could not be either, and is not told of. */
export interface KeptEntry {
  /** As messages have it; a name that is no UTF-8 has replacement characters. */
  path: string
  error: CephError
  /** Of a directory that is kept because it has some: their names. */
  snapshots: string[]
}

export interface RemovedTree {
  /** How many files and directories. */
  removed: number
  /** The first 100 that could not be. None: the tree is gone. */
  kept: KeptEntry[]
}

/** How long one native call is at it: short beside any time-out, for a step of its own can take a while. */
const batchMs = 250

const mostKept = 100

/** What each batch has come to. Closes what the removal has open, however its reader leaves. @internal */
export async function* removeInBatches(
  removal: RemovalHandle,
  parentCalls: Calls,
  resource: Resource,
  toResource: (path: Uint8Array) => Resource,
  options: CallOptions,
): AsyncGenerator<RemovedTree, void, undefined> {
  const calls = parentCalls.of(removal)
  let failed = true
  try {
    for (let isDone = false; !isDone; ) {
      const { done, removed, kept } = await calls.call(resource, options, token =>
        native.removalGo(removal, batchMs, token),
      )
      isDone = done
      yield { removed, kept: kept.map(entry => toKept(entry, toResource(entry.path))) }
    }
    failed = false
  } finally {
    const closing = calls.close(resource)
    // A call that has not been answered keeps it open, and nobody waits for that.
    if (failed) closing.catch(() => {})
    else await closing
  }
}

function toKept({ errno, syscall, snapshots }: NativeKeptEntry, file: Resource): KeptEntry {
  const names = snapshots.map(name => name.toString())
  const resource: Resource = names.length > 0 ? { ...file, kind: 'fileSnapshot' } : file
  const message = names.length > 0 ? `snapshots: ${names.join(', ')}` : ''
  return { path: resource.name, error: toCephError({ errno, syscall, message }, resource), snapshots: names }
}

/** @internal */
export async function sum(batches: AsyncIterable<RemovedTree>): Promise<RemovedTree> {
  const total: RemovedTree = { removed: 0, kept: [] }
  for await (const { removed, kept } of batches) {
    total.removed += removed
    total.kept.push(...kept.slice(0, mostKept - total.kept.length))
  }
  return total
}
