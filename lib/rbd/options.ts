import type { CallOptions } from '../call.js'
import { checkBytes, checkInteger, checkName, outOfRange } from '../check.js'
import type { NativeImageOptions } from './bindings.js'
import { checkFeatures, type Feature } from './features.js'

/** What is decided once, when an image is made. What is absent is as `rbd_default_…` in the configuration says. */
export interface ImageLayout {
  /**
   * Features, all of them. Default: what the configuration says, usually `layering`, `exclusive-lock`, `object-map`,
   * `fast-diff` and `deep-flatten`; for a copy, what the original has.
   */
  features?: readonly Feature[] | undefined
  /**
   * The size of the objects that hold the data, in bytes: a power of two from 4 KiB to 32 MiB. Default: 4 MiB; for a
   * clone or a copy, that of the original.
   */
  objectSize?: number | undefined
  /**
   * In bytes; divides the object size. Default: the object size; for a clone or a copy, that of the original, so give
   * it together with a smaller object size.
   */
  stripeUnit?: number | undefined
  /** Over how many objects a stripe goes. Default: 1; for a clone or a copy, that of the original. */
  stripeCount?: number | undefined
  /** The pool for the data, if not the image's own: an erasure-coded one, for instance. */
  dataPool?: string | undefined
}

export interface CreateImageOptions extends CallOptions, ImageLayout {
  /** In bytes. */
  size: number
}

export const imageOptionNames = ['features', 'objectSize', 'stripeUnit', 'stripeCount', 'dataPool'] as const

const minObjectSize = 2 ** 12
const maxObjectSize = 2 ** 25
/** What librbd has room for; it would use what is left of a larger one. */
const maxStripeCount = 2 ** 32 - 1

/**
 * The layout as the addon takes it, and what else was in the options.
 *
 * @implements rbd_image_options_create rbd_image_options_set_uint64 rbd_image_options_set_string
 *   rbd_image_options_destroy
 */
export function imageOptions<Rest>(options: ImageLayout & Rest): [NativeImageOptions, Omit<Rest, keyof ImageLayout>] {
  const { features, objectSize, stripeUnit, stripeCount, dataPool, ...rest } = options
  const result: NativeImageOptions = {}
  if (features !== undefined) result.features = checkFeatures('features', features)
  if (objectSize !== undefined) result.order = Math.log2(checkObjectSize(objectSize))
  if (stripeUnit !== undefined) result.stripeUnit = checkInteger('stripeUnit', stripeUnit, 1, maxObjectSize)
  if (stripeCount !== undefined) result.stripeCount = checkInteger('stripeCount', stripeCount, 1, maxStripeCount)
  if (dataPool !== undefined) result.dataPool = checkName('dataPool', dataPool)
  return [result, rest]
}

function checkObjectSize(value: unknown): number {
  const size = checkBytes('objectSize', value)
  if (size < minObjectSize || size > maxObjectSize || !Number.isInteger(Math.log2(size))) {
    throw outOfRange('objectSize', `a power of two from ${minObjectSize} to ${maxObjectSize}`, size)
  }
  return size
}

/** The shortest stretch of zeroes that becomes a hole, in bytes. */
export function sparseSizeOf(size = 4096): number {
  if (!Number.isInteger(Math.log2(checkInteger('sparseSize', size, 1)))) {
    throw outOfRange('sparseSize', 'a power of two', size)
  }
  return size
}
