/** The agent as the command runs it, which may kill itself at some moment of its work on the journal, or on targets. */
import { runAgent } from '../../src/cli/agent.js'
import { ExposureList } from '../../src/iscsi/exposure.js'
import { TgtControl } from '../../src/iscsi/tgt-control.js'
import { Records } from '../../src/journal/records.js'
import type { Death } from './agent-process.js'

type Method = (...args: unknown[]) => Promise<unknown>

const moments: Record<Death['operation'], [of: object, method: string]> = {
  enter: [Records.prototype, 'enter'],
  create: [Records.prototype, 'create'],
  write: [Records.prototype, 'write'],
  settle: [Records.prototype, 'settle'],
  list: [ExposureList.prototype, 'write'],
  unlist: [ExposureList.prototype, 'remove'],
  ask: [TgtControl.prototype, 'ask'],
}

const death: Death | undefined = process.env.TEST_DEATH && JSON.parse(process.env.TEST_DEATH)
if (death) dieAt(death)
await runAgent()

function dieAt({ operation, count, after }: Death): void {
  const [of, method] = moments[operation]
  const prototype = of as Record<string, Method>
  const original = prototype[method]
  if (original === undefined) throw new Error(`there is no ${method}`)
  let calls = 0
  prototype[method] = async function (this: object, ...args) {
    const dies = calls++ === count
    if (dies && !after) process.kill(process.pid, 'SIGKILL')
    const result = await original.apply(this, args)
    if (dies) process.kill(process.pid, 'SIGKILL')
    return result
  }
}
