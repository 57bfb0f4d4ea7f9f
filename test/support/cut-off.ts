/** What the end of a flatten leaves that is cut short in the middle of it, step by step as librbd does it. */
import { type Image, ImageNotFoundError, type ImageParent, type Pool } from '../../lib/index.js'
import { native } from '../../lib/native.js'
import { markFlatten } from '../../lib/rbd/finish-flatten.js'

/** What there is before anything is copied. */
export async function beginFlatten(clone: Image): Promise<void> {
  await markFlatten(clone, await parentOf(clone), {})
}

/** Takes the clone from its parent's list of clones, and not the parent from the clone. */
export async function detachChild(clone: Image): Promise<ImageParent> {
  const parent = await parentOf(clone)
  const { id, operationFeatures } = await clone.stat()
  if (operationFeatures.includes('clone-child')) {
    const { cluster, id: poolId, namespace } = clone.pool
    await using pool = await cluster.openPool(parent.pool ?? '', { namespace: parent.namespace })
    const child = struct(2, u64(poolId), text(id), text(namespace))
    await exec(pool, `rbd_header.${parent.id}`, 'child_detach', u64(parent.snapshot.id), child)
  } else {
    const from = [u64(parent.poolId), text(parent.id), u64(parent.snapshot.id)]
    await exec(clone.pool, 'rbd_children', 'remove_child', ...from, text(id))
  }
  return parent
}

/** Also the snapshot, where librbd has put it into the trash: from then on nobody can open the clone. */
export async function cutOff(clone: Image): Promise<void> {
  const parent = await detachChild(clone)
  await clone.close()
  await using pool = await clone.pool.cluster.openPool(parent.pool ?? '', { namespace: parent.namespace })
  await using image = await pool.openImageById(parent.id)
  await image.removeSnapshotById(parent.snapshot.id)
}

export async function canBeOpened(pool: Pool, name: string): Promise<boolean> {
  try {
    await using _image = await pool.openImage(name, { readOnly: true })
    return true
  } catch (error) {
    if (error instanceof ImageNotFoundError) return false
    throw error
  }
}

async function parentOf(clone: Image): Promise<ImageParent> {
  const parent = await clone.parent()
  if (parent === null) throw new Error(`${clone.path} is no clone`)
  return parent
}

async function exec(pool: Pool, object: string, method: string, ...input: Buffer[]): Promise<void> {
  await native.objectWrite(pool.handle, object, [['exec', 'rbd', method, Buffer.concat(input)]], false)
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function text(value: string): Buffer {
  const bytes = Buffer.from(`....${value}`)
  bytes.writeUInt32LE(bytes.length - 4)
  return bytes
}

function struct(version: number, ...fields: Buffer[]): Buffer {
  const body = Buffer.concat(fields)
  const head = Buffer.from([version, 1, 0, 0, 0, 0])
  head.writeUInt32LE(body.length, 2)
  return Buffer.concat([head, body])
}
