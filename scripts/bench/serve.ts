/** The inside of a client process: answers the calls that come over its standard input, one JSON object a line. */
import { createInterface } from 'node:readline'

export type Calls = Record<string, (...args: never[]) => Promise<unknown>>

/** Returns when the input ends. */
export async function serve(calls: Calls): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, args } = JSON.parse(line)
    process.stdout.write(`${JSON.stringify(await answer(calls, call, args))}\n`)
  }
}

async function answer(calls: Calls, name: string, args: never[]): Promise<object> {
  const call = calls[name]
  if (call === undefined) return { error: `there is no call ${name}` }
  try {
    return { result: (await call(...args)) ?? null }
  } catch (error) {
    return { error: String(error) }
  }
}
