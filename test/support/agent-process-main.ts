/** The agent as the command runs it, which may kill itself at some moment of its work on the journal. */
import { runAgent } from '../../src/cli/agent.js'
import { Records } from '../../src/journal/records.js'
import type { Death } from './agent-process.js'

const death: Death | undefined = process.env.TEST_DEATH && JSON.parse(process.env.TEST_DEATH)
if (death) dieAt(death)
await runAgent()

function dieAt({ operation, count, after }: Death): void {
  const prototype = Records.prototype as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>
  const original = prototype[operation]
  if (original === undefined) throw new Error(`there is no ${operation}`)
  let calls = 0
  prototype[operation] = async function (this: Records, ...args) {
    const dies = calls++ === count
    if (dies && !after) process.kill(process.pid, 'SIGKILL')
    const result = await original.apply(this, args)
    if (dies) process.kill(process.pid, 'SIGKILL')
    return result
  }
}
