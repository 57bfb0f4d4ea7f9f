import type { CallOptions } from '../call.js'
import { checkBytes, checkInteger, checkName, outOfRange } from '../check.js'
import type { NativeImageOptions } from '../native.js'
import { checkFeatures, type Feature } from './features.js'

/** What is decided once, when an image is made. What is absent is as `rbd_default_…` in the configuration says. */
export interface ImageLayout {
  /** Features, all of them. Default: what the configuration says, usually `layering`, `exclusive-lock`, `object-map`, `fast-diff` and `deep-flatten`. */
  features?: readonly Feature[] | undefined
  /** The size of the objects that hold the data, in bytes: a power of two from 4 KiB to 32 MiB. Default: 4 MiB. */
  objectSize?: number | undefined
  /** In bytes; divides the object size. Default: the object size. */
  stripeUnit?: number | undefined
  /** Over how many objects a stripe goes. Default: 1. */
  stripeCount?: number | undefined
  /** The pool for the data, if not the image's own: an erasure-coded one, for instance. */
  dataPool?: string | undefined
}

export interface CreateImageOptions extends CallOptions, ImageLayout {
  /** In bytes. */
  size: number
}

export const imageOptionNames = ['features', 'objectSize', 'stripeUnit', 'stripeCount', 'dataPool'] as const

const minOrder = 12
const maxOrder = 25

export function imageOptions(options: ImageLayout): NativeImageOptions {
  const { features, objectSize, stripeUnit, stripeCount, dataPool } = options
  const result: NativeImageOptions = {}
  if (features !== undefined) result.features = checkFeatures('features', features)
  if (objectSize !== undefined) {
    const order = Math.log2(checkBytes('objectSize', objectSize))
    if (!Number.isInteger(order) || order < minOrder || order > maxOrder) {
      throw outOfRange('objectSize', `a power of two from ${2 ** minOrder} to ${2 ** maxOrder}`, objectSize)
    }
    result.order = order
  }
  if (stripeUnit !== undefined) result.stripeUnit = checkInteger('stripeUnit', stripeUnit, 1)
  if (stripeCount !== undefined) result.stripeCount = checkInteger('stripeCount', stripeCount, 1)
  if (dataPool !== undefined) result.dataPool = checkName('dataPool', dataPool)
  return result
}
