/** Messages that are nearly jobs: valid ones with something changed, in what they say, in their bytes, or around them. */
import { long, type RawProperties, short, u8, u32, u64 } from './amqp-frames.js'
import type { Job } from './broker.js'
import type { Random } from './workload.js'

export interface Mutation {
  /** For whoever has to find out what is wrong with it. */
  what: string
  content: Buffer
  properties: RawProperties
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Something that stands in the job: `holder[key]`. */
interface Spot {
  holder: Record<string, Json>
  key: string
}

/** As text of JSON, as some of them have no other form. */
const oddNumbers = [
  '-1',
  '-0',
  '0.5',
  '1e999',
  '-1e999',
  '5e-324',
  '4294967296',
  '9007199254740993',
  '1e30',
  '01',
  '0x10',
]
const oddTokens = [
  ...oddNumbers,
  'NaN',
  'undefined',
  'nul',
  '"',
  '{',
  ']',
  '"\\ud800"',
  '"\\u0000"',
  '"\\x"',
  "'a'",
  '//',
  '9'.repeat(400),
]

const oddTexts = [
  ...[
    '',
    ' ',
    '\0',
    'a\0b',
    '\ud800',
    'x\udfff',
    '\ufeff',
    '\u202e',
    'ä'.repeat(128),
    '🐙'.repeat(64),
    '16',
    'true',
    'null',
  ],
  ...['/', '../..', 'a/b@c', '@', '-', '--', '.', 'iqn.', 'iqn.2001-07.org.openhvx:', 'iqn.1999-01.com.example:x'],
  ...['__proto__', 'constructor', 'toString', 'cephkit-x', '%00', '%', 'rbd', 'x'.repeat(256), 'x'.repeat(5_000)],
]
const oddKeys = [
  '__proto__',
  'constructor',
  'hasOwnProperty',
  'toJSON',
  '',
  '\0',
  '\ud800',
  'sizeMb',
  'size_mb',
  'iqn',
  'image',
  'target',
]

function oddValue(random: Random): Json {
  const values: (() => Json)[] = [
    () => null,
    () => random(2) === 0,
    () => [0, 1, -1, 0.1, 2 ** 31, 2 ** 53, -(2 ** 63), 1e308][random(8)] ?? 0,
    () => pick(random, oddTexts),
    () => [],
    () => ({}),
    () => [null, {}, [[]]],
    () => ({ ['__proto__']: { sizeMB: 1 }, limit: 'x' }),
    () => nested(random, 2 + random(200)),
    () => Array.from({ length: random(300) }, (_, i) => i),
    () => Object.fromEntries(Array.from({ length: random(300) }, (_, i) => [`key ${i}`, null])),
  ]
  return pick(random, values)()
}

function nested(random: Random, depth: number): Json {
  let value: Json = 1
  for (let i = 0; i < depth; i++) value = random(2) === 0 ? [value] : { a: value }
  return value
}

type OfJob = (random: Random, job: { [key: string]: Json }) => void

/** What the job says is changed; it is JSON still. */
const ofJob: Record<string, OfJob> = {
  drop: (random, job) => atSpot(random, job, ({ holder, key }) => delete holder[key]),
  replace: (random, job) => atSpot(random, job, ({ holder, key }) => set(holder, key, oddValue(random))),
  'wrap into a list': (random, job) =>
    atSpot(random, job, ({ holder, key }) => set(holder, key, [holder[key] ?? null])),
  'make text of': (random, job) =>
    atSpot(random, job, ({ holder, key }) => set(holder, key, JSON.stringify(holder[key]))),
  rename: (random, job) =>
    atSpot(random, job, ({ holder, key }) => {
      set(holder, pick(random, [...oddKeys, key.toUpperCase(), `${key} `]), holder[key] ?? null)
      delete holder[key]
    }),
  add: (random, job) =>
    atSpot(random, job, ({ holder }) => set(holder, pick(random, [...oddKeys, 'more']), oddValue(random))),
  'swap two of': (random, job) => {
    atSpot(random, job, one => {
      atSpot(random, job, other => {
        const value = one.holder[one.key] ?? null
        set(one.holder, one.key, other.holder[other.key] ?? null)
        set(other.holder, other.key, value)
      })
    })
  },
  'put the data beside': (_random, job) => {
    const { data, ...rest } = job
    for (const key of Object.keys(job)) delete job[key]
    Object.assign(job, rest, data)
  },
  'another action': (random, job) => {
    job.action = pick(random, [
      'storage.delete',
      'inventory.refresh',
      'STORAGE.CREATE',
      'storage',
      '#',
      'x'.repeat(300),
    ])
  },
}

function set(holder: Record<string, Json>, key: string, value: Json): void {
  // An assignment to __proto__ would set something else.
  Object.defineProperty(holder, key, { value, enumerable: true, writable: true, configurable: true })
}

/** Any one of the job's fields, those of its data included. */
function atSpot(random: Random, job: { [key: string]: Json }, change: (spot: Spot) => void): void {
  const spots: Spot[] = []
  const walk = (holder: Record<string, Json>) => {
    for (const key of Object.keys(holder)) {
      spots.push({ holder, key })
      const value = holder[key]
      // One that is nested without end is not gone into.
      if (spots.length < 100 && typeof value === 'object' && value !== null) walk(value as Record<string, Json>)
    }
  }
  walk(job)
  if (spots.length > 0) change(pick(random, spots))
}

type OfBytes = (random: Random, bytes: Buffer) => Buffer

const at = (random: Random, bytes: Buffer) => random(bytes.length + 1)
const insert = (bytes: Buffer, offset: number, added: string | Buffer) =>
  Buffer.concat([bytes.subarray(0, offset), Buffer.from(added), bytes.subarray(offset)])
const noUtf8 = ['ff', 'c080', 'eda080', 'f4908080', '80', 'e282'].map(hex => Buffer.from(hex, 'hex'))

/** What the bytes are is changed; it may be no JSON any more. */
const ofBytes: Record<string, OfBytes> = {
  'cut off': (random, bytes) => bytes.subarray(0, at(random, bytes)),
  'without its beginning': (random, bytes) => bytes.subarray(at(random, bytes)),
  'with bytes that are no UTF-8': (random, bytes) => insert(bytes, at(random, bytes), pick(random, noUtf8)),
  'with another byte': (random, bytes) => {
    const changed = Buffer.from(bytes)
    if (changed.length > 0) changed[random(changed.length)] = random(256)
    return changed
  },
  'with a token of another kind': (random, bytes) =>
    Buffer.from(
      bytes.toString().replace(/:("[^"]*"|\d+)/g, token => (random(4) === 0 ? `:${pick(random, oddTokens)}` : token)),
    ),
  'with a key twice': (random, bytes) =>
    insert(bytes, 1, `"${pick(random, ['taskId', 'action', 'data', 'agentId'])}":7,`),
  'with a key twice, later': (random, bytes) =>
    insert(bytes, bytes.length - 1, `,"${pick(random, ['taskId', 'action', 'data', 'tenantId'])}":"${random(100)}"`),
  'after a byte order mark': (_random, bytes) => insert(bytes, 0, '\ufeff'),
  'between blanks': (random, bytes) => insert(insert(bytes, bytes.length, '\r\n\t '), 0, ' '.repeat(random(1000))),
  'with something after it': (random, bytes) => insert(bytes, bytes.length, pick(random, ['\0', ',', '}', '{}', 'x'])),
  'as UTF-16': (_random, bytes) => Buffer.from(bytes.toString(), 'utf16le'),
  twice: (_random, bytes) => Buffer.concat([bytes, bytes]),
}

/** Of a header that every broker passes on; some of them Node.js has no number for. */
function oddField(random: Random, depth = 0): Buffer {
  const some = (count: number) => Buffer.from(Array.from({ length: count }, () => random(256)))
  const fields: (() => Buffer)[] = [
    () => field('t', u8(random(2))),
    () => field(pick(random, ['b', 'B']), some(1)),
    () => field(pick(random, ['s', 'u']), some(2)),
    () => field(pick(random, ['I', 'i']), some(4)),
    () => field('l', u64(pick(random, [0n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]))),
    () => field('T', u64(pick(random, [0n, 1_700_000_000n, 2n ** 63n, 2n ** 64n - 1n]))),
    () => field('d', double(pick(random, [0.1, -0, 1e300, -1e300, 5e-324]))),
    () => field('f', Buffer.from('ff7fffff', 'hex')),
    () => field('D', some(5)),
    () => field('S', long(pick(random, oddTexts))),
    () => field(pick(random, ['S', 'x']), long(some(random(300)))),
    () => field('V', Buffer.alloc(0)),
    () =>
      field(
        'A',
        long(Buffer.concat(Array.from({ length: depth < 4 ? random(4) : 0 }, () => oddField(random, depth + 1)))),
      ),
    () => field('F', depth < 4 ? oddTable(random, random(4), depth + 1) : long('')),
    () =>
      field('F', long(Buffer.concat([short('!'), field('S', long('int8')), short('value'), field('I', u32(1000))]))),
    () => field('F', long(Buffer.concat([short('!'), field('S', long('no such type'))]))),
    () => field('A', long(Buffer.concat(Array(random(8_000)).fill(field('d', double(0.1)))))),
  ]
  return pick(random, fields)()
}

const field = (tag: string, value: Buffer) => Buffer.concat([Buffer.from(tag), value])
const double = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return bytes
}

const headerNames = [
  'x-death',
  'x-cephkit-reason',
  'x-cephkit-publish-id',
  'x-delivery-count',
  'traceparent',
  '!',
  '__proto__',
  '',
  'ä'.repeat(127),
]

function oddTable(random: Random, count: number, depth = 0): Buffer {
  const names = [...headerNames, Buffer.alloc(255, 0xff), `h${random(1000)}`]
  return long(
    Buffer.concat(Array.from({ length: count }, () => [short(pick(random, names)), oddField(random, depth)]).flat()),
  )
}

/** All properties are in one frame. */
const longestHeaders = 120_000

function oddHeaders(random: Random): Buffer {
  const headers = random(8) === 0 ? nestedHeaders(1 + random(3_000)) : oddTable(random, 1 + random(5))
  return headers.length > longestHeaders ? long('') : headers
}

function oddProperties(random: Random): RawProperties {
  const texts = [
    '',
    'application/json',
    'text/plain',
    'application/json; charset=utf-16',
    'gzip',
    'a\0b',
    'x'.repeat(255),
  ]
  const text = () => short(pick(random, [...texts.map(each => Buffer.from(each)), Buffer.alloc(255, 0xff)]))
  const all: RawProperties = {
    contentType: text(),
    contentEncoding: text(),
    headers: oddHeaders(random),
    deliveryMode: u8(pick(random, [1, 2])),
    priority: u8(random(256)),
    correlationId: text(),
    replyTo: text(),
    messageId: text(),
    timestamp: u64(pick(random, [0n, 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])),
    type: text(),
    appId: text(),
  }
  return Object.fromEntries(Object.entries(all).filter(() => random(3) === 0))
}

/** Lists in lists. */
export function nestedHeaders(depth: number): Buffer {
  const levels = Array.from({ length: depth }, (_, i) => field('A', u32(5 * i)))
  return long(Buffer.concat([short('nested'), ...levels.reverse()]))
}

/** Changes the job in one way or more, mostly in what it says. */
export function mutate(random: Random, job: Job): Mutation {
  const changed = structuredClone(job) as unknown as { [key: string]: Json }
  const what: string[] = [job.action]
  const isOfJob = random(4) !== 0
  for (let i = isOfJob ? 1 + random(2) : 0; i > 0; i--) {
    const name = pick(random, Object.keys(ofJob))
    ofJob[name]?.(random, changed)
    what.push(name)
  }
  let content = Buffer.from(JSON.stringify(changed))
  if (!isOfJob || random(4) === 0) {
    const name = pick(random, Object.keys(ofBytes))
    content = Buffer.from(ofBytes[name]?.(random, content) ?? content)
    what.push(name)
  }
  const properties = random(3) === 0 ? oddProperties(random) : {}
  return { what: [...what, ...Object.keys(properties)].join(', '), content, properties }
}

function pick<T>(random: Random, from: readonly T[]): T {
  const picked = from[random(from.length)]
  if (picked === undefined) throw new RangeError('nothing to pick from')
  return picked
}
