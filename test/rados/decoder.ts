/** What an OSD answers may be cut short or made up: it is a value or an UnreadableError, and never anything else. */
import t from 'tap'
import { Decoder, UnreadableError } from '../../lib/rados/decoder.js'
import type { Question } from '../../lib/rbd/object-class.js'
import * as questions from '../../lib/rbd/object-class.js'
import { existing, statesOf } from '../../lib/rbd/object-map.js'

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** Answers of a cluster of 16.2, and what they say. */
const answers: Record<string, [Question<unknown>, answer: Buffer, value: unknown]> = {
  size: [questions.getSize, hex('16 0000004000000000'), { objectSize: 2 ** 22, size: 2 ** 30 }],
  features: [questions.getFeatures, hex('3d00000000000000 0100000000000000'), 61],
  'snapshot ids': [
    questions.getSnapshotIds,
    hex('0900000000000000 02000000 0900000000000000 0400000000000000'),
    [4, 9],
  ],
  parent: [
    questions.getParent,
    hex('0101 20000000 0100000000000000 00000000 08000000 3130313261306432 0400000000000000'),
    { poolId: 1, namespace: '', imageId: '1012a0d2', snapshotId: 4 },
  ],
  'no parent': [questions.getParent, hex('0101 18000000 ffffffffffffffff 00000000 00000000 feffffffffffffff'), null],
  overlap: [questions.getParentOverlap, hex('01 0000004000000000'), 2 ** 30],
  'no overlap': [questions.getParentOverlap, hex('00'), 0],
  time: [questions.getCreatedAt, hex('d672016b 0065cd1d'), new Date(0x6b0172d6 * 1000 + 500)],
  'object map': [
    questions.loadObjectMap,
    hex('0e000000 0101 08000000 0500000000000000 1b40 00000000'),
    { objects: 5, states: hex('1b40 00000000') },
  ],
  snapshot: [
    questions.getSnapshot(4),
    hex(
      '0101 2e000000 0400000000000000 0101 04000000 00000000 04000000 62617365 0000004000000000 d672016b00000000 00000000',
    ),
    { id: 4, name: 'base', size: 2 ** 30, createdAt: new Date(0x6b0172d6 * 1000), namespace: 'user' },
  ],
  'snapshot in the trash': [
    questions.getSnapshot(4),
    hex(
      '0101 37000000 0400000000000000 0101 10000000 02000000 04000000 62617365 00000000 01000000 78 0000004000000000 d672016b00000000 01000000',
    ),
    {
      id: 4,
      name: 'x',
      size: 2 ** 30,
      createdAt: new Date(0x6b0172d6 * 1000),
      namespace: 'trash',
      originalName: 'base',
      clones: 1,
    },
  ],
  directory: [
    questions.listDirectory(Buffer.alloc(0), 10),
    hex('01000000 04000000 6469736b 03000000 616263'),
    [{ name: 'disk', rawName: Buffer.from('disk'), id: 'abc' }],
  ],
  'trash name': [questions.getTrashName('abc'), hex('0101 09000000 00 04000000 6469736b'), 'disk'],
  striping: [questions.getStriping, hex('0000010000000000 0300000000000000'), { stripeUnit: 65536, stripeCount: 3 }],
}

t.test('answers are read for what they say', t => {
  for (const [name, [question, answer, value]] of Object.entries(answers)) {
    t.same(question.decode(new Decoder(answer)), value, name)
  }
  t.end()
})

t.test('a structure that has grown is read; one that has changed is not', t => {
  const grown = hex('0901 0c000000 0700000000000000 ffffffff 05')
  const decoder = new Decoder(grown)
  t.equal(
    decoder.struct(1, each => each.u64()),
    7,
  )
  t.equal(decoder.u8(), 5, 'and what is behind it follows')
  t.throws(() => new Decoder(hex('0902 08000000 0700000000000000')).struct(1, each => each.u64()), {
    name: 'UnreadableError',
  })
  t.end()
})

t.test('what is no number of JavaScript is refused', t => {
  t.throws(() => new Decoder(hex('0000000000002000')).u64(), { name: 'UnreadableError' })
  t.equal(new Decoder(hex('ffffffffffff1f00')).u64(), Number.MAX_SAFE_INTEGER)
  t.throws(() => new Decoder(hex('0000000000000080')).i64(), { name: 'UnreadableError' })
  t.end()
})

/** A generator of its own, so that a failure can be had again: numbers below 2^32. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state
  }
}

/** The answer with some bytes changed, cut off or put behind. */
function damaged(answer: Buffer, next: () => number): Buffer {
  const bytes = Buffer.concat([answer, Buffer.alloc(next() % 8, next() >>> 24)])
  for (let changes = next() % 4; changes > 0; changes--) {
    bytes[(next() >>> 8) % bytes.length] = [0, 1, 0x7f, 0x80, 0xff, next() >>> 24][(next() >>> 8) % 6] ?? 0
  }
  return bytes.subarray(0, (next() >>> 8) % 2 ? bytes.length : (next() >>> 8) % (bytes.length + 1))
}

t.test('no bytes do more than not to be read', t => {
  const next = random(20261121)
  let unreadable = 0
  let rounds = 0
  for (const [name, [question, answer]] of Object.entries(answers)) {
    for (let i = 0; i < 5000; i++, rounds++) {
      const bytes = damaged(answer, next)
      try {
        question.decode(new Decoder(bytes))
      } catch (error) {
        unreadable++
        if (!(error instanceof UnreadableError)) t.fail(`${name}: ${bytes.toString('hex')}`, { error })
      }
    }
  }
  t.ok(unreadable > rounds / 10 && unreadable < rounds, `${unreadable} of ${rounds} were unreadable`)
  t.end()
})

t.test('no layout and no object map do more than not to go together', t => {
  const next = random(7)
  const some = () => [0, 1, 3, 4096, 2 ** 22, 2 ** 53 - 1, next()][(next() >>> 8) % 7] ?? 0
  for (let i = 0; i < 5000; i++) {
    const layout = { size: some(), objectSize: some(), stripeUnit: some(), stripeCount: some() }
    try {
      existing(statesOf({ objects: 9, states: hex('1b40ff') }, layout))
    } catch (error) {
      if (!(error instanceof UnreadableError)) t.fail(JSON.stringify(layout), { error })
    }
  }
  t.pass('5000 of them')
  t.end()
})
