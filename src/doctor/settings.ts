/** The settings, and the files that they name. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Config, ConfigError, readConfig } from '../config.js'
import { messageOf } from '../errors.js'
import { dashboardNeeds, togetherSettings } from '../settings.js'
import { type Examination, Trouble, Unknown } from './examination.js'

/** Stands for a broker that is not named rightly, so that the rest can be looked at. */
const noBroker = 'amqp://not-set.invalid'

export interface Settings {
  config: Config
  /** Whether BROKER_URL is what it should be. */
  hasBroker: boolean
}

/** Each setting that is wrong is a finding of its own; its default is gone on with. */
export async function checkSettings(examination: Examination, environment: NodeJS.ProcessEnv): Promise<Settings> {
  const problems = problemsOf(environment)
  for (const problem of problems) {
    await examination.check(variableOf(problem), () => {
      throw new Trouble(problem, `set ${variableOf(problem)} as docs/agent.md says`)
    })
  }
  const wrong = new Set(problems.map(variableOf))
  if (wrong.size === 0) await examination.check('settings', () => 'all valid')
  for (const together of togetherSettings) {
    if (together.some(variable => wrong.has(variable))) for (const variable of together) wrong.add(variable)
  }
  const right = Object.fromEntries(Object.entries(environment).filter(([variable]) => !wrong.has(variable)))
  // Without what it needs there is nothing to look at; nor is there with another one instead.
  const isAtLoss = dashboardNeeds.some(variable => wrong.has(variable)) && right.ISCSI_DRIVER === 'ceph-iscsi'
  if (isAtLoss) right.ISCSI_DRIVER = 'none'
  const hasBroker = !wrong.has('BROKER_URL') && !wrong.has('RMQ_URL')
  return { config: readConfig(hasBroker ? right : { ...right, BROKER_URL: noBroker }), hasBroker }
}

function problemsOf(environment: NodeJS.ProcessEnv): readonly string[] {
  try {
    readConfig(environment)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
}

/** Each problem begins with its variable. */
function variableOf(problem: string): string {
  return problem.split(' ')[0] ?? problem
}

/** @returns The text of the configuration file. */
export async function checkConfigFile(examination: Examination, config: Config): Promise<string | undefined> {
  const given = config.ceph.configFile
  const places = given ? [given] : ['/etc/ceph/ceph.conf', join(homedir(), '.ceph/ceph.conf'), 'ceph.conf']
  let text: string | undefined
  await examination.check('ceph.conf', async () => {
    const found = await firstReadable(places, 'copy /etc/ceph/ceph.conf of a monitor there, or set CEPH_CONF')
    text = found.text
    return found.path
  })
  return text
}

/** Whether there is a key for the user. Whether the cluster takes it is another question. */
export async function checkKeyring(examination: Examination, config: Config, conf: string | undefined): Promise<void> {
  const { user = 'admin', keyring } = config.ceph
  const named = keyring ?? conf?.match(/^\s*keyring\s*=\s*(.+?)\s*$/m)?.[1]
  const places = (named ?? defaultKeyrings).split(/[,;\s]+/).map(path => withoutVariables(path, user))
  const todo = `on a host that may: ceph auth get client.${user} -o ${places[0]}; and let this user read it`
  await examination.check('keyring', async () => {
    const { path, text } = await firstReadable(places, todo).catch(error => {
      // The configuration may have the key itself, or include another file. Connecting shows it.
      throw keyring === undefined ? new Unknown(messageOf(error)) : error
    })
    const section = text.split(/^\s*\[/m).find(part => part.startsWith(`client.${user}]`))
    if (section === undefined) throw new Trouble(`${path} has nothing for client.${user}`, todo)
    if (!/^\s*key\s*=\s*[A-Za-z\d+/]{38}==\s*$/m.test(section)) {
      throw new Trouble(`${path} has no well-formed key for client.${user}`, todo)
    }
    return `${path} has a key for client.${user}`
  })
}

/** As librados has it. */
const defaultKeyrings =
  '/etc/ceph/$cluster.$name.keyring,/etc/ceph/$cluster.keyring,/etc/ceph/keyring,/etc/ceph/keyring.bin'

function withoutVariables(path: string, user: string): string {
  const values: Record<string, string> = { cluster: 'ceph', name: `client.${user}`, type: 'client', id: user }
  return path.replace(/\$\{?(cluster|name|type|id)\b\}?/g, (_, variable: string) => values[variable] ?? '')
}

async function firstReadable(paths: readonly string[], todo: string): Promise<{ path: string; text: string }> {
  const reasons: string[] = []
  for (const path of paths) {
    try {
      return { path, text: await readFile(path, 'utf8') }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') reasons.push(`${path} does not exist`)
      else throw new Trouble(`${path} cannot be read: ${messageOf(error)}`, 'let this user read it', { cause: error })
    }
  }
  throw new Trouble(reasons.join('; '), todo)
}
