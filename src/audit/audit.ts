/**
 * Compares what the journal and the lists of exposures say with what is in the cluster, and with the targets of this host, and
 * names what nobody looks after.
 *
 * It changes nothing by itself, and agents may be at work meanwhile: what is just on its way is found only once, so a
 * finding counts when a second look finds it, too.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from '../../lib/index.js'
import type { Records } from '../journal/records.js'
import { auditExposures, readExposures, type TargetSettings } from './exposures.js'
import { auditJournal } from './journal.js'
import { readState } from './state.js'
import { auditVolumes, readVolumes } from './volumes.js'

export interface Finding {
  kind:
    | 'image'
    | 'snapshot'
    | 'mark'
    | 'trash'
    | 'lock'
    | 'process'
    | 'job'
    | 'record'
    | 'entry'
    | 'object'
    | 'exposure'
    | 'target'
  name: string
  /** Whose it is, as far as that is known. */
  agent?: string
  says: string
  /** Takes it away, or puts it right. Absent where that is for an agent to do, or for somebody to decide. */
  fix?: () => Promise<void>
}

/** What is looked at. */
export interface Place {
  cluster: Cluster
  /** The pool of the volumes. */
  poolName: string
  /** Open as long as findings are to be fixed. */
  records: Records
  /** How the targets of this host are reached; absent: they are not looked at. */
  targets?: TargetSettings | undefined
  signal?: AbortSignal | undefined
}

/** Milliseconds from one look to the next: longer than an agent takes from one write to what follows from it. */
const secondLookMs = 2_000

/**
 * @throws {PoolNotFoundError}
 * @throws {JobError} the targets of this host cannot be looked at
 */
export async function audit(place: Place): Promise<Finding[]> {
  const first = new Set((await look(place)).map(identity))
  if (first.size === 0) return []
  await delay(secondLookMs, undefined, { signal: place.signal })
  return (await look(place)).filter(finding => first.has(identity(finding)))
}

/** At the images first: by the time that the journal is read, it has the jobs of all of them. */
async function look(place: Place): Promise<Finding[]> {
  const volumes = await readVolumes(place)
  const exposures = await readExposures(place)
  const state = await readState(place)
  return [
    ...auditJournal(place, state),
    ...auditVolumes(place, state, volumes),
    ...auditExposures(place, state, volumes, exposures),
  ]
}

function identity({ kind, name, says }: Finding): string {
  return JSON.stringify([kind, name, says])
}
