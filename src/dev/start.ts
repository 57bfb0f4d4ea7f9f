import { randomUUID } from 'node:crypto'
import { startBlock, untilClean } from './ceph.js'
import { startMds } from './cephfs.js'
import { cleanUpAfter, DaemonFailedError } from './errors.js'
import { aliasFor, clear, makeAlias, type StackRecord, writeRecord } from './folder.js'
import { startDashboard, startFormerManager } from './manager.js'
import { Monitor } from './monitor.js'
import type { Service, StackSettings } from './options.js'
import { freePort } from './ports.js'
import { findMarked, isAlive, terminate } from './processes.js'
import { startRabbitmq } from './rabbitmq.js'
import { startRadosgw } from './radosgw.js'
import { GRACE_MS, Site, type StartContext } from './site.js'
import { startTgt } from './tgt.js'

/** Another program may take a port between our finding it free and the daemon's binding it. */
const PORT_ATTEMPTS = 3

/** The dashboard is a part of the manager. */
const DAEMONS: Record<Service, string[]> = {
  mds: ['mds.a'],
  radosgw: ['radosgw'],
  dashboard: [],
  rabbitmq: ['epmd', 'rabbitmq'],
  tgt: ['tgtd'],
}

/** Services of the cluster start when it is up, and the others beside it. */
const ON_CLUSTER = { mds: startMds, radosgw: startRadosgw, dashboard: startDashboard }
const BESIDE = { rabbitmq: startRabbitmq, tgt: startTgt }

/** Whether a stack was started to the end, and all its daemons live. */
export function isWhole({ state, settings, daemons }: StackRecord): boolean {
  const living = new Set(daemons.filter(isAlive).map(({ name }) => name))
  return state === 'ready' && daemonsOf(settings).every(name => living.has(name))
}

function daemonsOf({ osds, services }: StackSettings): string[] {
  const osdNames = Array.from({ length: osds }, (_, id) => `osd.${id}`)
  return ['mon.a', 'mgr.x', ...osdNames, ...services.flatMap(service => DAEMONS[service])]
}

/** Starts a stack in an empty folder, or leaves the folder empty. */
export async function startNew(dir: string, settings: StackSettings, context: StartContext): Promise<StackRecord> {
  for (let attempt = 1; ; attempt++) {
    const record: StackRecord = {
      id: randomUUID(),
      state: 'starting',
      root: aliasFor(dir),
      settings,
      monitorPorts: { v2: await freePort(settings.address), v1: await freePort(settings.address) },
      daemons: [],
    }
    writeRecord(dir, record)
    try {
      makeAlias(dir, record.root)
      await bringUp(dir, record, settings.services, startBlock, context)
      return record
    } catch (error) {
      await cleanUpAfter(error, () => takeDown(dir, record))
      if (!isPortTaken(error) || attempt === PORT_ATTEMPTS) throw error
    }
  }
}

/** Adds services to a running stack, or leaves it as it was. */
export async function addServices(
  dir: string,
  running: StackRecord,
  added: Service[],
  context: StartContext,
): Promise<StackRecord> {
  const settings = { ...running.settings, services: [...running.settings.services, ...added] }
  for (let former = running, attempt = 1; ; attempt++) {
    const record: StackRecord = { ...former, state: 'starting', settings, daemons: [...former.daemons] }
    try {
      await bringUp(dir, record, added, async () => {}, context)
      return record
    } catch (error) {
      former = await cleanUpAfter(error, () => restore(dir, former, record))
      if (!isPortTaken(error) || attempt === PORT_ATTEMPTS) throw error
    }
  }
}

/** Ends what was added to a stack, and starts the manager again if that was ended for the dashboard. */
async function restore(dir: string, former: StackRecord, record: StackRecord): Promise<StackRecord> {
  const added = record.daemons.filter(daemon => !former.daemons.includes(daemon))
  await terminate(added, GRACE_MS)
  const daemons = former.daemons.filter(daemon => record.daemons.includes(daemon))
  const restored: StackRecord = { ...former, daemons }
  writeRecord(dir, restored)
  // Whoever has given up waits for this all the same, as the stack may hold data.
  if (daemons.length < former.daemons.length) await bringUp(dir, restored, [], startFormerManager, {})
  return restored
}

function isPortTaken(error: unknown): boolean {
  return error instanceof DaemonFailedError && error.portTaken
}

/** Ends all processes of a stack and removes its state. Returns the names of the daemons that were alive. */
export async function takeDown(dir: string, record: StackRecord): Promise<string[]> {
  const alive = record.daemons.filter(isAlive)
  await terminate([...alive, ...findMarked(record.id)], GRACE_MS)
  // What those have started while they ended.
  await terminate(findMarked(record.id), 0)
  clear(dir, record.root)
  return alive.map(({ name }) => name)
}

async function bringUp(
  dir: string,
  record: StackRecord,
  services: Service[],
  startCluster: (site: Site, monitor: Monitor) => Promise<void>,
  context: StartContext,
): Promise<void> {
  const site = new Site(dir, record, context)
  site.folder('log')
  site.folder('run')
  using monitor = new Monitor(site)
  const onCluster = services.filter(service => service in ON_CLUSTER) as (keyof typeof ON_CLUSTER)[]
  const beside = services.filter(service => service in BESIDE) as (keyof typeof BESIDE)[]
  const cluster = async () => {
    await startCluster(site, monitor)
    await site.all(onCluster.map(service => ON_CLUSTER[service](site, monitor)))
    await untilClean(site, monitor)
  }
  await site.all([cluster(), ...beside.map(service => BESIDE[service](site))])
  record.state = 'ready'
  writeRecord(dir, record)
}
