import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkName, checkOptions } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import { onAnother } from './another.js'
import type { ImageHandle } from './bindings.js'
import { featuresOf, flagsOf, hasFastDiff } from './features.js'
import type { Image } from './image.js'
import type { Snapshot } from './snapshot.js'
import { holdToSnapshot } from './still-there.js'

export interface UsedBytesOptions extends ProgressOptions {
  /** Only what was written after this snapshot. Default: all. */
  from?: string | undefined
  /** Count what a clone shows of its parent too. Default: false. */
  includeParent?: boolean | undefined
}

/** `Image.usedBytes()`. */
export async function usedBytes(image: Image, options: UsedBytesOptions): Promise<number> {
  checkOptions(options, ['from', 'includeParent'])
  const { from, includeParent = false, ...callOptions } = options
  if (from !== undefined) checkName('from', from)
  checkBoolean('includeParent', includeParent)
  const what = { from: from === undefined ? null : image.snapshot(from), includeParent }
  const count = (handle: ImageHandle) => countUsedBytes(handle, image.resource, what, callOptions)
  if (!image.encrypted) return count(image.handle)
  // librbd's size is without the header then, and would leave out as much at the end. What its cache has, only this one sees.
  const { signal } = callOptions
  if (!image.readOnly) await image.flush({ signal })
  return onAnother(image, { signal }, another => count(another.handle))
}

/** Without an object map it is asked for each object, and an abort is heard where there is data, or between two calls. */
const objectsPerCall = 2 ** 10

export async function countUsedBytes(
  handle: ImageHandle,
  resource: Resource,
  { from, includeParent }: { from: Pick<Snapshot, 'name' | 'path'> | null; includeParent: boolean },
  options: ProgressOptions,
): Promise<number> {
  const { signal }: CallOptions = options
  const { size, objectSize, stripeCount, ...stat } = await call(resource, { signal }, token =>
    native.imageStat(handle, token),
  )
  const isFast = hasFastDiff(featuresOf(stat.features), flagsOf(stat.flags))
  const step = isFast ? size : objectSize * stripeCount * Math.ceil(objectsPerCall / stripeCount)
  const checkFrom = from && (await holdToSnapshot(handle, from, { signal }))
  let bytes = 0
  for (let offset = 0; offset < size; offset += step) {
    bytes += await call(resource, options, (token, onProgress) =>
      native.imageUsedBytes(handle, from?.name ?? null, offset, step, includeParent, onProgress, token),
    )
  }
  await checkFrom?.()
  return bytes
}
