import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkName, checkOneOf, checkOptions, wrongType, wrongValue } from '../check.js'
import type { Resource } from '../errors.js'
import { native } from '../native.js'
import type { Pool } from '../rados/pool.js'
import type { Image } from './image.js'
import { type ImageLayout, imageOptionNames, imageOptions, sparseSizeOf } from './options.js'
import { checkStillWhole } from './still-there.js'

export interface CopyOptions extends ProgressOptions, ImageLayout {
  /** Zeroes of at least this length in bytes become holes. Default: 4 KiB. */
  sparseSize?: number | undefined
}

export interface DeepCopyOptions extends ProgressOptions, ImageLayout {
  /** Copy what a clone shows of its parent too, so that the copy is not a clone. Default: false. */
  flatten?: boolean | undefined
  /** Of the copy of a clone, as for `pool.cloneImage()`. */
  cloneFormat?: 1 | 2 | undefined
}

export async function copyImage(image: Image, pool: Pool, name: string, options: CopyOptions): Promise<void> {
  const copy = resourceOf(image, pool, name)
  checkOptions(options, [...imageOptionNames, 'sparseSize'])
  const { sparseSize, ...rest } = options
  const bytes = sparseSizeOf(sparseSize)
  const [layout, callOptions] = imageOptions(rest)
  await checked(image, callOptions, () =>
    call(copy, callOptions, (token, onProgress) =>
      native.imageCopy(image.handle, pool.handle, name, layout, bytes, onProgress, token),
    ),
  )
}

export async function deepCopyImage(image: Image, pool: Pool, name: string, options: DeepCopyOptions): Promise<void> {
  const copy = resourceOf(image, pool, name)
  checkOptions(options, [...imageOptionNames, 'flatten', 'cloneFormat'])
  const { flatten = false, cloneFormat, ...rest } = options
  const [layout, callOptions] = imageOptions(rest)
  if (cloneFormat !== undefined) layout.cloneFormat = checkOneOf('cloneFormat', cloneFormat, [1, 2])
  if (checkBoolean('flatten', flatten)) layout.flatten = 1
  else if (!(await image.pool.cluster.isSameAs(pool.cluster, callOptions))) {
    throw wrongValue('pool', "in the image's own cluster, or the copy flattened", pool.path)
  }
  await checked(image, callOptions, () =>
    call(copy, callOptions, (token, onProgress) =>
      native.imageDeepCopy(image.handle, pool.handle, name, layout, onProgress, token),
    ),
  )
}

/** librbd goes on where what it copies is not there any more. */
async function checked(image: Image, { signal }: CallOptions, copy: () => Promise<void>): Promise<void> {
  const size = await image.size({ signal })
  await copy()
  await checkStillWhole(image, size, { signal })
}

function resourceOf(image: Image, pool: Pool, name: string): Resource {
  // By the image's own pool, for the two modules would import each other.
  if (!(pool instanceof image.pool.constructor)) throw wrongType('pool', 'a Pool', pool)
  return { kind: 'image', name: `${pool.path}/${checkName('name', name)}` }
}
