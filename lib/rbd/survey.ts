/**
 * Goes through all images of a pool, asking for each without opening it: so that what it costs is one round trip or a
 * few, and not the ten, and the computing, of an open image.
 */
import { onAbort } from '../abort.js'
import { type CallOptions, open } from '../call.js'
import { checkCallOptions } from '../check.js'
import {
  BlocklistedError,
  CephError,
  ClosedError,
  NotConnectedError,
  NotFoundError,
  type Resource,
  TimeoutError,
} from '../errors.js'
import { native } from '../native.js'
import { UnreadableError } from '../rados/decoder.js'
import type { Pool } from '../rados/pool.js'
import { Image } from './image.js'
import { ask, type DirectoryEntry, directoryObject, getImageId, hasData, listDirectory } from './object-class.js'

/** An image that the pool lists, and that could not be read. */
export interface UnreadableImage {
  id: string
  name: string
  /** Why. An ImageNotFoundError: its removal has begun, or was not completed; or it is a clone of what is gone. */
  error: CephError
}

/** How one image is looked at. */
export interface Look<T> {
  /** Quickly. An UnreadableError, or one of this image's own, leaves it to `open`. */
  read(entry: DirectoryEntry, options: CallOptions): Promise<T>
  /** By librbd, which reads what each version and kind of image has. Opened read-only. */
  open(image: Image, entry: DirectoryEntry, options: CallOptions): Promise<T>
}

/** How many images are looked at at a time. An OSD is busy with fewer; what is read is held meanwhile. */
const imagesAtOnce = 128
/** How many names one round trip fetches. */
const namesPerPage = 1024

/** In the order of their names; those of the old format last. An image that is gone by its turn is left out. */
export async function* survey<T>(
  pool: Pool,
  options: CallOptions,
  look: Look<T>,
): AsyncGenerator<T | UnreadableImage, void, undefined> {
  checkCallOptions(options)
  const { signal, stop } = followed(options.signal)
  const window: Promise<T | UnreadableImage | undefined>[] = []
  try {
    for await (const entry of imagesOf(pool, { signal })) {
      window.push(handled(describe(pool, { signal }, entry, look)))
      if (window.length < imagesAtOnce) continue
      const described = await window.shift()
      if (described !== undefined) yield described
    }
    for (let next = window.shift(); next !== undefined; next = window.shift()) {
      const described = await next
      if (described !== undefined) yield described
    }
  } finally {
    // What is under way when the caller leaves, or when one has failed, is for nobody; and it is not left behind.
    stop()
    await Promise.allSettled(window)
  }
}

/** A signal that follows the caller's, and that can be stopped. */
function followed(signal: AbortSignal | undefined): { signal: AbortSignal; stop: () => void } {
  const own = new AbortController()
  const follow = () => own.abort(signal?.reason)
  if (signal?.aborted) follow()
  const ignore = signal && onAbort(signal, follow)
  const stop = () => {
    ignore?.()
    own.abort()
  }
  return { signal: own.signal, stop }
}

/** A rejection is seen when its turn comes, which is not at once. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

async function* imagesOf(pool: Pool, options: CallOptions): AsyncGenerator<DirectoryEntry, void, undefined> {
  let after = Buffer.alloc(0)
  for (;;) {
    const questions = [listDirectory(after, namesPerPage), hasData] as const
    let answers: [DirectoryEntry[], boolean]
    try {
      answers = await ask(pool.handle, directoryObject, questions, poolResource(pool), options)
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error
      // There has been no image yet; or no pool any more, which this tells.
      answers = [[], true]
    }
    const [page, oldFormat] = answers
    yield* page
    const last = page.at(-1)
    if (last === undefined || page.length < namesPerPage) {
      if (oldFormat) yield* await oldFormatImages(pool, options)
      return
    }
    after = Buffer.from(last.rawName)
  }
}

async function oldFormatImages(pool: Pool, options: CallOptions): Promise<DirectoryEntry[]> {
  const images = await pool.listImages(options)
  return images.filter(({ id }) => id === '').map(image => ({ ...image, rawName: Buffer.from(image.name) }))
}

async function describe<T>(
  pool: Pool,
  options: CallOptions,
  entry: DirectoryEntry,
  look: Look<T>,
): Promise<T | UnreadableImage | undefined> {
  if (entry.id !== '') {
    try {
      return await look.read(entry, options)
    } catch (error) {
      if (!(error instanceof UnreadableError) && !isOwn(error)) throw error
    }
  }
  try {
    return await describeOpen(pool, options, entry, look)
  } catch (error) {
    if (!isOwn(error)) throw error
    if (error instanceof NotFoundError && !(await isListed(pool, options, entry))) return undefined
    return { id: entry.id, name: entry.name, error }
  }
}

/** Whether others may be read although this one could not. */
function isOwn(error: unknown): error is CephError {
  const ofAll = [BlocklistedError, ClosedError, NotConnectedError, TimeoutError]
  return error instanceof CephError && !ofAll.some(Class => error instanceof Class)
}

async function describeOpen<T>(pool: Pool, options: CallOptions, entry: DirectoryEntry, look: Look<T>): Promise<T> {
  const { id, name } = entry
  const handle = await open(imageResource(pool, entry), options, token =>
    id === ''
      ? native.imageOpen(pool.handle, name, null, true, token)
      : native.imageOpenById(pool.handle, id, null, true, token),
  )
  await using image = new Image(pool, handle, { name, snapshot: null, readOnly: true })
  return await look.open(image, entry, options)
}

async function isListed(pool: Pool, options: CallOptions, { id, name, rawName }: DirectoryEntry): Promise<boolean> {
  if (id === '') return (await oldFormatImages(pool, options)).some(image => image.name === name)
  try {
    const [listed] = await ask(pool.handle, directoryObject, [getImageId(rawName)], poolResource(pool), options)
    return listed === id
  } catch (error) {
    if (error instanceof NotFoundError) return false
    throw error
  }
}

function poolResource(pool: Pool): Resource {
  return { kind: 'pool', name: pool.path }
}

export function imageResource(pool: Pool, { name }: Pick<DirectoryEntry, 'name'>): Resource {
  return { kind: 'image', name: `${pool.path}/${name}` }
}
