import { type CallOptions, call, type ProgressOptions } from '../call.js'
import { checkBoolean, checkBytes, checkOptions } from '../check.js'
import { InvalidArgumentError, ShrinkNotAllowedError } from '../errors.js'
import { native } from '../native.js'
import type { Image } from './image.js'
import { ask, getSize, headerObject } from './object-class.js'
import { checkRoom } from './room.js'

export interface ResizeOptions extends ProgressOptions {
  /** Must be true to make the image smaller, which discards its end. Default: false. */
  allowShrink?: boolean | undefined
}

export async function resizeImage(image: Image, size: number, options: ResizeOptions): Promise<void> {
  checkBytes('size', size)
  checkOptions(options, ['allowShrink'])
  const { allowShrink = false, ...callOptions } = options
  checkBoolean('allowShrink', allowShrink)
  const { signal } = callOptions
  const mayGrow = image.pool.whenFull !== 'wait' && size > (await wholeSize(image, { signal }))
  if (mayGrow) await checkRoom(image, image.path, signal, 'image')
  try {
    const isDone = async (another: Image) => (await another.size()) === size
    await call(image.resource, callOptions, (token, onProgress) =>
      image.proxied.run(isDone, onProgress, report =>
        native.imageResize(image.handle, size, allowShrink, report, token),
      ),
    )
  } catch (error) {
    if (!allowShrink && error instanceof InvalidArgumentError) throw await shrinkError(image, size, error)
    throw error
  } finally {
    image.forgetSize()
  }
}

/** With the header of an encrypted image, which librbd leaves out once it is loaded. */
async function wholeSize(image: Image, options: CallOptions): Promise<number> {
  const { id, size } = await image.stat(options)
  if (!image.encrypted || id === '') return size
  const [header] = await ask(image.pool.handle, headerObject(id), [getSize], image.resource, options)
  return header.size
}

/** librbd says EINVAL and no more. */
async function shrinkError(image: Image, size: number, error: InvalidArgumentError): Promise<Error> {
  const current = await wholeSize(image, {})
  if (size >= current) return error
  return new ShrinkNotAllowedError(
    `${error.code}: ${size} bytes is less than ${current}, and allowShrink is not set, ${error.syscall} '${image.path}'`,
    error,
  )
}
