/**
 * What tgtd shows of its targets, read. It is text for people, indented by fours:
 *
 *     Target 7: iqn.2001-07.org.openhvx:acme-web
 *         System information:
 *             State: ready
 *         I_T nexus information:
 *             I_T nexus: 1
 *                 Initiator: iqn.1993-08.org.debian:01:abc alias: none
 *                 Connection: 0
 *                     IP Address: 10.0.0.5
 *         LUN information:
 *             LUN: 1
 *                 Type: disk
 *                 SCSI ID: 6a…
 *                 SCSI SN: 10e26b8b4567
 *                 Size: 17 MB, Block size: 512
 *                 Backing store path: rbd/acme-web
 *         Account information:
 *             bob
 *             alice (outgoing)
 *         ACL information:
 *             ALL
 */
import type { Portal } from './driver.js'
import { TargetRefusedError } from './errors.js'

export interface TgtTarget {
  tid: number
  iqn: string
  /** Whether it takes logins and commands. */
  isReady: boolean
  sessions: TgtSession[]
  units: TgtUnit[]
  incoming: string[]
  outgoing: string | undefined
  /** Names, addresses and networks. */
  allowed: string[]
}

export interface TgtSession {
  id: number
  initiator: string
  connections: number[]
  addresses: string[]
}

export interface TgtUnit {
  lun: number
  serial: string
  naa: string
  /** In millions of bytes, rounded. */
  megabytes: number
  /** `pool/image` */
  path: string
}

const indent = 4
const outgoingMark = ' (outgoing)'

/**
 * An initiator chooses its own name and alias, which are in the text as they are: with line breaks in them, they could pass
 * for other targets. Those would be one too many, as tgtd shows each id once, in order: then nothing of it is believed.
 *
 * @throws {TargetRefusedError} such a text
 */
export function parseTargets(text: string): TgtTarget[] {
  const targets = blocks(text.split('\n'), 0).map(parseTarget)
  const isInOrder = targets.every(({ tid }, index) => index === 0 || tid > (targets[index - 1]?.tid ?? tid))
  const isUnique = new Set(targets.map(({ iqn }) => iqn)).size === targets.length
  if (isInOrder && isUnique) return targets
  throw new TargetRefusedError('tgtd shows targets that cannot be: an initiator may have a name of several lines')
}

/** `Portal: 127.0.0.1:3260,1`, one a line. */
export function parsePortals(text: string): Omit<Portal, 'host'>[] {
  return [...text.matchAll(/^Portal: \[?(.+?)\]?:(\d+),\d+$/gm)].map(([, ip = '', port]) => ({
    ip,
    port: Number(port),
  }))
}

/** How tgtd shows a size: in its own arithmetic, which rounds to the nearest million. */
export function megabytesOf(bytes: number): number {
  const sectors = Math.floor(bytes / 512)
  return Math.floor((sectors - (Math.floor(sectors / 625) - 974)) / 1950)
}

interface Block {
  head: string
  /** What is indented deeper, up to the next head. */
  lines: string[]
}

function blocks(lines: readonly string[], depth: number): Block[] {
  const margin = ' '.repeat(depth * indent)
  const found: Block[] = []
  for (const line of lines) {
    if (line.startsWith(margin) && line[margin.length] !== ' ' && line.length > margin.length) {
      found.push({ head: line.slice(margin.length), lines: [] })
    } else {
      found.at(-1)?.lines.push(line)
    }
  }
  return found
}

function parseTarget({ head, lines }: Block): TgtTarget {
  const [, tid = '', iqn = ''] = /^Target (\d+): (.*)$/.exec(head) ?? []
  const sections = blocks(lines, 1)
  const of = (name: string) => blocks(sections.find(section => section.head === `${name} information:`)?.lines ?? [], 2)
  const accounts = of('Account').map(account => account.head)
  return {
    tid: Number(tid),
    iqn,
    isReady: of('System').some(property => property.head === 'State: ready'),
    sessions: of('I_T nexus').map(parseSession),
    units: of('LUN').map(parseUnit),
    incoming: accounts.filter(account => !account.endsWith(outgoingMark)),
    outgoing: accounts.find(account => account.endsWith(outgoingMark))?.slice(0, -outgoingMark.length),
    allowed: of('ACL').map(rule => rule.head),
  }
}

function parseSession({ head, lines }: Block): TgtSession {
  const [initiator = ''] = valuesOf(lines, 'Initiator')
  return {
    id: Number(head.slice('I_T nexus: '.length)),
    initiator: initiator.replace(/ alias: .*$/, ''),
    connections: valuesOf(lines, 'Connection').map(Number),
    addresses: valuesOf(lines, 'IP Address'),
  }
}

function parseUnit({ head, lines }: Block): TgtUnit {
  const [naa = ''] = valuesOf(lines, 'SCSI ID')
  const [serial = ''] = valuesOf(lines, 'SCSI SN')
  const [size = ''] = valuesOf(lines, 'Size')
  const [path = ''] = valuesOf(lines, 'Backing store path')
  return { lun: Number(head.slice('LUN: '.length)), serial, naa, megabytes: Number.parseInt(size, 10), path }
}

function valuesOf(lines: readonly string[], key: string): string[] {
  const begin = `${key}: `
  return lines
    .map(line => line.trim())
    .filter(line => line.startsWith(begin))
    .map(line => line.slice(begin.length))
}
