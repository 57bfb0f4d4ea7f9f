import type { WriteStream } from 'node:tty'

const columns = 40
const redrawMs = 100

export interface ProgressBar {
  show: (done: number, total: number) => void
  clear: () => void
}

/** In a line of its own that is drawn over; nothing where nobody looks. */
export function progressBar(output: Pick<WriteStream, 'write' | 'isTTY'>): ProgressBar {
  let drawnAt = 0
  const draw = (line: string) => void output.write(`\r\x1b[K${line}`)
  if (!output.isTTY) return { show: () => {}, clear: () => {} }
  return {
    show(done, total) {
      if (done < total && performance.now() - drawnAt < redrawMs) return
      drawnAt = performance.now()
      // Of a download whose size is not known, all that has come is all there is.
      const full = Math.round((columns * done) / Math.max(total, 1))
      const bar = '█'.repeat(full).padEnd(columns, '░')
      draw(`${bar} ${inMiB(done)} of ${inMiB(total)} MiB`)
    },
    clear: () => draw(''),
  }
}

function inMiB(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1)
}
