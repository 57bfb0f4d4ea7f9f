/** What should be exposed, by the lists of all agents, beside the images, the journal, and the targets of this host. */
import type { Cluster } from '../../lib/index.js'
import type { Config } from '../config.js'
import { type ExposedTarget, openDriver } from '../iscsi/driver.js'
import { nameUsers, TargetServiceDownError } from '../iscsi/errors.js'
import {
  type Exposed,
  type Exposure,
  ExposureList,
  type Exposures,
  keyOf,
  listAllExposures,
} from '../iscsi/exposure.js'
import { straysAmong } from '../iscsi/strays.js'
import { prefixOf } from '../names.js'
import { lookAt } from '../volumes/find.js'
import type { Finding, Place } from './audit.js'
import type { Job, JournalState } from './state.js'
import { isInHand, type Volume, type Volumes } from './volumes.js'

/** How the targets of this host are reached. */
export type TargetSettings = Pick<Config, 'agentId' | 'ceph' | 'iscsi'>

export interface AllExposures {
  /** By agent. */
  lists: Map<string, Exposures>
  /** Of this host. */
  strays: ExposedTarget[]
}

/** @throws {TargetServiceDeniedError} this process may not ask for the targets of this host */
export async function readExposures(place: Place): Promise<AllExposures> {
  const { cluster, poolName } = place
  const { targets, lists } = await readTargets(place)
  const known = new Set([...lists.values()].flatMap(({ exposures }) => exposures.map(({ iqn }) => iqn)))
  const { strays } = await straysAmong(
    targets.filter(({ iqn }) => !known.has(iqn)),
    cluster,
    poolName,
  )
  return { lists, strays }
}

async function readTargets(place: Place): Promise<{ targets: ExposedTarget[]; lists: Map<string, Exposures> }> {
  const lists = await listAllExposures(place.cluster, place.poolName)
  const driver = place.targets && driverFor(place.cluster, place.targets, lists)
  const targets = (await driver?.list().catch(ifDown)) ?? []
  return { targets, lists }
}

function driverFor(cluster: Cluster, config: TargetSettings, lists: Map<string, Exposures>) {
  const iqns = [...lists.values()].flatMap(({ exposures }) => exposures.map(({ iqn }) => iqn))
  const prefixes = [config.iscsi.iqnPrefix, ...iqns.map(prefixOf).filter(prefix => prefix !== undefined)]
  const { signal } = new AbortController()
  return openDriver({ config, cluster, prefixes: new Set(prefixes), signal })
}

/** Then there are none. */
function ifDown(error: unknown): ExposedTarget[] {
  if (error instanceof TargetServiceDownError) return []
  throw error
}

export function auditExposures(
  place: Place,
  state: JournalState,
  volumes: Volumes,
  { lists, strays }: AllExposures,
): Finding[] {
  const exposers = lastToExpose(state)
  return [
    ...[...lists].flatMap(([agent, list]) => [
      ...list.unreadable.map(exposed => unreadable(agent, exposed)),
      ...list.exposures.flatMap(exposure => entry(place, state, volumes, agent, exposure)),
    ]),
    ...volumes.images.flatMap(volume => unlisted(place, state, lists, exposers, volume)),
    ...strays.map(target => stray(place, target)),
  ]
}

function unreadable(agent: string, exposed: Exposed): Finding {
  const says = 'how it is exposed cannot be read: its target is left as it is'
  return { kind: 'exposure', name: keyOf(exposed), agent, says }
}

function entry(place: Place, state: JournalState, volumes: Volumes, agent: string, exposure: Exposure): Finding[] {
  const path = keyOf(exposure)
  if (isInHand(state, path)) return []
  const finding = { kind: 'exposure', name: path, agent } as const
  const isThere = volumes.images.some(({ name, id }) => name === exposure.name && id === exposure.id)
  if (isThere && exposure.isClosed) {
    return [{ ...finding, says: 'is closed for a job that is over: storage.expose opens it' }]
  }
  if (isThere) return []
  const says = `should be exposed, and ${whereIs(volumes, exposure)}`
  // One in the trash may be had back, and is exposed then.
  if (volumes.trash.some(({ id }) => id === exposure.id)) return [{ ...finding, says }]
  return [{ ...finding, says, fix: () => dropEntry(place, agent, exposure) }]
}

function whereIs({ images, trash }: Volumes, { name, id }: Exposure): string {
  const renamed = images.find(image => image.id === id)
  if (renamed !== undefined) return `its image is called ${renamed.name} now`
  if (trash.some(entry => entry.id === id)) return 'its image is in the trash'
  return images.some(image => image.name === name) ? 'another image has its name now' : 'there is no such image'
}

/** The agent takes the target away, when nobody is logged in. */
async function dropEntry({ cluster, poolName }: Place, agent: string, exposure: Exposure): Promise<void> {
  await using pool = await cluster.openPool(poolName)
  const id = await lookAt(pool, exposure.name, async image => (await image.stat()).id)
  if (id === exposure.id) throw new Error(`${keyOf(exposure)} is there by now: it is left alone`)
  const list = new ExposureList({ cluster, volumePool: poolName, agent })
  // Unless it has been exposed anew.
  if ((await list.read(exposure))?.id === exposure.id) await list.remove(exposure)
}

/** By `pool/image`, the last job that says whether a volume is exposed, where that says that it is. */
function lastToExpose(state: JournalState): Map<string, Job> {
  const exposers = new Map<string, Job>()
  for (const job of [...state.jobs].sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))) {
    const path = job.makes ?? job.image
    if (!job.ok || path === undefined) continue
    if (job.exposes === true) exposers.set(path, job)
    if (job.exposes === false) exposers.delete(path)
  }
  return exposers
}

function unlisted(
  { poolName }: Place,
  state: JournalState,
  lists: Map<string, Exposures>,
  exposers: Map<string, Job>,
  { name, stamp }: Volume,
): Finding[] {
  const path = keyOf({ poolName, name })
  const exposer = exposers.get(path)
  if (exposer === undefined || stamp === undefined || isInHand(state, path)) return []
  const { exposures = [], unreadable = [] } = lists.get(stamp.agent) ?? {}
  if ([...exposures, ...unreadable].some(each => keyOf(each) === path)) return []
  const says = `was exposed by task ${exposer.task}, and is in no list: no agent serves it when its target is gone`
  return [{ kind: 'exposure', name: path, agent: stamp.agent, says }]
}

function stray(place: Place, { iqn, sessions = [] }: ExposedTarget): Finding {
  const use = sessions.length > 0 ? `, and ${nameUsers(sessions)} uses it` : ''
  return {
    kind: 'target',
    name: iqn,
    says: `has our prefix, and no agent has it in its list${use}`,
    fix: () => removeStray(place, iqn),
  }
}

async function removeStray(place: Place, iqn: string): Promise<void> {
  const { strays } = await readExposures(place)
  const { targets, cluster, poolName } = place
  if (!strays.some(target => target.iqn === iqn) || targets === undefined) return
  await driverFor(cluster, targets, await listAllExposures(cluster, poolName))?.remove(iqn, false)
}
