/** What jobs on volumes do about targets. Where volumes are not exposed, it is nothing. */
import { JobError } from '../errors.js'
import type { Services } from '../jobs/actions.js'
import type { NewVolume } from '../volumes/make.js'
import type { Maker, VolumePlan } from '../volumes/volume.js'
import type { Exposed, Exposure } from './exposure.js'
import type { TargetKeeper } from './keeper.js'

/** Of a volume that an agent has made; undefined: it has no exposure that this agent could know of. */
function keeperOf(
  { targets, config }: Services,
  { poolName, maker }: Exposed & { maker: Maker },
): TargetKeeper | undefined {
  if (targets === undefined || poolName !== config.ceph.volumePool) return undefined
  if (maker.agent === targets.agent) return targets
  throw new JobError('OTHER_GATEWAY', `targets of agent ${maker.agent} are on its own host, and it is not this one`)
}

/** @throws {JobError} ISCSI_NOT_CONFIGURED, OTHER_GATEWAY */
export function needKeeper(services: Services, volume: Exposed & { maker: Maker }): TargetKeeper {
  const targets = keeperOf(services, volume)
  if (targets !== undefined) return targets
  throw new JobError('ISCSI_NOT_CONFIGURED', 'this agent exposes no volumes: ISCSI_DRIVER is none')
}

/** A volume that is exposed as its last step. */
export interface ExposedAtFirst extends NewVolume {
  /** The gateways that its job names. */
  portals?: NonNullable<Exposure['portals']>
}

/** What a new volume's job does in the end. */
export interface Shown {
  /** It was exposed by the same task, so long ago that the journal has forgotten it. */
  existed: boolean
}

/** Exposes a new volume as the settings say. */
export async function exposeNew(services: Services, volume: ExposedAtFirst, id: string): Promise<Shown> {
  const targets = needKeeper(services, volume)
  const before = await targets.find(volume)
  if (before !== undefined && !isOfJob(before, services, volume.maker)) {
    await targets.settle(volume)
    return { existed: true }
  }
  const portals = volume.portals && { portals: volume.portals }
  await targets.expose({ ...exposureAtFirst(services, volume, id), ...portals })
  return { existed: false }
}

/** As the settings say. @param id - The image's. */
export function exposureAtFirst(
  { config, begunAt }: Services,
  { poolName, name, iqn, maker }: Exposed & { iqn: string; maker: Maker },
  id: string,
): Exposure {
  return {
    ...{ poolName, name, id, iqn, isClosed: false },
    ...{ initiators: [], addresses: [], chap: 'settings', disk: config.iscsi.disk },
    ...{ task: maker.task, begunAt },
  }
}

/** How many clients of the cluster have the volume open for those who reach it so; null: nobody does. */
export function openersOf({ targets }: Services, exposure: Exposure | null): number {
  return exposure === null ? 0 : (targets?.openersOf(exposure) ?? 0)
}

/** Takes away what this job has exposed of its own new volume, or may have. */
export async function hideNew(services: Services, volume: NewVolume): Promise<void> {
  const targets = needKeeper(services, volume)
  const before = await targets.find(volume)
  if (before === undefined || isOfJob(before, services, volume.maker)) await targets.hide(volume, true)
}

export function targetOf({ iqn }: { iqn: string }) {
  return { kind: 'target', name: iqn }
}

function isOfJob({ task, begunAt }: Exposure, services: Services, maker: Maker): boolean {
  return task === maker.task && begunAt === services.begunAt
}

/** How the volume is exposed; null: it is not. */
export async function exposureOf(services: Services, plan: VolumePlan): Promise<Exposure | null> {
  return (await keeperOf(services, plan)?.find(plan)) ?? null
}

/** Those who are logged in. */
export async function sessionsOf({ targets }: Services, exposure: Exposure) {
  return (await targets?.sessions(exposure)) ?? []
}

/** Resolves with whether there was anything to hide. @throws {BlockedError} TARGET_BUSY */
export async function hide(services: Services, plan: VolumePlan, force: boolean): Promise<boolean> {
  return (await keeperOf(services, plan)?.hide(plan, force)) ?? false
}

/** Makes the exposure what it was. @throws {JobError} ISCSI_NOT_CONFIGURED, OTHER_GATEWAY */
export async function exposeAgain(services: Services, plan: VolumePlan, exposure: Exposure): Promise<void> {
  await needKeeper(services, plan).putBack(exposure)
}

/** Does something to the volume that needs it closed. @throws {BlockedError} TARGET_BUSY */
export async function whileClosed<T>(services: Services, plan: VolumePlan, work: () => Promise<T>): Promise<T> {
  const keeper = keeperOf(services, plan)
  return keeper === undefined ? work() : keeper.whileClosed(plan, work)
}

/** Shows the size that the volume has by now, in bytes. */
export async function showSize(services: Services, plan: VolumePlan, sizeBytes: number): Promise<true> {
  await keeperOf(services, plan)?.refreshSize(plan, sizeBytes)
  return true
}
