/**
 * librbd marks an object of a clone in the object map before it copies it from the parent, or writes to it. Whoever dies in
 * between, or is refused, leaves the mark of an object that is not there. A flatten leaves out what is marked, and takes the parent
 * away: what is there would be lost.
 */
import { type CallOptions, call, closeAfter } from '../call.js'
import { MismatchError, ObjectNotFoundError } from '../errors.js'
import { native } from '../native.js'
import type { IoctxHandle } from '../rados/bindings.js'
import type { Image } from './image.js'
import { ask, getSize, headerObject, loadObjectMap, objectMapObject } from './object-class.js'
import { existing, type Layout, numbersOf, offsetOf, statesOf } from './object-map.js'
import { inPool } from './other-pool.js'

type Options = Pick<CallOptions, 'signal'>

/** How many objects are looked for at a time. */
const atOnce = 64
/** As many as can be compared in whatever stripes. */
const comparedBytes = 256

/** Copies those that are marked and not there from the parent, before a flatten. */
export async function copyMissingObjects(image: Image, options: Options): Promise<void> {
  const { pool, resource } = image
  const { id, features, flags, ...stat } = await image.stat(options)
  // Without a map that counts, librbd looks for each object itself.
  if (!features.includes('object-map') || flags.includes('object map invalid')) return
  // The whole of it: of an image with an encryption that is loaded, librbd tells what is in that.
  const [{ size }] = await ask(pool.handle, headerObject(id), [getSize], resource, options)
  const layout = { ...stat, size }
  const [map] = await ask(pool.handle, objectMapObject(id), [loadObjectMap], resource, options)
  const marked = [...numbersOf(existing(statesOf(map, layout)))]
  const missing = await withDataPool(image, stat.dataPoolId, options, ioctx =>
    missingOf(marked, image, ioctx, stat.blockNamePrefix, options),
  )
  if (missing.length === 0) return
  if (!image.encrypted) return copy(image, missing, layout, options)
  // As it is, without the encryption.
  const plain = await image.pool.openImageById(id, options)
  try {
    await copy(plain, missing, layout, options)
  } finally {
    await closeAfter(plain.handle, options)
  }
}

function withDataPool<T>(
  { pool, resource }: Image,
  dataPoolId: number | undefined,
  options: Options,
  work: (ioctx: IoctxHandle) => Promise<T>,
): Promise<T> {
  if (dataPoolId === undefined) return work(pool.handle)
  return inPool(pool.cluster, { poolId: dataPoolId, namespace: pool.namespace }, resource, options, work)
}

async function missingOf(
  objects: readonly number[],
  { resource }: Image,
  ioctx: IoctxHandle,
  prefix: string,
  options: Options,
): Promise<number[]> {
  const missing: number[] = []
  const look = async (object: number) => {
    const name = `${prefix}.${object.toString(16).padStart(16, '0')}`
    try {
      await call({ ...resource, kind: 'object' }, options, token => native.objectRead(ioctx, name, [['stat']], token))
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError)) throw error
      missing.push(object)
    }
  }
  for (let i = 0; i < objects.length; i += atOnce) await Promise.all(objects.slice(i, i + atOnce).map(look))
  return missing
}

/** To write what is there already, if it still is, has librbd copy the object, and changes nothing. */
async function copy(image: Image, objects: readonly number[], layout: Layout, options: Options): Promise<void> {
  for (const object of objects) {
    const offset = offsetOf(object, layout)
    const data = await image.read(offset, Math.min(comparedBytes, layout.size - offset), options)
    try {
      await image.compareAndWrite(offset, data, data, options)
    } catch (error) {
      // Somebody has written there, and so the object is there.
      if (!(error instanceof MismatchError)) throw error
    }
  }
}
