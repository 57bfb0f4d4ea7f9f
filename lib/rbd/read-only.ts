import { constants } from 'node:os'
import { toCephError } from '../errors.js'
import type { Image } from './image.js'

/** For calls that librbd refuses too late for an image opened read-only, or takes and does nothing. */
export function checkWritable(image: Image, syscall: string): void {
  if (!image.readOnly) return
  throw toCephError({ errno: -constants.errno.EROFS, syscall, message: '' }, image.resource)
}
