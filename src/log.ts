/** Logs: structured, each line of a job with the job's id, and no secret in any of them. */
import { type DestinationStream, type Logger, pino } from 'pino'
import { prettyFactory } from 'pino-pretty'
import type { Config } from './config.js'

export type { Logger } from 'pino'

/**
 * @param destination - Default: standard output.
 */
export function createLogger(config: Pick<Config, 'log' | 'broker'>, destination?: DestinationStream): Logger {
  const { enabled, level, json, name } = config.log
  const redact = redactor(secretsOf(config.broker.url))
  const readable = prettyFactory({
    colorize: destination === undefined && process.stdout.isTTY === true,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid,hostname,name',
  })
  const streamWrite = json ? redact : (line: string) => readable(redact(line))
  return pino({ name, level, enabled, hooks: { streamWrite } }, destination ?? pino.destination({ sync: true }))
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
