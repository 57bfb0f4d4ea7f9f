/** LUKS encryption, which librbd does in this process. */

import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkOneOf, checkOptions, wrongType } from '../check.js'
import { native } from '../native.js'
import type { Image } from './image.js'
import { checkWritable } from './read-only.js'

export interface LoadEncryptionOptions extends CallOptions {
  format: 'luks1' | 'luks2'
  /**
   * Not empty; a string is taken as UTF-8. It is copied before the call returns its promise, and the copy is wiped when
   * the call is over: a Buffer can be wiped by its owner at once, a string stays in memory for as long as V8 likes.
   */
  passphrase: string | Uint8Array
}

export interface FormatEncryptionOptions extends LoadEncryptionOptions {
  /** AES in XTS mode, with a key of 128 or 256 bits. Default: `aes-256`. */
  algorithm?: 'aes-128' | 'aes-256' | undefined
}

export async function formatEncryption(image: Image, options: FormatEncryptionOptions): Promise<void> {
  checkSecretOptions(options, ['format', 'algorithm', 'passphrase'])
  const { algorithm = 'aes-256', format, passphrase, ...callOptions } = options
  const aes256 = checkOneOf('algorithm', algorithm, ['aes-128', 'aes-256']) === 'aes-256'
  const luks2 = isLuks2(format)
  checkWritable(image, 'rbd_encryption_format')
  await change(image, passphrase, callOptions, (bytes, token) =>
    native.imageFormatEncryption(image.handle, luks2, aes256, bytes, token),
  )
}

export async function loadEncryption(image: Image, options: LoadEncryptionOptions): Promise<void> {
  checkSecretOptions(options, ['format', 'passphrase'])
  const { format, passphrase, ...callOptions } = options
  const luks2 = isLuks2(format)
  await change(image, passphrase, callOptions, (bytes, token) =>
    native.imageLoadEncryption(image.handle, luks2, bytes, token),
  )
}

/** The usual message would show what it got, and that may be the passphrase. */
function checkSecretOptions(options: unknown, own: readonly string[]): void {
  if (typeof options !== 'object') throw wrongType('options', 'an object', typeof options)
  checkOptions(options, own)
}

function isLuks2(format: unknown): boolean {
  return checkOneOf('format', format, ['luks1', 'luks2']) === 'luks2'
}

/** Calls the addon, which copies the passphrase, and leaves no other copy behind. */
async function change(
  image: Image,
  passphrase: string | Uint8Array,
  options: CallOptions,
  start: (bytes: Uint8Array, token: AbortToken | undefined) => Promise<void>,
): Promise<void> {
  checkPassphrase(passphrase)
  const begin = (token: AbortToken | undefined) => {
    if (typeof passphrase !== 'string') return start(passphrase, token)
    const bytes = Buffer.from(passphrase)
    try {
      return start(bytes, token)
    } finally {
      bytes.fill(0)
    }
  }
  await call(image.resource, options, async token => {
    image.encryptions++
    try {
      await begin(token)
    } catch (error) {
      image.encryptions--
      throw error
    } finally {
      image.forgetSize()
    }
  })
}

/** As for the options, the message must not show it. */
function checkPassphrase(value: unknown): void {
  const isText = typeof value === 'string' && Buffer.from(value).toString() === value
  const isData = value instanceof Uint8Array && !(value.buffer instanceof SharedArrayBuffer)
  if ((isText || isData) && value.length > 0) return
  throw wrongType('passphrase', 'a Buffer, Uint8Array or well-formed string, and not empty', typeof value)
}
