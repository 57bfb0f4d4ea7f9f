import { pino } from 'pino'
import t, { type Test } from 'tap'
import { JobError } from '../src/errors.js'
import { Saga, StepFailedError } from '../src/jobs/saga.js'

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

const step = (name: string) => ({
  find: (world: World) => world.find(name),
  make: (world: World) => world.make(name),
  undo: (world: World) => world.undo(name),
  leaves: () => ({ kind: 'thing', name: `pool/${name}` }),
})

const job = Saga.of<World, string>().step('a', step('a')).step('b', step('b')).step('c', step('c'))

const broken = () => new Error('broken')
const busy = () => new JobError('BUSY', 'busy', { retryable: true })

async function failure(t: Test, world: World): Promise<StepFailedError> {
  const error = await job.run(world, 'job', { log }).then(
    () => t.fail('must fail'),
    error => error,
  )
  if (!(error instanceof StepFailedError)) throw error
  return error
}

t.test('a job does its steps in order, and has what each gave', async t => {
  const world = new World()
  t.same(await job.run(world, 'job', { log }), { a: 'a', b: 'b', c: 'c' })
  t.same(world.calls, ['find a', 'make a', 'find b', 'make b', 'find c', 'make c'])
})

t.test('a step knows the job and what earlier steps gave', async t => {
  const chain = Saga.of<null, { n: number }>()
    .step('one', { make: async (_context, { n }) => n + 1 })
    .step('two', { make: async (_context, { n }, at) => at.one * n })
  t.same(await chain.run(null, { n: 5 }, { log }), { one: 6, two: 30 })
})

t.test('a job that runs again makes nothing twice', async t => {
  const world = new World()
  await job.run(world, 'job', { log })
  world.calls.length = 0
  await job.run(world, 'job', { log })
  t.same(world.calls, ['find a', 'find b', 'find c'])
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
    t.same(await once.run(null, null, { log }), { it: found }, JSON.stringify(found))
  }
  t.same(made, [])
})

t.test('a step that fails has all undone, last first', async t => {
  const world = new World()
  world.fail('make c', broken)
  const error = await failure(t, world)
  t.same(world.calls.slice(5), ['make c', 'find c', 'undo b', 'undo a'])
  t.same([...world.things], [])
  t.equal(error.step, 'c')
  t.match(error.cause, { message: 'broken' })
  t.same(error.rollback, { complete: true, leftovers: [] })
})

t.test('a step that failed after it had its effect is undone too', async t => {
  const world = new World()
  world.fail('make b, after', broken)
  const error = await failure(t, world)
  t.same(world.calls.slice(3), ['make b', 'find b', 'undo b', 'undo a'])
  t.same([...world.things], [])
  t.equal(error.rollback.complete, true)
})

t.test('a step that could not even look is looked for again', async t => {
  const world = new World()
  world.things.add('b') // from an earlier attempt
  world.fail('find b', broken)
  await failure(t, world)
  t.same(world.calls.slice(2), ['find b', 'find b', 'undo b', 'undo a'])
  t.same([...world.things], [])
})

t.test('a step that has nothing to undo is not looked for', async t => {
  const world = new World()
  world.fail('find b', broken, broken)
  const { find, make } = step('b')
  const short = Saga.of<World, string>().step('a', step('a')).step('b', { find, make })
  const error = await short.run(world, 'job', { log }).catch(error => error)
  t.same(world.calls.slice(2), ['find b', 'undo a'])
  t.same(error.rollback, { complete: true, leftovers: [] })
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
  const error = await twice.run(null, null, { log }).catch(error => error)
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
  const error = await slow.run(world, 'job', { log, signal: controller.signal }).catch(error => error)
  t.equal(error.cause, reason)
  t.equal(error.step, 'c')
  t.same(world.calls, ['find a', 'make a', 'find b', 'make b', 'undo b', 'undo a'], 'what had begun came to its end')
  t.same([...world.things], [])
})
