/** Logs: structured, each line of a job with the job's id, and no secret in any of them. */
import { fstatSync } from 'node:fs'
import { type DestinationStream, type Logger, pino } from 'pino'
import { prettyFactory } from 'pino-pretty'
import type { Config } from './config.js'

export type { Logger } from 'pino'

/** The settings with secrets in them. */
type Secretive = 'broker' | 'iscsi'

/**
 * @param destination - Default: standard output.
 */
export function createLogger(config: Pick<Config, 'log' | Secretive>, destination?: DestinationStream): Logger {
  const { enabled, level, json, name } = config.log
  const redact = redactorOf(config)
  const toText = destination === undefined && isJournal() ? journalText : textFor(destination)
  const streamWrite = json ? redact : (line: string) => toText(redact(line))
  return pino({ name, level, enabled, hooks: { streamWrite } }, destination ?? pino.destination({ sync: true }))
}

function textFor(destination: DestinationStream | undefined): (line: string) => string {
  return prettyFactory({
    colorize: destination === undefined && process.stdout.isTTY === true,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid,hostname,name',
    singleLine: true,
  })
}

/** Whether standard output goes to the journal of systemd. A program that it starts inherits the variable all the same. */
function isJournal(): boolean {
  const { dev, ino } = fstatSync(process.stdout.fd)
  return process.env.JOURNAL_STREAM === `${dev}:${ino}`
}

const withoutTime = prettyFactory({ colorize: false, ignore: 'pid,hostname,name,time,level', singleLine: true })

/** By pino's levels, as sd-daemon(3) has them. */
const priorities: readonly [level: number, priority: number][] = [
  [60, 2],
  [50, 3],
  [40, 4],
  [30, 6],
]
const debug = 7

/** The journal has the time, and takes each line for an entry, with its priority in front. */
function journalText(line: string): string {
  const { level } = JSON.parse(line) as { level: number }
  const priority = priorities.find(([least]) => level >= least)?.[1] ?? debug
  return withoutTime(line).replace(/^(?=.)/gm, `<${priority}>`)
}

/** A shorter one would be found in words that have nothing to do with it; in a URL it is covered all the same. */
const shortestKnownSecret = 6

const passwordInUrl = /([a-z][a-z\d+.-]*:\/\/[^\s:/"]*:)[^\s/"]*@/gi
const secretField = /("\w*(?:password|passphrase|secret|token)\w*":)"(?:[^"\\]|\\.)*"/gi
const cephxKey = /\bAQ[A-Za-z\d+/]{36}==/g
const hidden = '[redacted]'

/**
 * What takes the secrets out of a line of log, wherever they stand in it: passwords in URLs, fields that are called
 * so, keys of Ceph's, and these.
 */
export function redactor(secrets: readonly string[]): (line: string) => string {
  const known = secrets
    .filter(secret => secret.length >= shortestKnownSecret)
    .flatMap(secret => [secret, JSON.stringify(secret).slice(1, -1)])
  return line => {
    const withoutKnown = known.reduce((text, secret) => text.replaceAll(secret, hidden), line)
    return withoutKnown
      .replace(passwordInUrl, `$1${hidden}@`)
      .replace(secretField, `$1"${hidden}"`)
      .replace(cephxKey, hidden)
  }
}

/** For what is told by an agent that is so configured. */
export function redactorOf({ broker, iscsi }: Pick<Config, Secretive>): (text: string) => string {
  const { chap, dashboard } = iscsi
  return redactor([...secretsOf(broker.url), ...(chap === null ? [] : [chap.password]), dashboard.password])
}

function secretsOf(url: string): string[] {
  const { password } = new URL(url)
  return password === '' ? [] : [password, decoded(password)]
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // not percent-encoded: it is what it says
  }
}

/** Where a broker is, without the password that leads to it. */
export function brokerAddress(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}
