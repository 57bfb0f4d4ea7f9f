/** Lines of cells, each column as wide as its widest cell; those of numbers to the right. */
export function toTable(
  titles: readonly string[],
  lines: readonly (readonly string[])[],
  right: number[] = [],
): string {
  const titled = [titles, ...lines]
  const widths = titles.map((_, column) =>
    titled.reduce((width, line) => Math.max(width, line[column]?.length ?? 0), 0),
  )
  const pad = (cell: string, column: number) => {
    const width = widths[column] ?? 0
    return right.includes(column) ? cell.padStart(width) : cell.padEnd(width)
  }
  return titled.map(line => line.map(pad).join('  ').trimEnd()).join('\n')
}
