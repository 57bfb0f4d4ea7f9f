import { randomUUID } from 'node:crypto'
import { text } from 'node:stream/consumers'
import type { Command } from 'commander'
import type { JobMessage, JobResult } from '../jobs/message.js'
import type { JobRecord } from '../journal/record.js'
import type { Records } from '../journal/records.js'
import { withJournal } from './journal.js'
import { toTable } from './table.js'

interface ChosenAgent {
  agent?: string
  json: boolean
}

interface ListOptions extends ChosenAgent {
  all: boolean
}

export interface SubmitOptions extends ChosenAgent {
  tenant?: string
  task?: string
  timeout: string
}

/** A job as it is in the journal. */
interface Listed {
  state: 'waiting' | 'running' | 'undoing' | 'unpublished' | 'done' | 'failed'
  record: JobRecord
}

/** `cephkit jobs …`: what the journal says of jobs; and `cephkit job submit`, for one more. */
export function addJobsCommands(program: Command): void {
  const jobs = program.command('jobs').alias('job').description('look at jobs, cancel them, do them again, submit one')
  ofAgent(jobs.command('list'))
    .description('list the jobs that are not finished, or whose result the broker has not taken yet')
    .option('--all', 'those that are finished, too, as long as the journal has them', false)
    .action(list)
  ofAgent(jobs.command('show')).argument('<task>').description('print all that the journal has of a job').action(show)
  ofAgent(jobs.command('cancel'))
    .argument('<task>')
    .description('have a job undone; the control plane gets a result with the code CANCELLED')
    .action(cancel)
  ofAgent(jobs.command('retry'))
    .argument('<task>')
    .description('have a failed job done again; the control plane gets another result')
    .action(retry)
  addSubmit(jobs)
}

function ofAgent(command: Command): Command {
  return command.option('--agent <id>', 'of this agent (default: of all)').option('--json', 'print JSON', false)
}

/** What each command has that publishes a job. */
export function withSubmitOptions(command: Command): Command {
  return command
    .option('--agent <id>', 'for this agent (default: STORAGE_CONTROLLER_AGENT_ID)')
    .option('--tenant <id>', "the job's tenant")
    .option('--task <id>', "the job's id; with that of an earlier one, its result (default: a new one)")
    .option('--timeout <seconds>', 'how long to wait for the result; the job goes on after that', '600')
    .option('--json', 'print the whole result as JSON', false)
}

function addSubmit(jobs: Command): void {
  withSubmitOptions(jobs.command('submit'))
    .argument('<action>', 'such as storage.create')
    .argument('[data]', 'the data of the job, as JSON; - to read it', '{}')
    .description('publish a job, as the control plane does, and wait for its result')
    .addHelpText(
      'after',
      `
Exit status 1 if the job has failed.

Example:
  $ cephkit job submit storage.create '{"name":"vm-1","imageId":"debian-12","sizeMB":20480}' --tenant acme`,
    )
    .action(async (action: string, data: string, options: SubmitOptions) => {
      await submit(action, parseData(data === '-' ? await text(process.stdin) : data), options)
    })
}

async function list({ agent, all, json }: ListOptions): Promise<void> {
  const jobs = await withJournal(({ records }) => readJobs(records, agent, all))
  if (json) console.log(JSON.stringify(jobs.map(toJson), null, 2))
  else console.log(jobs.length === 0 ? 'no jobs' : table(jobs))
}

async function readJobs(records: Records, agent: string | undefined, all: boolean): Promise<Listed[]> {
  const jobs: Listed[] = []
  for (const id of agent === undefined ? await records.listAgents() : [agent]) {
    for await (const { task } of records.listOpen(id)) {
      const record = await records.read(id, task)
      if (record) jobs.push({ state: stateOf(record, true), record })
    }
    if (!all) continue
    for await (const { task } of records.listDone(id)) {
      const record = await records.read(id, task)
      if (record) jobs.push({ state: stateOf(record, false), record })
    }
  }
  return jobs.sort((a, b) => a.record.createdAt.localeCompare(b.record.createdAt))
}

function stateOf({ outcome, failure, cancelledAt, owner }: JobRecord, isOpen: boolean): Listed['state'] {
  if (outcome) return isOpen ? 'unpublished' : outcome.ok ? 'done' : 'failed'
  if (owner === '') return 'waiting'
  return failure || cancelledAt ? 'undoing' : 'running'
}

/** The journal has passwords, so that whoever goes on with a job has them, too. */
function toJson({ state, record }: Listed): object {
  const hidden = (key: string, value: unknown) => (key === 'password' ? '[redacted]' : value)
  return { state, ...JSON.parse(JSON.stringify(record, hidden)) }
}

function table(jobs: readonly Listed[]): string {
  const lines = jobs.map(({ state, record: { job, image, steps, updatedAt } }) => [
    state,
    job.taskId,
    job.agentId,
    job.action,
    image ?? '-',
    steps.at(-1)?.name ?? '-',
    updatedAt,
  ])
  return toTable(['STATE', 'TASK', 'AGENT', 'ACTION', 'IMAGE', 'STEP', 'UPDATED'], lines)
}

async function show(task: string, { agent }: ChosenAgent): Promise<void> {
  const listed = await withJournal(async ({ records }) => {
    const record = await find(records, task, agent)
    const { agentId, taskId } = record.job
    return { state: stateOf(record, await records.isOpen(agentId, taskId)), record }
  })
  console.log(JSON.stringify(toJson(listed), null, 2))
}

async function cancel(task: string, options: ChosenAgent): Promise<void> {
  await change(task, options, async (records, { job }) => {
    const record = await records.cancel(job.agentId, job.taskId)
    if (record?.outcome) throw new Error(`${task} is finished already: ${outcomeOf(record.outcome)}`)
    return record && 'it is going to be undone'
  })
}

async function retry(task: string, options: ChosenAgent): Promise<void> {
  await change(task, options, async (records, { job, outcome }) => {
    if (outcome === undefined) throw new Error(`${task} is not finished yet`)
    if (outcome.ok) throw new Error(`${task} has not failed`)
    return (await records.retry(job.agentId, job.taskId)) && 'it is done again as soon as its agent looks'
  })
}

async function change(
  task: string,
  { agent, json }: ChosenAgent,
  make: (records: Records, found: JobRecord) => Promise<string | undefined>,
): Promise<void> {
  const says = await withJournal(async ({ records }) => make(records, await find(records, task, agent)))
  if (says === undefined) throw new Error(`the journal has forgotten ${task} just now`)
  console.log(json ? JSON.stringify({ task, says }, null, 2) : `${task}: ${says}`)
}

/** Two agents can have a task of the same id. */
async function find(records: Records, task: string, agent: string | undefined): Promise<JobRecord> {
  const agents = agent === undefined ? await records.listAgents() : [agent]
  const found: JobRecord[] = []
  for (const id of agents) {
    const record = await records.read(id, task)
    if (record) found.push(record)
  }
  const [only, other] = found
  if (only === undefined) throw new Error(`no job ${task} is in the journal of ${agents.join(', ') || 'any agent'}`)
  if (other === undefined) return only
  throw new Error(`${task} is a job of ${found.map(({ job }) => job.agentId).join(' and of ')}: --agent`)
}

/** Prints the result. */
export async function submit(action: string, data: Record<string, unknown>, options: SubmitOptions): Promise<void> {
  const { readConfig } = await import('../config.js')
  const { submitJob } = await import('../amqp/submit.js')
  const config = readConfig()
  const job: JobMessage = {
    taskId: options.task ?? randomUUID(),
    tenantId: options.tenant,
    agentId: options.agent ?? config.agentId,
    action,
    data,
  }
  const result = await submitJob(config, job, waiting(job, options.timeout))
  if (options.json) console.log(JSON.stringify(result, null, 2))
  else if (result.ok) console.log(JSON.stringify(result.result, null, 2))
  else console.error(`cephkit: ${job.taskId}: ${outcomeOf(result)}`)
  if (!result.ok) process.exitCode = 1
}

function parseData(given: string): Record<string, unknown> {
  let data: unknown
  try {
    data = JSON.parse(given)
  } catch (error) {
    throw new Error(`the data is no JSON: ${error instanceof Error ? error.message : error}`)
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data)) throw new Error('the data is no JSON object')
  return data as Record<string, unknown>
}

function waiting({ taskId }: JobMessage, timeout: string): AbortSignal {
  const seconds = Number(timeout)
  if (!(seconds > 0 && seconds <= 2 ** 31 / 1000)) throw new Error(`--timeout ${timeout}: must be seconds, above 0`)
  const controller = new AbortController()
  const goesOn = `the job goes on, and is asked for again with --task ${taskId}`
  const timer = setTimeout(() => controller.abort(new Error(`no result in ${seconds} s: ${goesOn}`)), seconds * 1000)
  timer.unref()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Error(`${name}: ${goesOn}`)))
  }
  return controller.signal
}

function outcomeOf({ ok, code, error }: JobResult): string {
  return ok ? 'it has succeeded' : `it has failed with ${code}: ${error}`
}
