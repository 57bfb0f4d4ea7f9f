/** Tenants by cephkit. */
import { Cluster, FileNotFoundError, GiB } from '../../lib/index.js'
import { reportTenants } from '../../src/cephfs/report.js'
import { Tenants } from '../../src/cephfs/tenants.js'
import { forEachLimited } from '../../src/concurrency.js'
import { serve } from './serve.js'

const [base = ''] = process.argv.slice(2)
const atOnce = 32
const cluster = await Cluster.connect()

async function withTenants<T>(use: (tenants: Tenants) => Promise<T>): Promise<T> {
  await using files = await cluster.mountFileSystem({ root: base, uid: 0, gid: 0 })
  return await use(new Tenants(files))
}

function* names(from: number, to: number): Generator<string> {
  for (let i = from; i < to; i++) yield `tenant-${i}`
}

async function prepare(): Promise<void> {
  await using whole = await cluster.mountFileSystem()
  await whole.mkdir(base)
}

/** Answers milliseconds, with those in which it is made sure that all is safe. */
function ensure(from: number, to: number): Promise<number> {
  return withTenants(async tenants => {
    const start = performance.now()
    const quota = { maxBytes: GiB, maxFiles: 100_000 }
    await forEachLimited(names(from, to), atOnce, async name => {
      await tenants.ensure({ name, uid: 20_001, gid: 20_001, quota })
    })
    await tenants.files.sync()
    return performance.now() - start
  })
}

/** Answers milliseconds. */
function report(count: number): Promise<number> {
  return withTenants(async tenants => {
    const start = performance.now()
    const found = await reportTenants(tenants)
    if (found.length !== count) throw new Error(`${found.length} of ${count} tenants were reported`)
    return performance.now() - start
  })
}

/** Those of others too, side by side, for one after the other would take much longer. */
async function clear(): Promise<void> {
  await withTenants(async ({ files }) => {
    await forEachLimited(await files.readdir('/'), atOnce, async ({ name }) => {
      await files.rm(`/${name}`, { recursive: true, force: true })
    })
  })
  await using whole = await cluster.mountFileSystem()
  try {
    await whole.rmdir(base)
  } catch (error) {
    if (!(error instanceof FileNotFoundError)) throw error
  }
}

await serve({ prepare, ensure, report, clear })
await cluster.close()
