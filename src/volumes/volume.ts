/** A volume that is there already, as a job names it. */
import { AbortError, type Image, ImageNotFoundError } from '../../lib/index.js'
import type { Config } from '../config.js'
import { ImageNotOursError } from '../errors.js'
import type { Plan, Services } from '../jobs/actions.js'
import type { JobMessage } from '../jobs/message.js'
import { imageOf, iqnOf } from '../names.js'
import type { DueList } from './due.js'
import { openWhole } from './find.js'
import { readStamp, type Stamp } from './stamp.js'

export interface VolumePlan extends Plan {
  /** `pool/name` */
  image: string
  poolName: string
  name: string
  /** As the job has it: an iqn, or the image's name. */
  refId: string
  /** What it is called from when it is exposed anew. */
  iqn: string
  maker: Maker
  /** The tenant that asks, if the job says so. */
  tenantId?: string
}

/** For what something is made, and by whom. */
export interface Maker {
  agent: string
  task: string
}

/** @throws {InvalidJobError} an iqn of another form than those of volumes */
export function planVolume(
  { agentId, taskId, tenantId }: JobMessage,
  refId: string,
  config: Config,
  poolName = config.ceph.volumePool,
): VolumePlan {
  const name = imageOf(refId)
  return {
    image: `${poolName}/${name}`,
    poolName,
    name,
    refId,
    iqn: iqnOf(config.iscsi.iqnPrefix, name),
    maker: { agent: agentId, task: taskId },
    ...(tenantId !== undefined && { tenantId }),
  }
}

type Volume = Pick<VolumePlan, 'image' | 'poolName' | 'name' | 'maker' | 'tenantId'>

/**
 * What `work` gives for the volume.
 *
 * @throws {ImageNotFoundError}
 * @throws {ImageNotOursError}
 */
export function changeVolume<T>(services: Services, volume: Volume, work: (image: Image) => Promise<T>): Promise<T> {
  return onVolume(services, volume, false, work)
}

/** The same, where `work` changes nothing: then nobody sees that the volume is open. */
export function lookAtVolume<T>(services: Services, volume: Volume, work: (image: Image) => Promise<T>): Promise<T> {
  return onVolume(services, volume, true, work)
}

async function onVolume<T>(
  { cluster }: Services,
  volume: Volume,
  readOnly: boolean,
  work: (image: Image) => Promise<T>,
): Promise<T> {
  await using pool = await cluster.openPool(volume.poolName)
  await using image = await openWhole(pool, volume, { readOnly })
  await checkOurs(image, volume)
  return await work(image)
}

/** For an undo: where there is no volume of ours, nothing has been made on it. */
export async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof ImageNotFoundError || error instanceof ImageNotOursError)) throw error
  }
}

/** @throws {ImageNotOursError} another agent's, another tenant's, or nobody's that this agent knows */
export async function checkOurs(image: Image, volume: Pick<Volume, 'maker' | 'tenantId'>): Promise<Stamp> {
  const stamp = await readStamp(image)
  if (stamp?.agent !== volume.maker.agent) {
    throw new ImageNotOursError(`${image.path} was not made by agent ${volume.maker.agent}: it is left alone`)
  }
  if (volume.tenantId !== undefined && stamp.tenant !== volume.tenantId) {
    throw new ImageNotOursError(`${image.path} is not a volume of tenant ${volume.tenantId}: it is left alone`)
  }
  return stamp
}

/** Where what is due to volumes later is kept, for whoever has made them. */
export function dueListOf({ cluster, config }: Services, { maker }: Pick<Volume, 'maker'>): DueList {
  return { cluster, volumePool: config.ceph.volumePool, agent: maker.agent }
}

/** Waits for work that the signal ends: why it was ended is then why it failed. */
export async function orWhy<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof AbortError && signal.aborted) throw signal.reason
    throw error
  }
}
