/**
 * Keeps what overlaps apart, in the order it came, and lets everything else go on at once.
 */
export class RangeLocks {
  readonly #ranges = new Set<{ start: number; end: number; over: Promise<void> }>()

  /** Answers how to let go of it, when everything that overlaps and came before has. */
  async take(start: number, end: number): Promise<() => void> {
    const before = [...this.#ranges].filter(other => other.start < end && start < other.end)
    let release = () => {}
    const over = new Promise<void>(resolve => {
      release = resolve
    })
    const range = { start, end, over }
    this.#ranges.add(range)
    await Promise.all(before.map(other => other.over))
    return () => {
      this.#ranges.delete(range)
      release()
    }
  }

  takeAll(): Promise<() => void> {
    return this.take(0, Number.POSITIVE_INFINITY)
  }
}
