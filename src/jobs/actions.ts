/** What jobs can ask for: one row each. */
import type { z } from 'zod'
import type { Cluster } from '../../lib/index.js'
import type { Config } from '../config.js'
import { InvalidJobError } from '../errors.js'
import { refreshData, refreshInventory } from '../inventory/refresh.js'
import type { Telemetry } from '../inventory/telemetry.js'
import type { Logger } from '../log.js'
import { createData, createVolume, planCreate } from '../volumes/create.js'
import { deleteData, deleteVolume, planDelete } from '../volumes/delete.js'
import { describeIssues } from './data.js'
import type { JobMessage } from './message.js'

/** What actions work with. */
export interface Services {
  config: Config
  cluster: Cluster
  telemetry: Telemetry
  /** In a job, each line has the job's id. */
  log: Logger
  /** Aborted when the agent cannot wait any longer: what may take long ends then, and goes on when the job comes again. */
  signal: AbortSignal
}

/** What a job comes down to once its data has been read. */
export interface Plan {
  /** `pool/image`. Jobs on the same image run one after the other. */
  image?: string
}

interface Row<Data, P extends Plan> {
  name: string
  /** Another name for the same. */
  alias?: string
  data: z.ZodType<Data>
  /** @throws {InvalidJobError} */
  plan: (job: JobMessage, data: Data, config: Config) => P
  run: (services: Services, plan: P) => Promise<object>
}

/** A job that is ready to run. */
export interface PlannedJob {
  image: string | undefined
  run: (services: Services) => Promise<object>
}

type Action = (job: JobMessage, config: Config) => PlannedJob

const actions = new Map<string, Action>([
  ...row({
    name: 'storage.create',
    alias: 'disk.create',
    data: createData,
    plan: planCreate,
    run: createVolume,
  }),
  ...row({
    name: 'storage.delete',
    alias: 'disk.delete',
    data: deleteData,
    plan: planDelete,
    run: deleteVolume,
  }),
  ...row({
    name: 'inventory.refresh',
    data: refreshData,
    plan: () => ({}),
    run: refreshInventory,
  }),
])

/** @throws {InvalidJobError} no such action, or wrong data: every problem is named */
export function planJob(job: JobMessage, config: Config): PlannedJob {
  const action = actions.get(job.action)
  if (!action)
    throw new InvalidJobError([`action: ${JSON.stringify(job.action)} is none of ${[...actions.keys()].join(', ')}`])
  return action(job, config)
}

function row<Data, P extends Plan>({ name, alias, data, plan, run }: Row<Data, P>): [string, Action][] {
  const action: Action = (job, config) => {
    const parsed = data.safeParse(job.data, { reportInput: true })
    if (!parsed.success) throw new InvalidJobError(describeIssues(parsed.error))
    const planned = plan(job, parsed.data, config)
    return { image: planned.image, run: services => run(services, planned) }
  }
  return [name, ...(alias === undefined ? [] : [alias])].map(each => [each, action])
}
