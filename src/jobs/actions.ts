/** What jobs can ask for: one row each. */
import type { z } from 'zod'
import type { Cluster } from '../../lib/index.js'
import type { TenantBase } from '../cephfs/base.js'
import {
  getQuota,
  planQuota,
  planQuotaClear,
  planQuotaSet,
  quotaData,
  quotaResult,
  quotaSetData,
  quotaSetResult,
  setQuota,
} from '../cephfs/quota-jobs.js'
import {
  deleteTenant,
  planTenantDelete,
  tenantDeleteData,
  tenantDeleted,
  tenantDeleteResult,
} from '../cephfs/tenant-delete.js'
import {
  ensureTenant,
  planTenantEnsure,
  tenantEnsureData,
  tenantEnsured,
  tenantEnsureResult,
} from '../cephfs/tenant-ensure.js'
import { lookAtTenant, planTenantUsage, tenantUsageData, tenantUsageResult } from '../cephfs/tenant-usage.js'
import type { Config } from '../config.js'
import { InvalidJobError } from '../errors.js'
import { refreshData, refreshInventory } from '../inventory/refresh.js'
import type { Telemetry } from '../inventory/telemetry.js'
import { exposeData, exposedResult, exposeResult, exposeVolume, planExpose } from '../iscsi/expose.js'
import type { TargetKeeper } from '../iscsi/keeper.js'
import { planUnexpose, unexposeData, unexposedResult, unexposeResult, unexposeVolume } from '../iscsi/unexpose.js'
import type { Logger } from '../log.js'
import { cloneData, clonedResult, cloneExposedVolume, cloneVolume, planClone } from '../volumes/clone.js'
import { createData, createExposedVolume, createVolume, planCreate } from '../volumes/create.js'
import { deleteData, deletedResult, deleteResult, deleteVolume, planDelete } from '../volumes/delete.js'
import { flattenData, flattenedResult, flattenResult, flattenVolume, planFlatten } from '../volumes/flatten.js'
import { madeResult, volumeResult } from '../volumes/make.js'
import { planQos, qosData, qosResult, qosSetResult, setQos } from '../volumes/qos.js'
import {
  planResize,
  resizeData,
  resizedResult,
  resizeExposedVolume,
  resizeResult,
  resizeVolume,
} from '../volumes/resize.js'
import {
  createSnapshot,
  planSnapshot,
  snapshotCreateData,
  snapshotData,
  snapshotOf,
  snapshotResult,
} from '../volumes/snapshot-create.js'
import { deleteSnapshot, snapshotDeleted, snapshotDeleteResult } from '../volumes/snapshot-delete.js'
import { listSnapshots, planSnapshotList, snapshotListData, snapshotListResult } from '../volumes/snapshot-list.js'
import { rollBack } from '../volumes/snapshot-rollback.js'
import { describeIssues } from './data.js'
import type { JobMessage } from './message.js'
import type { Progress, RunOptions, Saga } from './saga.js'

/** What actions work with. */
export interface Services {
  config: Config
  cluster: Cluster
  telemetry: Telemetry
  /** Where volumes are exposed. */
  targets?: TargetKeeper | undefined
  /** Where the directories of tenants are. */
  tenants: TenantBase
  /** In a job, each line has the job's id. */
  log: Logger
  /**
   * Aborted when the job is cancelled, or the agent cannot wait any longer: what may take long ends then. Afterwards the job
   * is undone in the one case, and goes on where it was in the other, in whichever process has it next.
   */
  signal: AbortSignal
  /** Aborted only in the other case: for what cannot be undone. */
  interrupt: AbortSignal
  /** When the job was begun at first, as an ISO 8601 date: the same for each process that goes on with it. */
  begunAt: string
  /** The job was in hand before, in a process that has died or could not go on. */
  goesOn: boolean
  withImage: WithImage
}

/**
 * Does something to another image (`pool/image`) than the job's own, while nobody else works on it. Undefined, and nothing
 * is done, if somebody has it until the signal is aborted.
 */
export type WithImage = <T>(image: string, work: () => Promise<T>, until: AbortSignal) => Promise<T | undefined>

/** What a job comes down to once its data has been read. It is kept in the journal, so it is what JSON can hold. */
export interface Plan {
  /** `pool/image`, or the path of a tenant. One job at a time works on it, whichever agent has it. */
  image?: string
  /** In milliseconds: after this, no further step is begun. Default: no limit. */
  limitMs?: number
}

interface Row<Data, P extends Plan> {
  name: string
  /** Another name for the same. */
  alias?: string
  data: z.ZodType<Data>
  /** Looks at nothing but these, so that the same job has the same plan. @throws {InvalidJobError} */
  plan: (job: JobMessage, data: Data, config: Config) => P
}

/** An action that changes something: the journal has all about it. */
interface ChangeRow<Data, P extends Plan, Done extends object, Given extends object> extends Row<Data, P> {
  /** What the result is. */
  gives: z.ZodType<Given>
  saga: Saga<Services, P, Done>
  /** Instead of it, where volumes are exposed. It begins with the same steps. */
  whenExposing?: { saga: Saga<Services, P, Done>; isFor: (plan: P) => boolean }
  result: (plan: P, done: Done) => Given
}

/** An action that only looks, and looks again when it is asked again. */
interface LookRow<Data, P extends Plan, Given extends object> extends Row<Data, P> {
  gives?: z.ZodType<Given>
  look: (services: Services, plan: P) => Promise<Given>
}

export interface ChangeAction {
  begin: () => Progress
  run: (services: Services, plan: object, options: RunOptions) => Promise<object>
}

export interface Action {
  /** What may be asked, and what the result is, for whoever describes it. */
  data: z.ZodType
  gives: z.ZodType | undefined
  /** @throws {InvalidJobError} wrong data: every problem is named */
  plan: (job: JobMessage, config: Config) => Plan
  change?: ChangeAction
  look?: (services: Services, plan: Plan) => Promise<object>
}

const actions = new Map<string, Action>([
  ...change({
    name: 'storage.create',
    alias: 'disk.create',
    data: createData,
    gives: volumeResult,
    plan: planCreate,
    saga: createVolume,
    whenExposing: { saga: createExposedVolume, isFor: ({ exposes }) => exposes },
    result: madeResult,
  }),
  ...change({
    name: 'storage.delete',
    alias: 'disk.delete',
    data: deleteData,
    gives: deleteResult,
    plan: planDelete,
    saga: deleteVolume,
    result: deletedResult,
  }),
  ...change({
    name: 'storage.clone',
    data: cloneData,
    gives: volumeResult,
    plan: planClone,
    saga: cloneVolume,
    whenExposing: { saga: cloneExposedVolume, isFor: ({ clone }) => clone.exposes },
    result: clonedResult,
  }),
  ...change({
    name: 'storage.resize',
    data: resizeData,
    gives: resizeResult,
    plan: planResize,
    saga: resizeVolume,
    whenExposing: { saga: resizeExposedVolume, isFor: ({ exposes }) => exposes },
    result: resizedResult,
  }),
  ...change({
    name: 'storage.flatten',
    data: flattenData,
    gives: flattenResult,
    plan: planFlatten,
    saga: flattenVolume,
    result: flattenedResult,
  }),
  ...change({
    name: 'storage.snapshot.create',
    data: snapshotCreateData,
    gives: snapshotResult,
    plan: planSnapshot,
    saga: createSnapshot,
    result: snapshotOf,
  }),
  ...change({
    name: 'storage.snapshot.delete',
    data: snapshotData,
    gives: snapshotDeleteResult,
    plan: planSnapshot,
    saga: deleteSnapshot,
    result: snapshotDeleted,
  }),
  ...change({
    name: 'storage.snapshot.rollback',
    data: snapshotData,
    gives: snapshotResult,
    plan: planSnapshot,
    saga: rollBack,
    result: snapshotOf,
  }),
  ...change({
    name: 'storage.expose',
    data: exposeData,
    gives: exposeResult,
    plan: planExpose,
    saga: exposeVolume,
    result: exposedResult,
  }),
  ...change({
    name: 'storage.unexpose',
    data: unexposeData,
    gives: unexposeResult,
    plan: planUnexpose,
    saga: unexposeVolume,
    result: unexposedResult,
  }),
  ...change({
    name: 'storage.qos.set',
    data: qosData,
    gives: qosResult,
    plan: planQos,
    saga: setQos,
    result: qosSetResult,
  }),
  ...change({
    name: 'quota.set',
    data: quotaSetData,
    gives: quotaResult,
    plan: planQuotaSet,
    saga: setQuota,
    result: quotaSetResult,
  }),
  ...change({
    name: 'quota.clear',
    data: quotaData,
    gives: quotaResult,
    plan: planQuotaClear,
    saga: setQuota,
    result: quotaSetResult,
  }),
  ...look({
    name: 'quota.get',
    data: quotaData,
    gives: quotaResult,
    plan: planQuota,
    look: getQuota,
  }),
  ...change({
    name: 'tenant.ensure',
    data: tenantEnsureData,
    gives: tenantEnsureResult,
    plan: planTenantEnsure,
    saga: ensureTenant,
    result: tenantEnsured,
  }),
  ...change({
    name: 'tenant.delete',
    data: tenantDeleteData,
    gives: tenantDeleteResult,
    plan: planTenantDelete,
    saga: deleteTenant,
    result: tenantDeleted,
  }),
  ...look({
    name: 'tenant.usage',
    data: tenantUsageData,
    gives: tenantUsageResult,
    plan: planTenantUsage,
    look: lookAtTenant,
  }),
  ...look({
    name: 'storage.snapshot.list',
    data: snapshotListData,
    gives: snapshotListResult,
    plan: planSnapshotList,
    look: listSnapshots,
  }),
  ...look({
    name: 'inventory.refresh',
    data: refreshData,
    plan: () => ({}),
    look: refreshInventory,
  }),
])

/** By name; one that has another name, too, is there twice. */
export function allActions(): ReadonlyMap<string, Action> {
  return actions
}

export function isAction(name: string): boolean {
  return actions.has(name)
}

/** @throws {InvalidJobError} there is none of that name */
export function actionOf(job: JobMessage): Action {
  const action = actions.get(job.action)
  if (action) return action
  throw new InvalidJobError([`action: ${JSON.stringify(job.action)} is none of ${[...actions.keys()].join(', ')}`])
}

function change<Data, P extends Plan, Done extends object, Given extends object>(
  row: ChangeRow<Data, P, Done, Given>,
): [string, Action][] {
  const { data, gives, saga, whenExposing, result } = row
  const run = async (services: Services, plan: object, options: RunOptions) => {
    // It is what this row's own `plan` gave, perhaps by way of the journal.
    const own = plan as P
    const itsSaga = whenExposing?.isFor(own) ? whenExposing.saga : saga
    return result(own, await itsSaga.run(services, own, options))
  }
  return named(row, { data, gives, plan: planOf(row), change: { begin: () => saga.begin(), run } })
}

function look<Data, P extends Plan, Given extends object>(row: LookRow<Data, P, Given>): [string, Action][] {
  const { data, gives } = row
  return named(row, { data, gives, plan: planOf(row), look: (services, plan) => row.look(services, plan as P) })
}

function planOf<Data, P extends Plan>({ data, plan }: Row<Data, P>): Action['plan'] {
  return (job, config) => {
    const parsed = data.safeParse(job.data, { reportInput: true })
    if (!parsed.success) throw new InvalidJobError(describeIssues(parsed.error))
    return plan(job, parsed.data, config)
  }
}

function named({ name, alias }: { name: string; alias?: string }, action: Action): [string, Action][] {
  return [name, ...(alias === undefined ? [] : [alias])].map(each => [each, action])
}
