/** Which parts of an image have data, or differ from a snapshot. */
import { type CallOptions, call } from '../call.js'
import { checkBoolean, checkBytes, checkName, checkOptions } from '../check.js'
import { native } from '../native.js'
import { type Extent, unpackExtents } from './extents.js'
import { hasFastDiff } from './features.js'
import type { Image } from './image.js'
import { checkSnapshotIsThere, checkStillThere, holdToSnapshot } from './still-there.js'

export interface DiffOptions extends CallOptions {
  /** Only what has changed since this snapshot. Default: since there was nothing. */
  from?: string | undefined
  /**
   * Whole objects, even where only a part of one differs. With the feature `fast-diff` this reads the object map only;
   * else, and without this, librbd asks for every object. Where an encryption is loaded, this has no effect.
   * Default: false.
   */
  wholeObject?: boolean | undefined
  /** What a clone shows of its parent too, if there is no `from`. Default: false. */
  includeParent?: boolean | undefined
  /** Where to begin, in bytes. Default: 0. */
  offset?: number | undefined
  /** How far to go, in bytes. Default: to the end of the image. */
  length?: number | undefined
}

/**
 * How many objects one call of librbd's goes over, which bounds the extents it can find. A call reads the object map as
 * a whole, so there should be few; without one it takes the longer the more objects there are, and stops at data only.
 */
const objectsPerCall = { fast: 2 ** 17, slow: 2 ** 8 }

/** `Image.diff()`. */
export async function* diff(image: Image, options: DiffOptions): AsyncGenerator<Extent, void, undefined> {
  checkOptions(options, ['from', 'wholeObject', 'includeParent', 'offset', 'length'])
  const { from, wholeObject = false, includeParent = false, offset = 0, length, ...callOptions } = options
  if (from !== undefined) checkName('from', from)
  checkBoolean('wholeObject', wholeObject)
  checkBoolean('includeParent', includeParent)
  checkBytes('offset', offset)
  if (length !== undefined) checkBytes('length', length)

  const begin = from === undefined ? undefined : image.snapshot(from)
  const checkBegin = begin && (await holdToSnapshot(image.handle, begin, callOptions))
  const { size, objectSize, stripeCount, features, flags } = await image.stat(callOptions)
  // Fast diffs know nothing of the header, and so would tell offsets of the encrypted data.
  const whole = wholeObject && !image.encrypted
  const fast = whole && hasFastDiff(features, flags)
  const end = Math.min(size, offset + (length ?? size))
  const stripe = objectSize * stripeCount
  const step = stripe * Math.ceil(objectsPerCall[fast ? 'fast' : 'slow'] / stripeCount)
  for (let start = offset; start < end; ) {
    const next = Math.min(end, start - (start % step) + step)
    const found = await call(image.resource, callOptions, (token, onProgress) =>
      native.imageDiff(image.handle, from ?? null, start, next - start, includeParent, whole, onProgress, token),
    )
    yield* unpackExtents(found)
    start = next
  }
  await checkStillThere(image, callOptions)
  if (begin && checkBegin) await checkSnapshotIsThere(image, await checkBegin(), begin.path, callOptions)
}
