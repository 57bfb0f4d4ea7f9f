/** A mount ends when it is closed, when its cluster is, and with its process; and never with a crash, nor before its calls. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { Cluster, Directory, File, FileSystem, OpenDirectory } from '../../lib/index.js'
import { run, testCluster } from '../support/cluster.js'
import { allFileCalls, fileSubjects } from '../support/file-calls.js'
import { type FileStage, fileStages } from '../support/file-life.js'
import { python, testFileSystem } from '../support/file-system.js'
import { type Ending, endings } from '../support/life.js'
import { collectGarbage, until } from '../support/process.js'
import { evictProcess } from '../support/tenants.js'

const life = fileURLToPath(new URL('../support/file-life.js', import.meta.url))

/** The roots of all mounts that the MDS knows of. */
async function mounts(): Promise<string[]> {
  const sessions: { client_metadata: { root?: string } }[] = JSON.parse(
    await run('ceph', 'tell', 'mds.cephfs:0', 'session', 'ls', '--format', 'json'),
  )
  return sessions.map(({ client_metadata }) => client_metadata.root ?? '')
}

const isGone = (root: string) => until(async () => !(await mounts()).includes(root), 10_000)

/** Inherited ones too. */
function namesOf(prototype: object): string[] {
  if (prototype === Object.prototype) return []
  return [...Object.getOwnPropertyNames(prototype), ...namesOf(Object.getPrototypeOf(prototype))]
}

t.test('the table of calls has every method', async t => {
  const called = allFileCalls.map(({ name }) => name)
  const noCalls = ['constructor', 'close', 'closed', 'resource', 'look', 'change', 'resolve']
  for (const [prefix, { prototype }] of Object.entries({
    files: FileSystem,
    file: File,
    directory: Directory,
    held: OpenDirectory,
  })) {
    const methods = namesOf(prototype).filter(name => !noCalls.includes(name))
    t.same(
      methods.filter(name => !called.includes(`${prefix}.${name}`)),
      [],
      prefix,
    )
  }
})

t.test('what is closed says so', async t => {
  const { files } = await testFileSystem(t)
  const all = await fileSubjects(files)
  const closes = [all.file, all.file, all.directory, all.held].map(each => each.close())
  await Promise.all([...closes, all.file[Symbol.asyncDispose]()])
  t.same([files.closed, all.file.closed, all.directory.closed, all.held.closed], [false, true, true, true])
  const closed = { name: 'ClosedError', code: 'EBADF' }
  for (const { name, call } of allFileCalls) {
    if (!name.startsWith('files.')) await t.rejects(call(all, {} as never), closed, name)
  }
  await Promise.all([files.close(), files.close(), files[Symbol.asyncDispose]()])
  await t.resolves(files.close(), 'again')
  for (const { name, call } of allFileCalls) await t.rejects(call(all, {} as never), closed, name)
})

t.test('a signal that was aborted before', async t => {
  const { files } = await testFileSystem(t)
  const all = await fileSubjects(files)
  const options = { signal: AbortSignal.abort('enough') }
  for (const { name, call } of allFileCalls) {
    await t.rejects(call(all, options as never), { name: 'AbortError', cause: 'enough' }, name)
  }
  t.same((await files.readdir('/')).length, 3, 'nothing was done')
})

t.test('close() waits for 200 calls in flight, and they all succeed', async t => {
  const { files, root } = await testFileSystem(t)
  const file = await files.open('/file', 'w+')
  // More than may be under way at once.
  const calls = Array.from({ length: 200 }, (_, i) =>
    i % 2 ? files.mkdir(`/${i}`) : file.write('x', { position: i >> 1 }),
  )
  let settled = 0
  for (const call of calls) Promise.resolve(call).then(() => settled++)
  const closing = files.close()
  t.same([files.closed, file.closed], [true, true], 'from the moment it is asked for')
  await t.rejects(files.stat('/'), { name: 'ClosedError' })
  await closing
  t.equal(settled, 200)
  t.same(await python(root, `answer([files.stat('/file').st_size, files.stat('/199').st_uid])`), [100, 0])
})

t.test('close() unmounts, and closes what is open', async t => {
  const { files, root } = await testFileSystem(t)
  const file = await files.open('/file', 'w')
  const directory = await files.opendir('/')
  await file.write('not synced')
  t.ok((await mounts()).includes(root))
  await files.close()
  t.same([file.closed, directory.closed], [true, true])
  t.notOk((await mounts()).includes(root))
  t.equal(await python(root, `answer(text('/file'))`), 'not synced')
})

t.test('close() of the cluster does too', async t => {
  const { files, cluster, root } = await testFileSystem(t)
  await files.writeFile('/file', 'text')
  await cluster.close()
  t.ok(files.closed)
  t.notOk((await mounts()).includes(root))
  await t.rejects(cluster.mountFileSystem(), { name: 'ClosedError' })
})

t.test('what is forgotten is unmounted', async t => {
  const cluster = await testCluster(t)
  const { root } = await testFileSystem(t)
  const inner = `${root}/inner`
  await using whole = await cluster.mountFileSystem()
  await whole.mkdir(inner)
  await (async () => {
    const forgotten = await cluster.mountFileSystem({ root: inner })
    await forgotten.open('/file', 'w')
  })()
  t.ok((await mounts()).includes(inner))
  const gone = await until(async () => {
    collectGarbage()
    return !(await mounts()).includes(inner)
  }, 15_000)
  t.ok(gone)
})

const statusOf: Record<Ending, number> = { 'process.exit': 3, exception: 1, 'end of program': 0 }

/** Answers its PID. */
async function liveAndEnd(t: Test, root: string, stage: FileStage, ending: Ending): Promise<number | undefined> {
  const env = { ...process.env, LIFE_ROOT: root }
  const child = spawn(process.execPath, [life, stage, ending], { env, timeout: 20_000, killSignal: 'SIGKILL' })
  let stderr = ''
  child.stderr.on('data', text => {
    stderr += text
  })
  const ended = await new Promise(resolve => child.on('close', (...how) => resolve(how)))
  t.same(ended, [statusOf[ending], null], `${stage}, ${ending}: no crash, no hang`)
  t.equal(stderr.replace(/.*on purpose.*/s, ''), '')
  return child.pid
}

t.test('a process that ends, in whatever stage', async t => {
  const { root } = await testFileSystem(t)
  for (const ending of endings) {
    for (const stage of fileStages) await liveAndEnd(t, root, stage, ending)
  }
  const others = async () => (await mounts()).filter(mounted => mounted === root).length === 1
  t.ok(await until(others, 10_000), 'all but the one of the test are unmounted')
})

t.test('a process with a mount that never ends does', async t => {
  const { root, cluster } = await testFileSystem(t)
  await using whole = await cluster.mountFileSystem()
  for (const ending of endings) {
    const pid = await liveAndEnd(t, root, 'never unmounted', ending)
    t.ok((await mounts()).includes(root), 'the MDS has not noticed yet')
    await whole.mkdir(`${root}-${ending}`)
    await whole.rmdir(`${root}-${ending}`)
    t.pass('and nobody has to wait for that')
    await evictProcess(pid)
  }
})

t.test('a worker thread that is terminated, in whatever stage', async t => {
  const { root, files } = await testFileSystem(t)
  process.env.LIFE_ROOT = root
  for (const stage of fileStages) {
    const worker = new Worker(life, { workerData: [stage] })
    await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    await t.resolves(worker.terminate(), stage)
    t.ok((await files.stat('/')).isDirectory(), 'and others go on')
  }
  await files.close()
  t.ok(await isGone(root))
})

t.test('a missing library is told by the package that has it, and nothing else is amiss', async t => {
  const folder = t.testdir({ 'libcephfs.so.2': '' })
  const library = new URL('../../lib/index.js', import.meta.url)
  const script = `
    import { Cluster, MissingLibraryError } from '${library}'
    const cluster = await Cluster.connect()
    const error = await cluster.mountFileSystem().catch(error => error)
    const pools = await cluster.listPools()
    console.log(JSON.stringify([error instanceof MissingLibraryError, error.code, error.message, pools.length > 0]))
    await cluster.close()`
  const env = { ...process.env, LD_LIBRARY_PATH: folder }
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { env })
  let printed = ''
  child.stdout.on('data', text => {
    printed += text
  })
  await new Promise(resolve => child.on('close', resolve))
  const [isTyped, code, message, others] = JSON.parse(printed)
  t.same([isTyped, code, others], [true, 'ENOENT', true])
  t.match(message, /apt-get install libcephfs2/)
})

t.test('connections of their own for any number of mounts', async t => {
  const { cluster, root, files } = await testFileSystem(t)
  const many = await Promise.all(Array.from({ length: 8 }, () => cluster.mountFileSystem({ root })))
  await Promise.all(many.map((mount, i) => mount.writeFile(`/${i}`, `${i}`)))
  t.equal((await files.readdir('/')).length, 8)
  const other = await Cluster.connect()
  await using again = await other.mountFileSystem({ root })
  t.equal((await again.readFile('/7')).toString(), '7')
  await Promise.all(many.map(mount => mount.close()))
  t.equal((await again.readFile('/6')).toString(), '6')
  await other.close()
  t.ok(again.closed)
})

t.test('a time-out as long as there can be', async t => {
  const cluster = await testCluster(t, { timeout: 2 ** 31 - 1 })
  await using files = await cluster.mountFileSystem()
  t.ok((await files.stat('/')).isDirectory())
})
