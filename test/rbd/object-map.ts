/** The counting by words of sixteen objects, beside the same counting object by object. */
import t from 'tap'
import {
  bytesIn,
  changedFrom,
  changedUntil,
  existing,
  type Layout,
  type ObjectSet,
  statesOf,
} from '../../lib/rbd/object-map.js'

/** A generator of its own, so that a failure can be had again: numbers below `limit`. */
function random(seed: number): (limit: number) => number {
  let state = seed
  return limit => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

/** As an OSD answers it: as the image is, or with objects more, and something behind it. */
function encoded(states: readonly number[]): { objects: number; states: Buffer } {
  const bytes = Buffer.alloc(Math.ceil(states.length / 4) + 4, 0xff)
  bytes.fill(0, 0, Math.ceil(states.length / 4))
  for (const [i, state] of states.entries()) {
    const at = Math.floor(i / 4)
    bytes.writeUInt8(bytes.readUInt8(at) | (state << (6 - 2 * (i % 4))), at)
  }
  return { objects: states.length, states: bytes }
}

/** How many bytes of the image each object holds: dealt out stripe unit by stripe unit. */
function sharesOf({ size, objectSize, stripeUnit, stripeCount }: Layout): number[] {
  const shares: number[] = []
  for (let at = 0; at < size; at += stripeUnit) {
    const set = Math.floor(at / (objectSize * stripeCount))
    const object = set * stripeCount + (Math.floor(at / stripeUnit) % stripeCount)
    shares[object] = (shares[object] ?? 0) + Math.min(stripeUnit, size - at)
  }
  return shares
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)

t.test('bytes in use, and changed since the first of some snapshots', t => {
  const next = random(20261121)
  for (let round = 0; round < 2000; round++) {
    const stripeUnit = 1 + next(5)
    const shape = { stripeUnit, objectSize: stripeUnit * (1 + next(3)), stripeCount: 1 + next(4) }
    const versions = Array.from({ length: 2 + next(3) }, () => {
      const layout = { ...shape, size: next(600) }
      const shares = sharesOf(layout)
      const states = Array.from({ length: shares.length + next(2) * next(40) }, () => next(4))
      return { layout, shares, states }
    })
    const [first, ...later] = versions
    const head = versions.at(-1)
    if (first === undefined || head === undefined) throw new RangeError('there are two at least')

    let changed: ObjectSet = changedFrom(statesOf(encoded(first.states), first.layout))
    for (const { states, layout } of later) changed = changedUntil(changed, statesOf(encoded(states), layout))
    const states = statesOf(encoded(head.states), head.layout)

    const stateAt = ({ states, shares }: typeof head, object: number) =>
      object < shares.length ? (states[object] ?? 0) : 0
    const isThere = (object: number) => stateAt(head, object) !== 0
    const hasChanged = (object: number) =>
      [0, 2].includes(stateAt(first, object)) || later.some(version => stateAt(version, object) !== 3)
    const used = head.shares.map((bytes, object) => (isThere(object) ? bytes : 0))
    const changedBytes = used.map((bytes, object) => (hasChanged(object) ? bytes : 0))
    const told = [bytesIn(existing(states), head.layout), bytesIn(existing(states, changed), head.layout)]
    const counted = [sum(used), sum(changedBytes)]
    if (told.join() !== counted.join()) t.same(told, counted, JSON.stringify({ round, versions }))
  }
  t.pass('2000 images')
  t.end()
})

t.test('a map of too few objects is not read', t => {
  const layout = { size: 10, objectSize: 2, stripeUnit: 2, stripeCount: 1 }
  t.throws(() => statesOf(encoded([1, 1, 1, 1]), layout), { name: 'UnreadableError' })
  t.equal(bytesIn(existing(statesOf(encoded([1, 1, 1, 1, 1]), layout)), layout), 10)
  t.end()
})
