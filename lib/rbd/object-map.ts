/**
 * What an object map says of the use of an image. An object map has two bits for each object, four objects to a byte,
 * the first in the highest bits. Of large images it has millions, so they are taken sixteen at a time: a set of objects
 * is as long as the map, and has the lower bit of each pair.
 */
import { UnreadableError } from '../rados/decoder.js'
import type { ObjectMap } from './object-class.js'

/** How an image is laid out in objects. In bytes. */
export interface Layout {
  size: number
  objectSize: number
  stripeUnit: number
  stripeCount: number
}

/**
 * Of each object: 0, there is none. 1, it exists. 2, it is to be removed. 3, it exists, unchanged since the last snapshot.
 */
export type States = Uint32Array
export type ObjectSet = Uint32Array

const lowerBits = 0x55555555
const objectsPerWord = 16

/**
 * The states, cut to the objects that the image has.
 *
 * @throws {UnreadableError} the map has fewer; or there is no such layout
 */
export function statesOf(map: ObjectMap, layout: Layout): States {
  const objects = objectsOf(layout)
  if (map.objects < objects) throw new UnreadableError(`an object map of ${map.objects} objects for ${objects}`)
  const bytes = map.states.subarray(0, Math.ceil(objects / 4))
  const states = new Uint32Array(Math.ceil(objects / objectsPerWord))
  const view = new Uint8Array(states.buffer)
  view.set(bytes)
  // The map may go on, with objects that the image has no more.
  const beyond = (4 - (objects % 4)) % 4
  const last = bytes.at(-1)
  if (last !== undefined) view[bytes.length - 1] = last & (0xff << (2 * beyond))
  return states
}

const isThere = (states: number) => (states | (states >>> 1)) & lowerBits
const isUnchanged = (states: number) => states & (states >>> 1) & lowerBits

/**
 * The objects that are there, of those in `among`.
 *
 * @param among - Undefined: of all.
 */
export function existing(states: States, among?: ObjectSet): ObjectSet {
  const set = new Uint32Array(states.length)
  for (let i = 0; i < set.length; i++) set[i] = isThere(states[i] ?? 0) & (among?.[i] ?? lowerBits)
  return set
}

/** The objects that count as changed after a snapshot if they are there then: those that it has not, or not for long. */
export function changedFrom(states: States): ObjectSet {
  const set = new Uint32Array(states.length)
  for (let i = 0; i < set.length; i++) set[i] = ~(states[i] ?? 0) & lowerBits
  return set
}

/** The same, with those that changed until the next snapshot, or until now. What one of the two lacks has changed. */
export function changedUntil(changed: ObjectSet, states: States): ObjectSet {
  const set = new Uint32Array(states.length)
  for (let i = 0; i < set.length; i++) {
    set[i] = (changed[i] ?? lowerBits) | (lowerBits ^ isUnchanged(states[i] ?? 0))
  }
  return set
}

/** The numbers of these objects. */
export function* numbersOf(objects: ObjectSet): Generator<number, void, undefined> {
  for (let object = 0; object < objects.length * objectsPerWord; object++) if (has(objects, object)) yield object
}

/** Where the image has the first byte of an object. */
export function offsetOf(object: number, { objectSize, stripeUnit, stripeCount }: Layout): number {
  const place = object % stripeCount
  return (object - place) * objectSize + place * stripeUnit
}

/** How many bytes of the image are in these objects. */
export function bytesIn(objects: ObjectSet, layout: Layout): number {
  const { size, objectSize, stripeCount } = layout
  const period = objectSize * stripeCount
  const whole = Math.floor(size / period) * stripeCount
  let bytes = countFirst(objects, whole) * objectSize
  // The image may end within a set of `stripeCount` objects: each of them then has its own share.
  for (let object = whole; object < objects.length * objectsPerWord; object++) {
    if (has(objects, object)) bytes += shareOf(object, layout)
  }
  return bytes
}

function has(objects: ObjectSet, object: number): boolean {
  const bytes = new Uint8Array(objects.buffer)
  return (((bytes[Math.floor(object / 4)] ?? 0) >> (2 * (3 - (object % 4)))) & 1) === 1
}

/** How many of the first objects are in the set. */
function countFirst(objects: ObjectSet, first: number): number {
  const wholeWords = Math.floor(first / objectsPerWord)
  let count = 0
  for (let i = 0; i < wholeWords; i++) count += countBits(objects[i] ?? 0)
  for (let object = wholeWords * objectsPerWord; object < first; object++) if (has(objects, object)) count++
  return count
}

/** Of the lower bits of pairs: sums of two, of four, and then of all by a multiplication. */
function countBits(set: number): number {
  const twos = (set & 0x11111111) + ((set >>> 2) & 0x11111111)
  const fours = (twos & 0x03030303) + ((twos >>> 4) & 0x03030303)
  return Math.imul(fours, 0x01010101) >>> 24
}

/** How many bytes of the image an object of the last, incomplete set holds: those of its stripes. */
function shareOf(object: number, { size, objectSize, stripeUnit, stripeCount }: Layout): number {
  const inSet = size % (objectSize * stripeCount)
  const stripe = stripeUnit * stripeCount
  const wholeStripes = Math.floor(inSet / stripe)
  const inLastStripe = (inSet % stripe) - (object % stripeCount) * stripeUnit
  return wholeStripes * stripeUnit + Math.min(Math.max(inLastStripe, 0), stripeUnit)
}

/** How many objects the image can have. */
function objectsOf({ size, objectSize, stripeUnit, stripeCount }: Layout): number {
  if (stripeUnit === 0 || stripeCount === 0 || objectSize % stripeUnit !== 0) {
    throw new UnreadableError(`${stripeCount} stripes of ${stripeUnit} bytes in objects of ${objectSize}`)
  }
  const period = objectSize * stripeCount
  const inLastSet = Math.ceil((size % period) / stripeUnit)
  return Math.floor(size / period) * stripeCount + Math.min(inLastSet, stripeCount)
}
