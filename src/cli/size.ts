const units = ['', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** Of `10GiB`, `10G`, or a number of bytes. */
export function parseSize(option: string, text: string): number {
  const [, number = '', letter = ''] = /^(\d+(?:\.\d+)?) ?([KMGTP]?)(?:i?B)?$/i.exec(text) ?? []
  const power = units.findIndex(unit => unit.charAt(0) === letter.toUpperCase())
  const bytes = Math.round(Number(number) * 1024 ** power)
  if (number === '' || bytes < 1 || !Number.isSafeInteger(bytes))
    throw new Error(`${option} ${text}: must be a size, such as 10GiB, or a number of bytes`)
  return bytes
}

/** With one digit behind the point, in the largest unit that there is one of. */
export function showSize(bytes: number): string {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1)
  return power === 0 ? `${bytes} B` : `${(bytes / 1024 ** power).toFixed(1)} ${units[power]}`
}
