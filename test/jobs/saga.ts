import { pino } from 'pino'
import t, { type Test } from 'tap'
import { JobError } from '../../src/errors.js'
import { InterruptedError, type Ledger, type Progress, Saga, StepFailedError } from '../../src/jobs/saga.js'

const log = pino({ enabled: false })

/** What a job of three steps works on: things that are there or not, and faults that wait for a call. */
class World {
  readonly things = new Set<string>()
  readonly calls: string[] = []
  readonly faults = new Map<string, (() => Error)[]>()

  /** The next calls of the verb fail so. A fault `after` it lets the effect happen first, as a time-out does. */
  fail(call: string, ...errors: (() => Error)[]): void {
    this.faults.set(call, errors)
  }

  find(name: string): Promise<string | undefined> {
    return this.#call(`find ${name}`, () => (this.things.has(name) ? name : undefined))
  }

  make(name: string): Promise<string> {
    return this.#call(`make ${name}`, () => {
      this.things.add(name)
      return name
    })
  }

  undo(name: string): Promise<void> {
    return this.#call(`undo ${name}`, () => void this.things.delete(name))
  }

  async #call<T>(call: string, effect: () => T): Promise<T> {
    this.calls.push(call)
    const before = this.faults.get(call)?.shift()
    if (before) throw before()
    const result = effect()
    const after = this.faults.get(`${call}, after`)?.shift()
    if (after) throw after()
    return result
  }
}

/** What a process that died has left of a job is what was written last. */
class MemoryLedger implements Ledger {
  readonly isNew: boolean
  readonly progress: Progress
  written: string
  writes = 0
  /** The process dies at this write: before it, or after it. */
  dies: { at: number; after: boolean } | undefined

  constructor(progress: Progress, isNew = true) {
    this.progress = progress
    this.isNew = isNew
    this.written = JSON.stringify(progress)
  }

  async write(): Promise<void> {
    const dies = this.dies?.at === this.writes++ ? this.dies : undefined
    if (dies && !dies.after) throw new Death()
    this.written = JSON.stringify(this.progress)
    if (dies) throw new Death()
  }

  /** What the next process has. */
  next(): MemoryLedger {
    return new MemoryLedger(JSON.parse(this.written), false)
  }
}

class Death extends Error {
  override name = 'Death'
}

const step = (name: string) => ({
  find: (world: World) => world.find(name),
  make: (world: World) => world.make(name),
  undo: (world: World) => world.undo(name),
  leaves: () => ({ kind: 'thing', name: `pool/${name}` }),
})

const job = Saga.of<World, string>().step('a', step('a')).step('b', step('b')).step('c', step('c'))

const broken = () => new Error('broken')
const busy = () => new JobError('BUSY', 'busy', { retryable: true })

const ledger = () => new MemoryLedger(job.begin())
const options = () => ({ log, ledger: ledger() })

async function failure(t: Test, world: World, ledgerOfJob = ledger()): Promise<StepFailedError> {
  const error = await job.run(world, 'job', { log, ledger: ledgerOfJob }).then(
    () => t.fail('must fail'),
    error => error,
  )
  if (!(error instanceof StepFailedError)) throw error
  return error
}

t.test('a job does its steps in order, and has what each gave', async t => {
  const world = new World()
  t.same(await job.run(world, 'job', options()), { a: 'a', b: 'b', c: 'c' })
  t.same(world.calls, ['make a', 'make b', 'make c'], 'what has not run before is not looked for')
})

t.test('a step knows the job and what earlier steps gave', async t => {
  const chain = Saga.of<null, { n: number }>()
    .step('one', { make: async (_context, { n }) => n + 1 })
    .step('two', { make: async (_context, { n }, at) => at.one * n })
  t.same(await chain.run(null, { n: 5 }, { log, ledger: new MemoryLedger(chain.begin()) }), { one: 6, two: 30 })
})

t.test('the ledger has the intent of a step before it is made, and what it gave before the next one is', async t => {
  const seen: Progress[] = []
  const spy = (name: string) => ({
    make: async (own: MemoryLedger) => {
      seen.push(JSON.parse(own.written))
      return name
    },
  })
  const three = Saga.of<MemoryLedger, null>().step('a', spy('a')).step('b', spy('b')).step('c', spy('c'))
  const own = new MemoryLedger(three.begin())
  await three.run(own, null, { log, ledger: own })
  t.same(seen, [
    { steps: [{ name: 'a' }] },
    { steps: [{ name: 'a', made: 'a' }, { name: 'b' }] },
    { steps: [{ name: 'a', made: 'a' }, { name: 'b', made: 'b' }, { name: 'c' }] },
  ])
  t.equal(own.writes, 2, 'one write between two steps')
  t.same(own.progress.steps.at(-1), { name: 'c', made: 'c' }, 'what the last gave is there for the outcome')
})

t.test('a step that only looks is not in the ledger', async t => {
  const own = new MemoryLedger({ steps: [] })
  const looks = Saga.of<null, number>()
    .step('first', { find: async (_context, n) => n + 1 })
    .step('it', { make: async (_context, _n, at) => at.first })
    .step('last', { find: async (_context, _n, at) => at.it + at.first })
  t.same(looks.begin(), { steps: [{ name: 'it' }] })
  t.same(await looks.run(null, 1, { log, ledger: own }), { first: 2, it: 2, last: 4 })
  t.same(own.progress.steps, [{ name: 'it', made: 2 }])
})

t.test('a job whose process dies goes on where it was', async t => {
  for (const after of [false, true]) {
    for (const at of [0, 1]) {
      const world = new World()
      const first = ledger()
      first.dies = { at, after }
      await t.rejects(job.run(world, 'job', { log, ledger: first }), { name: 'Death' })
      const made = world.calls.length
      t.same(await job.run(world, 'job', { log, ledger: first.next() }), { a: 'a', b: 'b', c: 'c' })
      const uncertain = ['a', 'b', 'c'][after ? at + 1 : at]
      t.equal(world.calls[made], `find ${uncertain}`, `write ${at}: what may have been made is looked for first`)
      t.same(
        world.calls.filter(call => call.startsWith('make')),
        ['make a', 'make b', 'make c'],
        'each is made once',
      )
    }
  }
})

t.test('a job whose process dies in the middle of a step looks for what it has left', async t => {
  for (const isThere of [false, true]) {
    const world = new World()
    const first = ledger()
    world.fail(isThere ? 'make b, after' : 'make b', () => new Death())
    first.dies = { at: 1, after: false } // the failure is not written either
    await t.rejects(job.run(world, 'job', { log, ledger: first }), { name: 'Death' })
    world.calls.length = 0
    t.same(await job.run(world, 'job', { log, ledger: first.next() }), { a: 'a', b: 'b', c: 'c' })
    t.same(world.calls, ['find b', ...(isThere ? [] : ['make b']), 'make c'])
  }
})

t.test('a job whose process dies while it is undone is undone further, for the same reason', async t => {
  for (const [what, after] of Object.entries({ 'before the intent is kept': false, 'once the intent is kept': true })) {
    const world = new World()
    const first = ledger()
    world.fail('make c', () => new JobError('BROKEN', 'broken', { retryable: true }))
    first.dies = { at: 2, after }
    await t.rejects(job.run(world, 'job', { log, ledger: first }), { name: 'Death' })
    t.same([...world.things], ['a', 'b'], 'nothing is undone before that')
    world.calls.length = 0
    if (!after) {
      t.same(await job.run(world, 'job', { log, ledger: first.next() }), { a: 'a', b: 'b', c: 'c' }, what)
      continue
    }
    const error = await failure(t, world, first.next())
    t.match(error.failure, { step: 'c', code: 'BROKEN', error: 'broken', retryable: true })
    t.same(world.calls, ['find c', 'undo b', 'undo a'], what)
    t.same([...world.things], [])
  }
})

t.test('a job that cannot go on in this process is neither done nor undone', async t => {
  const world = new World()
  const controller = new AbortController()
  const own = ledger()
  world.fail('make b', () => {
    controller.abort()
    return broken()
  })
  const run = job.run(world, 'job', { log, ledger: own, interrupt: controller.signal })
  await t.rejects(run, { name: 'InterruptedError' })
  t.same([...world.things], ['a'])
  t.same(JSON.parse(own.written), { steps: [{ name: 'a', made: 'a' }, { name: 'b' }] })
  t.same(await job.run(world, 'job', { log, ledger: own.next() }), { a: 'a', b: 'b', c: 'c' })
})

t.test('a version with a step more goes on with a job of one without it', async t => {
  const world = new World()
  const old = Saga.of<World, string>().step('a', step('a')).step('c', step('c'))
  const first = new MemoryLedger(old.begin())
  first.dies = { at: 0, after: true }
  await t.rejects(old.run(world, 'job', { log, ledger: first }), { name: 'Death' })
  const second = first.next()
  t.same(await job.run(world, 'job', { log, ledger: second }), { a: 'a', b: 'b', c: 'c' })
  t.equal(second.progress.steps.length, 3)
})

t.test('a step that is found is one with a result, whatever that is', async t => {
  const made: string[] = []
  for (const found of [null, false, 0, '']) {
    const once = Saga.of<null, null>().step('it', {
      find: async (): Promise<typeof found | undefined> => found,
      make: async () => {
        made.push(String(found))
        return found
      },
    })
    const own = new MemoryLedger(once.begin(), false)
    t.same(await once.run(null, null, { log, ledger: own }), { it: found }, JSON.stringify(found))
  }
  t.same(made, [])
})

t.test('a step that fails has all undone, last first', async t => {
  const world = new World()
  world.fail('make c', broken)
  const error = await failure(t, world)
  t.same(world.calls.slice(2), ['make c', 'find c', 'undo b', 'undo a'])
  t.same([...world.things], [])
  t.equal(error.failure.step, 'c')
  t.match(error.cause, { message: 'broken' })
  t.same(error.rollback, { complete: true, leftovers: [] })
})

t.test('a step that failed after it had its effect is undone too', async t => {
  const world = new World()
  world.fail('make b, after', broken)
  const error = await failure(t, world)
  t.same(world.calls.slice(1), ['make b', 'find b', 'undo b', 'undo a'])
  t.same([...world.things], [])
  t.equal(error.rollback.complete, true)
})

t.test('a step that could not even look is looked for again', async t => {
  const world = new World()
  world.things.add('a') // from an earlier life
  world.fail('find a', broken)
  await failure(t, world, new MemoryLedger(job.begin(), false))
  t.same(world.calls, ['find a', 'find a', 'undo a'])
  t.same([...world.things], [])
})

t.test('a step that has nothing to undo is not looked for', async t => {
  const world = new World()
  world.fail('make b', broken)
  const { find, make } = step('b')
  const short = Saga.of<World, string>().step('a', step('a')).step('b', { find, make })
  const error = await short.run(world, 'job', { log, ledger: new MemoryLedger(short.begin()) }).catch(error => error)
  t.same(world.calls.slice(1), ['make b', 'undo a'])
  t.same(error.rollback, { complete: true, leftovers: [] })
})

t.test('a job that has nothing to undo has no intent to do so', async t => {
  const fails = Saga.of<null, null>()
    .step('a', { make: async () => 1 })
    .step('b', {
      make: async () => {
        throw broken()
      },
    })
  const own = new MemoryLedger(fails.begin())
  await t.rejects(fails.run(null, null, { log, ledger: own }), { name: 'StepFailedError' })
  t.equal(own.writes, 1)
  t.match(own.progress.failure, { step: 'b' }, 'why it failed is there for the outcome')
})

t.test('an undo that may work later is tried again', async t => {
  const world = new World()
  world.fail('make b', broken)
  world.fail('undo a', busy, busy)
  t.equal((await failure(t, world)).rollback.complete, true)
  t.equal(world.calls.filter(call => call === 'undo a').length, 3)
  t.same([...world.things], [])
})

t.test('what cannot be undone is named, and the rest is undone', async t => {
  const world = new World()
  world.fail('make c', broken)
  world.fail('undo b', () => new Error('it is nailed down'))
  const { rollback } = await failure(t, world)
  t.same(rollback, { complete: false, leftovers: [{ kind: 'thing', name: 'pool/b', reason: 'it is nailed down' }] })
  t.same([...world.things], ['b'])
})

t.test('what may be there and cannot be looked for is named', async t => {
  const world = new World()
  world.fail('make b, after', () => {
    world.fail('find b', () => new Error('no answer'))
    return broken()
  })
  const { rollback } = await failure(t, world)
  t.same(rollback, { complete: false, leftovers: [{ kind: 'thing', name: 'pool/b', reason: 'no answer' }] })
})

t.test('an undo that stays busy is given up in the end', async t => {
  const world = new World()
  world.fail('make b', broken)
  world.fail('undo a', ...Array.from({ length: 10 }, () => busy))
  const { rollback } = await failure(t, world)
  t.same(rollback.leftovers, [{ kind: 'thing', name: 'pool/a', reason: 'busy' }])
  t.equal(world.calls.filter(call => call === 'undo a').length, 4)
})

t.test('two steps that leave the same thing name it once', async t => {
  const stuck = {
    make: async () => 1,
    undo: async () => {
      throw broken()
    },
    leaves: () => ({ kind: 'thing', name: 'it' }),
  }
  const twice = Saga.of<null, null>()
    .step('a', stuck)
    .step('b', stuck)
    .step('c', {
      make: async () => {
        throw broken()
      },
    })
  const error = await twice.run(null, null, { log, ledger: new MemoryLedger(twice.begin()) }).catch(error => error)
  t.equal(error.rollback.leftovers.length, 1)
})

t.test('once aborted, no further step begins, and what was made is undone', async t => {
  const world = new World()
  const controller = new AbortController()
  const reason = new Error('too late')
  const slow = Saga.of<World, string>()
    .step('a', step('a'))
    .step('b', {
      ...step('b'),
      make: async world => {
        controller.abort(reason)
        return world.make('b')
      },
    })
    .step('c', step('c'))
  const { signal } = controller
  const own = new MemoryLedger(slow.begin())
  const error = await slow.run(world, 'job', { log, signal, ledger: own }).catch(error => error)
  t.equal(error.cause, reason)
  t.equal(error.failure.step, 'c')
  t.same(world.calls, ['make a', 'make b', 'find c', 'undo b', 'undo a'], 'what had begun came to its end')
  t.same([...world.things], [])
})

t.test('what ends something that cannot be undone is made although the job is cancelled by then', async t => {
  const world = new World()
  const controller = new AbortController()
  const removal = Saga.of<World, string>()
    .step('a', {
      make: async world => {
        controller.abort(new Error('too late'))
        return world.make('a')
      },
    })
    .step('b', { ...step('b'), inAnyCase: true })
  const { signal } = controller
  const own = new MemoryLedger(removal.begin())
  t.same(await removal.run(world, 'job', { log, signal, ledger: own }), { a: 'a', b: 'b' })
})

t.test('a step that says that this process cannot go on has not failed', async t => {
  const world = new World()
  const own = ledger()
  world.fail('make b', () => new InterruptedError({ cause: broken() }))
  await t.rejects(job.run(world, 'job', { log, ledger: own }), { name: 'InterruptedError' })
  t.same([...world.things], ['a'])
  t.same(await job.run(world, 'job', { log, ledger: own.next() }), { a: 'a', b: 'b', c: 'c' })
})
