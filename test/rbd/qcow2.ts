import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { access, chmod, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Cluster, MiB, type Pool } from '../../lib/index.js'
import { rbdJson, run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { testFolder } from '../support/golden.js'
import { until } from '../support/process.js'
import { exported, imported, sparseContent } from '../support/sparse.js'

const qcow2Main = fileURLToPath(new URL('../support/qcow2-main.js', import.meta.url))

// Formatting an encryption is made to take its time.
t.setTimeout(300_000)

/** Whole sectors. */
const content = sparseContent(512)

async function disk(t: Test): Promise<{ pool: Pool; folder: string }> {
  const pool = await testPool(t)
  await imported(t, `${pool.path}/disk`, content)
  return { pool, folder: await testFolder(t) }
}

/** What is in a qcow2 file. */
async function unpacked(path: string): Promise<Buffer> {
  await run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`)
  return readFile(`${path}.raw`)
}

const names = async (pool: Pool) => (await pool.listImages()).map(({ name }) => name)

/** One that takes a while to import. */
async function largeFile(folder: string): Promise<string> {
  const [raw, path] = [join(folder, 'large.raw'), join(folder, 'large')]
  await writeFile(raw, Buffer.alloc(200 * MiB, 'data'))
  await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path)
  return path
}

/** Those at work in the pool. */
function qemuImgs(pool: Pool): string[] {
  return readdirSync('/proc').filter(pid => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const [program, ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      return program === 'qemu-img' && args.some(arg => arg.includes(pool.namespace))
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes(String((error as { code?: unknown }).code))) return false
      throw error
    }
  })
}

t.test('a qcow2 file', async t => {
  const { pool, folder } = await disk(t)
  const path = join(folder, 'a file: of, "mine".qcow2')

  await t.test('is what an image is exported to', async t => {
    await using image = await pool.openImage('disk')
    const reports: [number, number][] = []
    await image.exportTo(path, { format: 'qcow2', onProgress: (...report) => reports.push(report) })
    t.match(JSON.parse(await run('qemu-img', 'info', '--output=json', path)), {
      format: 'qcow2',
      'virtual-size': content.length,
    })
    t.ok((await stat(path)).size < 5 * MiB, 'it has holes')
    t.ok((await unpacked(path)).equals(content))
    t.same(reports.at(-1), [content.length, content.length], 'progress is in bytes, and ends at the total')
    await t.rejects(image.exportTo(path, { format: 'qcow2' }), { code: 'EEXIST' })
  })

  await t.test('of a snapshot, and of what is not flushed yet', async t => {
    await using image = await pool.openImage('disk')
    await image.createSnapshot('then')
    await image.write(0, Buffer.alloc(MiB, 'now'))
    await image.exportTo(join(folder, 'now'), { format: 'qcow2' })
    t.ok((await unpacked(join(folder, 'now'))).equals(await exported(t, image.path)))
    await using then = await pool.openImage('disk', { snapshot: 'then' })
    await then.exportTo(join(folder, 'then'), { format: 'qcow2' })
    t.ok((await unpacked(join(folder, 'then'))).equals(content))
  })

  await t.test('of an image that is called otherwise by now, and never of another one', async t => {
    await pool.createImage('called so', { size: MiB })
    await using image = await pool.openImage('called so')
    await image.write(0, Buffer.alloc(MiB, 'ours'))
    await pool.renameImage('called so', 'called otherwise')
    await pool.createImage('called so', { size: MiB })
    await image.exportTo(join(folder, 'ours'), { format: 'qcow2' })
    t.ok((await unpacked(join(folder, 'ours'))).equals(Buffer.alloc(MiB, 'ours')))

    const { id } = await image.stat()
    await image.close()
    await pool.trash.move('called otherwise')
    await using discarded = await pool.openImageById(id)
    const refused = { name: 'ImageNotFoundError', code: 'ENOENT', resource: discarded.path, message: /in the trash/ }
    await t.rejects(discarded.exportTo(join(folder, 'discarded'), { format: 'qcow2' }), refused)
    t.notOk(readdirSync(folder).includes('discarded'))
  })

  await t.test('becomes an image', async t => {
    await pool.importImage('again', path, { format: 'qcow2', objectSize: MiB })
    t.ok((await exported(t, `${pool.path}/again`)).equals(content))
    const [{ used_size: used }] = (await rbdJson('du', `${pool.path}/again`)).images
    t.ok(used <= 9 * MiB, `${used} bytes are taken`)
  })

  await t.test('that qemu-img has compressed becomes one too', async t => {
    const zipped = join(folder, 'zipped')
    await run('qemu-img', 'convert', '-c', '-O', 'qcow2', '-o', 'compat=0.10', path, zipped)
    await pool.importImage('zipped', zipped, { format: 'qcow2' })
    t.ok((await exported(t, `${pool.path}/zipped`)).equals(content))
  })

  await t.test('that names other files is refused', async t => {
    const secret = join(folder, 'secret')
    await writeFile(secret, Buffer.alloc(MiB, 'of this host'))
    const make = async (name: string, ...args: string[]) => {
      await run('qemu-img', 'create', '-q', '-f', 'qcow2', ...args, join(folder, name), '1M')
      return join(folder, name)
    }
    const backed = await make('backed', '-b', secret, '-F', 'raw')
    const split = await make('split', '-o', `data_file=${join(folder, 'data')},data_file_raw=on`)
    // Not of LUKS, for which qemu-img measures the processor, and fails where its clock is coarse.
    const secretOptions = ['--object', 'secret,id=s,data=pass', '-o', 'encrypt.format=aes,encrypt.key-secret=s']
    const locked = await make('locked', ...secretOptions)
    const raw = join(folder, 'then.raw')
    const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }
    const take = (file: string) => () => pool.importImage('new', file, { format: 'qcow2' })
    await fails(t, {
      'a backing file': [take(backed), { ...refused, message: /backing file/ }],
      'a file for the data': [take(split), { ...refused, message: /data in itself/ }],
      'an encrypted one': [take(locked), { ...refused, message: /not encrypted/ }],
      'a raw one': [take(raw), { ...refused, message: /a qcow2 file/ }],
    })
    t.notOk((await names(pool)).includes('new'))
  })

  await t.test('that is broken leaves no image, and says what qemu-img says', async t => {
    const broken = join(folder, 'broken')
    const whole = await readFile(path)
    for (const length of [1000, 65_536, whole.length / 2]) {
      await writeFile(broken, whole.subarray(0, length))
      await t.rejects(pool.importImage('new', broken, { format: 'qcow2' }), {
        message: /^qemu-img check: .+, '.*broken'$/,
      })
      t.notOk((await names(pool)).includes('new'), `only ${length} bytes of it`)
    }
  })

  await t.test('has whole sectors only', async t => {
    await pool.createImage('odd', { size: MiB + 1 })
    await using odd = await pool.openImage('odd')
    const refused = odd.exportTo(join(folder, 'odd'), { format: 'qcow2' })
    await t.rejects(refused, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /sectors/ })
    t.notOk(readdirSync(folder).includes('odd'))

    const header = await readFile(path)
    for (const size of [BigInt(content.length) - 1n, 2n ** 62n]) {
      header.writeBigUInt64BE(size, 24)
      await writeFile(join(folder, 'odd'), header)
      const importing = pool.importImage('new', join(folder, 'odd'), { format: 'qcow2' })
      await t.rejects(importing, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /sectors/ })
    }
    t.notOk((await names(pool)).includes('new'))
  })
})

t.test('an image whose encryption is loaded is none for qemu-img', async t => {
  const { pool, folder } = await disk(t)
  const path = join(folder, 'file')
  await using image = await pool.openImage('disk')
  await image.exportTo(path, { format: 'qcow2' })
  await pool.createImage('secret', { size: 64 * MiB })
  const encryption = { format: 'luks1', passphrase: 'open sesame' } as const
  await using secret = await pool.openImage('secret')
  await secret.formatEncryption(encryption)
  const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /encryption/ }
  await fails(t, {
    'it would write over the header': [() => secret.importFrom(path, { format: 'qcow2' }), refused],
    'it would read what is stored': [() => secret.exportTo(join(folder, 'secret'), { format: 'qcow2' }), refused],
  })
  t.notOk(readdirSync(folder).includes('secret'))
  await using again = await pool.openImage('secret')
  await t.resolves(again.loadEncryption(encryption), 'the header is still there')
})

t.test('an abort ends qemu-img', async t => {
  const { pool, folder } = await disk(t)
  await using image = await pool.openImage('disk')
  const reason = new Error('changed my mind')
  const aborted = { name: 'AbortError', code: 'ABORT_ERR', cause: reason }
  const controller = new AbortController()
  const onProgress = () => controller.abort(reason)
  const path = join(folder, 'file')
  await t.rejects(image.exportTo(path, { format: 'qcow2', signal: controller.signal, onProgress }), aborted)
  t.same(readdirSync(folder), [])

  await image.exportTo(path, { format: 'qcow2' })
  const second = new AbortController()
  const options = { format: 'qcow2', signal: second.signal, onProgress: () => second.abort(reason) } as const
  await t.rejects(pool.importImage('new', path, options), aborted)
  t.same(await names(pool), ['disk'])
})

t.test('an abort in the middle of an import leaves no image, though qemu-img is killed', async t => {
  const { pool, folder } = await disk(t)
  const path = await largeFile(folder)
  const reason = new Error('changed my mind')
  const controller = new AbortController()
  const onProgress = (done: number) => done > 0 && controller.abort(reason)
  const importing = pool.importImage('new', path, { format: 'qcow2', signal: controller.signal, onProgress })
  await t.rejects(importing, { name: 'AbortError', code: 'ABORT_ERR', cause: reason })
  t.same(await names(pool), ['disk'])
})

t.test('a process that is killed takes its qemu-img along, and leaves no file with a key', async t => {
  const { pool, folder } = await disk(t)
  const path = await largeFile(folder)
  const temporary = await testFolder(t)
  const child = spawn(process.execPath, [qcow2Main, 'import', pool.name, pool.namespace, path], {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  t.equal(qemuImgs(pool).length, 1)
  child.kill('SIGKILL')
  t.ok(await until(() => qemuImgs(pool).length === 0, 10_000))
  t.same(readdirSync(temporary), [])
})

t.test('without file descriptors for qemu-img, that is what is told', async t => {
  const { pool, folder } = await disk(t)
  const path = join(folder, 'file')
  const args = [process.execPath, qcow2Main, 'export', pool.name, pool.namespace, path]
  const said = await run('bash', '-c', 'ulimit -n 256 && exec "$@"', 'bash', ...args)
  t.equal(said, 'EMFILE\n')
  t.same(readdirSync(folder), [])
})

t.test('the file that was checked is the one that is read', async t => {
  const { pool, folder } = await disk(t)
  const [path, other] = [join(folder, 'file'), join(folder, 'other')]
  await using image = await pool.openImage('disk')
  await image.exportTo(path, { format: 'qcow2' })
  await run('qemu-img', 'create', '-q', '-f', 'qcow2', other, `${content.length}`)
  await withQemuImg(
    t,
    `/usr/bin/qemu-img "$@" || exit
if [ "$1" = check ]; then mv '${other}' '${path}'; fi`,
    () => pool.importImage('new', path, { format: 'qcow2' }),
  )
  t.same(readdirSync(folder), ['file'], 'it was another one in the end')
  t.ok((await exported(t, `${pool.path}/new`)).equals(content))
})

t.test('an exception that looks like a missing program is told as it is', async t => {
  const { pool, folder } = await disk(t)
  await using image = await pool.openImage('disk')
  const missing = await access(join(folder, 'missing')).catch(error => error)
  const onProgress = () => {
    throw missing
  }
  t.equal(await image.exportTo(join(folder, 'file'), { format: 'qcow2', onProgress }).catch(error => error), missing)
})

t.test('a system without qemu-img is told what to install', async t => {
  const { pool, folder } = await disk(t)
  await using image = await pool.openImage('disk')
  const bin = await testFolder(t)
  const { PATH } = process.env
  t.teardown(() => {
    process.env.PATH = PATH
  })
  process.env.PATH = bin
  const exporting = () => image.exportTo(join(folder, 'file'), { format: 'qcow2' })
  const missing = { message: /qemu-img is missing.*qemu-utils/ }
  await t.rejects(exporting(), missing)
  await symlink('/usr/bin/setpriv', join(bin, 'setpriv'))
  await t.rejects(exporting(), missing)
  process.env.PATH = PATH
  t.same(readdirSync(folder), [])
})

t.test('qemu-img connects as we do, and no secret is on its command line', async t => {
  const { pool, folder } = await disk(t)
  const key = (await pool.cluster.monCommand<{ key: string }[]>({ prefix: 'auth get', entity: 'client.admin' }))[0]?.key
  t.ok(key)
  const monHost = await pool.cluster.getOption('mon_host')
  await using cluster = await Cluster.connect({
    configFile: null,
    options: { mon_host: monHost, key: key ?? '', keyring: '/nonexistent' },
  })
  const other = await cluster.openPool('rbd', { namespace: pool.namespace })
  await using image = await other.openImage('disk')

  // It keeps what it was called with.
  await withQemuImg(
    t,
    `echo "$@" > ${folder}/arguments
conf=$(echo "$@" | grep -o '/proc/self/fd/4')
cat "$conf" > ${folder}/conf
stat --dereference --format '%a %h' "$conf" > ${folder}/mode
exec /usr/bin/qemu-img "$@"`,
    () => image.exportTo(join(folder, 'file'), { format: 'qcow2' }),
  )
  t.ok((await unpacked(join(folder, 'file'))).equals(content))
  t.notMatch(readFileSync(join(folder, 'arguments'), 'utf8'), key ?? '-')
  t.match(readFileSync(join(folder, 'conf'), 'utf8'), `key = ${key}`)
  t.equal(readFileSync(join(folder, 'mode'), 'utf8'), '600 0\n', 'it has no name')
})

/** Does the work with a program in the place of qemu-img. */
async function withQemuImg(t: Test, script: string, work: () => Promise<void>): Promise<void> {
  const bin = await testFolder(t)
  await writeFile(join(bin, 'qemu-img'), `#!/bin/sh\n${script}\n`)
  await chmod(join(bin, 'qemu-img'), 0o755)
  const { PATH } = process.env
  process.env.PATH = `${bin}:${PATH}`
  try {
    await work()
  } finally {
    process.env.PATH = PATH
  }
}
