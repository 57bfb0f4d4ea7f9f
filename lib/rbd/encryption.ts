/** LUKS encryption, which librbd does in this process. */
import { constants } from 'node:os'
import type { AbortToken } from '../bindings.js'
import { type CallOptions, call } from '../call.js'
import { checkOneOf, checkOptions, isWellFormed, wrongType } from '../check.js'
import { toCephError } from '../errors.js'
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
  await change(image, passphrase, callOptions, (bytes, token) => {
    checkNoneLoaded(image)
    return native.imageFormatEncryption(image.handle, luks2, aes256, bytes, token)
  })
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

/** librbd takes down the one that is loaded before it formats, and where that fails it writes, unencrypted, over its header. */
function checkNoneLoaded(image: Image): void {
  if (!image.encrypted) return
  const message = 'an encryption is loaded: open the image anew to format it'
  throw toCephError({ errno: -constants.errno.EEXIST, syscall: 'rbd_encryption_format', message }, image.resource)
}

/**
 * Calls the addon, which copies the passphrase, and leaves no other copy behind. One call after the other, aborted ones too:
 * librbd 16.2 aborts the process where a second one ends as well as the first.
 */
async function change(
  image: Image,
  passphrase: string | Uint8Array,
  options: CallOptions,
  start: (bytes: Uint8Array, token: AbortToken | undefined) => Promise<void>,
): Promise<void> {
  checkPassphrase(passphrase)
  await call(image.resource, options, async token => {
    const bytes = Buffer.from(passphrase)
    try {
      while (image.encrypting) await image.encrypting
      const changed = start(bytes, token)
      image.encrypting = settled(image, changed)
      await changed
    } finally {
      bytes.fill(0)
    }
  })
}

/** The image counts as encrypted from the beginning on, for nothing says when librbd takes it for that. */
async function settled(image: Image, changed: Promise<void>): Promise<void> {
  const before = image.encrypted
  image.encrypted = true
  try {
    await changed
  } catch {
    image.encrypted = before
  } finally {
    image.forgetSize()
    image.encrypting = undefined
  }
}

/** As for the options, the message must not show it. */
function checkPassphrase(value: unknown): void {
  const isText = typeof value === 'string' && isWellFormed(value)
  const isData = value instanceof Uint8Array && !(value.buffer instanceof SharedArrayBuffer)
  if ((isText || isData) && value.length > 0) return
  throw wrongType('passphrase', 'a Buffer, Uint8Array or well-formed string, and not empty', typeof value)
}
