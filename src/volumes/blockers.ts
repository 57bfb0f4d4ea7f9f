/** What keeps something from being done to an image, named so that somebody can do something about it. */
import type { Image, ImageWatcher, LinkedImage } from '../../lib/index.js'
import { BlockedError, type Blocker } from '../errors.js'

/** The clients that have the image open, except this one. */
export async function othersAt(image: Image): Promise<ImageWatcher[]> {
  const own = await image.pool.cluster.instanceId()
  return (await image.watchers()).filter(({ client }) => client !== own)
}

/** The same, without what serves its target to initiators: that goes with the target. @param openers - How many do. */
export async function strangersAt(image: Image, openers: number): Promise<ImageWatcher[]> {
  const others = await othersAt(image)
  return others.length <= openers ? [] : others
}

export function openBy(path: string, watchers: readonly ImageWatcher[]): BlockedError {
  const by = watchers.map(({ address, client }) => `${address} (client.${client})`)
  const message = `${path} is open${by.length > 0 ? ` by ${by.join(', ')}` : ''}`
  const blockers = watchers.map(
    ({ address, client }): Blocker => ({ kind: 'watcher', name: address, client: Number(client) }),
  )
  return new BlockedError('IMAGE_BUSY', message, blockers, { retryable: true })
}

/** @param why - Why these are in the way, if it is more than that they are there. */
export function clonedTo(path: string, children: readonly LinkedImage[], why = ''): BlockedError {
  const names = children.map(nameOf)
  const blockers = names.map((name): Blocker => ({ kind: 'child', name }))
  return new BlockedError('IMAGE_HAS_CHILDREN', `${path} has clones${why}: ${names.join(', ')}`, blockers)
}

export function keptBy(path: string, snapshots: readonly string[], why: string): BlockedError {
  const blockers = snapshots.map((name): Blocker => ({ kind: 'snapshot', name }))
  return new BlockedError('IMAGE_HAS_SNAPSHOTS', `${path} has snapshots${why}: ${snapshots.join(', ')}`, blockers)
}

function nameOf(image: LinkedImage): string {
  return image.inTrash ? `${pathOf(image)} (in the trash)` : pathOf(image)
}

/** As the locks of images have it. */
export function pathOf({ pool, poolId, namespace, name }: Omit<LinkedImage, 'inTrash'>): string {
  return [pool ?? `pool ${poolId}`, namespace, name].filter(part => part !== '').join('/')
}

/** All of them in one; nothing if there are none. */
export function throwBlocked(errors: readonly BlockedError[]): void {
  const [first, ...others] = errors
  if (first === undefined) return
  if (others.length === 0) throw first
  const message = errors.map(error => error.message).join('; ')
  const blockers = errors.flatMap(error => error.blockers)
  throw new BlockedError(first.code, message, blockers, { retryable: errors.every(({ retryable }) => retryable) })
}
