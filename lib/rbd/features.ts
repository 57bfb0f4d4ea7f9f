/** What an image can do, by the names that `rbd` uses. In the order of the bits. */
import { wrongType, wrongValue } from '../check.js'

const features = [
  'layering',
  'striping',
  'exclusive-lock',
  'object-map',
  'fast-diff',
  'deep-flatten',
  'journaling',
  'data-pool',
  'operations',
  'migrating',
  'non-primary',
  'dirty-cache',
] as const
export type Feature = (typeof features)[number]

/** The others come of what is done with an image; librbd would drop them without a word. */
const settableFeatures = features.slice(0, features.indexOf('data-pool'))

const operationFeatures = ['clone-parent', 'clone-child', 'group', 'snap-trash'] as const
export type OperationFeature = (typeof operationFeatures)[number]

const flags = ['object map invalid', 'fast diff invalid'] as const
export type ImageFlag = (typeof flags)[number]

/** The names of the bits that are set. A bit newer than this library is left out. */
function namesOf<T extends string>(names: readonly T[], bits: number): T[] {
  return names.filter((_, bit) => Math.floor(bits / 2 ** bit) % 2 === 1)
}

export const featuresOf = (bits: number): Feature[] => namesOf(features, bits)
export const operationFeaturesOf = (bits: number): OperationFeature[] => namesOf(operationFeatures, bits)
export const flagsOf = (bits: number): ImageFlag[] => namesOf(flags, bits)

/** Whether librbd learns from the object map what has data, or has changed. */
export function hasFastDiff(features: readonly Feature[], flags: readonly ImageFlag[]): boolean {
  return features.includes('fast-diff') && !flags.includes('fast diff invalid')
}

export function checkFeatures(argument: string, value: unknown): number {
  if (!Array.isArray(value)) throw wrongType(argument, 'an array of features', value)
  let bits = 0
  for (const name of new Set(value)) {
    const bit = settableFeatures.indexOf(name)
    if (bit < 0) throw wrongValue(argument, `an array of ${settableFeatures.join(', ')}`, name)
    bits += 2 ** bit
  }
  return bits
}
