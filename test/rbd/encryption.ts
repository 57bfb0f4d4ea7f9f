/** LUKS, beside others that have it: `rbd` and python3-rbd. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'
import { fails } from '../support/failures.js'
import { testFolder } from '../support/golden.js'
import { python } from '../support/python.js'

// To compute a key takes a second or two of a processor that has nothing else to do.
t.setTimeout(240_000)

const passphrase = 'correct horse battery staple'
const data = Buffer.from('some data that is for nobody else, '.repeat(100))

t.test('an encryption of ours', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 64 * MiB })
  await using image = await pool.openImage('disk')
  await image.formatEncryption({ format: 'luks2', passphrase: Buffer.from(passphrase) })
  t.equal(await image.size(), 48 * MiB, 'without the header')
  await image.write(4096, data)
  await image.flush()

  await t.test('is read by others', async t => {
    const read = `
with rbd.Image(ioctx, 'disk', read_only=True) as image:
    image.encryption_load(rbd.RBD_ENCRYPTION_FORMAT_LUKS2, '${passphrase}')
    answer([image.size(), image.read(4096, ${data.length}).decode()])
`
    t.same(await python(pool, read), [48 * MiB, data.toString()])
  })

  await t.test('is not to be read without its passphrase', async t => {
    await using plain = await pool.openImage('disk', { readOnly: true })
    t.equal(await plain.size(), 64 * MiB)
    t.match((await plain.read(0, 6)).toString('latin1'), 'LUKS\xba\xbe')
    const stored = await plain.read(16 * MiB + 4096, data.length)
    t.notOk(stored.equals(data))
    t.notOk(stored.includes('nobody'))
  })

  await t.test('is loaded once, and not made anew', async t => {
    const again = { name: 'ExistsError', code: 'EEXIST' }
    await fails(t, {
      'a second time': [() => image.loadEncryption({ format: 'luks2', passphrase }), again],
      'another one': [() => image.formatEncryption({ format: 'luks1', passphrase }), again],
    })
    await image.write(0, data)
    t.ok((await image.read(4096, data.length)).equals(data), 'and is as before')
    await using plain = await pool.openImage('disk', { readOnly: true })
    t.match((await plain.read(0, 6)).toString('latin1'), 'LUKS\xba\xbe')
  })

  await t.test('is loaded once, though it is asked for twice at a time, or again after an abort', async t => {
    for (const signalOf of [() => undefined, () => AbortSignal.timeout(200)]) {
      await using another = await pool.openImage('disk')
      const load = (signal?: AbortSignal) => another.loadEncryption({ format: 'luks2', passphrase, signal })
      const [, second] = await Promise.allSettled([load(signalOf()), load()])
      t.match(second, { status: 'rejected', reason: { name: 'ExistsError' } })
      t.ok((await another.read(4096, data.length)).equals(data))
    }
  })
})

t.test('an image whose encryption is loaded is filled to the byte', async t => {
  const pool = await testPool(t)
  const path = join(await testFolder(t), 'raw')
  const content = Buffer.alloc(5 * MiB + 4096)
  for (const offset of [0, 3 * MiB, content.length - 4096]) content.fill('data', offset, offset + 4096)
  await writeFile(path, content)
  await pool.createImage('disk', { size: 16 * MiB })
  await using image = await pool.openImage('disk')
  await image.formatEncryption({ format: 'luks1', passphrase })
  await image.importFrom(path)
  t.ok((await image.read(0, content.length)).equals(content))
})

t.test('an encryption of others', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 64 * MiB })
  const file = join(await testFolder(t), 'passphrase')
  await writeFile(file, passphrase)
  await run('rbd', 'encryption', 'format', '--cipher-alg', 'aes-128', `${pool.path}/disk`, 'luks1', file)
  await using image = await pool.openImage('disk')

  await t.test('is not loaded by what is not its passphrase, or as what it is not', async t => {
    await fails(t, {
      'another passphrase': [
        () => image.loadEncryption({ format: 'luks1', passphrase: 'a guess' }),
        { name: 'WrongPassphraseError', code: 'EPERM', retryable: false },
      ],
      'another format': [() => image.loadEncryption({ format: 'luks2', passphrase }), { name: 'NotEncryptedError' }],
    })
    t.equal(await image.size(), 64 * MiB)
    await image.exportTo(join(await testFolder(t), 'disk.qcow2'), { format: 'qcow2' })
    t.pass('and the image is one without encryption')
  })

  await t.test('is read and written, also if a wrong passphrase is tried beside the right one', async t => {
    const load = (tried: string) => image.loadEncryption({ format: 'luks1', passphrase: tried })
    const [wrong, right] = await Promise.allSettled([load('a guess'), load(passphrase)])
    t.match([wrong.status, right.status], ['rejected', 'fulfilled'])
    const qcow2 = join(await testFolder(t), 'disk.qcow2')
    await fails(t, {
      'what is encrypted to qcow2': [
        () => image.exportTo(qcow2, { format: 'qcow2' }),
        { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' },
      ],
    })
    t.equal(await image.size(), 60 * MiB)
    await image.write(MiB - 5, data)
    t.ok((await image.read(MiB - 5, data.length)).equals(data))
  })
})

t.test('an image that cannot be encrypted, or is not', async t => {
  const pool = await testPool(t)
  await pool.createImage('small', { size: 4 * MiB })
  await pool.createImage('journaled', { size: 64 * MiB, features: ['layering', 'exclusive-lock', 'journaling'] })
  await pool.createImage('golden', { size: 64 * MiB })
  await using golden = await pool.openImage('golden')
  const base = await golden.createSnapshot('base')
  await pool.cloneImage(base, 'clone', { cloneFormat: 2 })
  await using small = await pool.openImage('small')
  await using journaled = await pool.openImage('journaled')
  await using clone = await pool.openImage('clone')
  await using reader = await pool.openImage('golden', { readOnly: true })
  const luks1 = { format: 'luks1', passphrase } as const
  await fails(t, {
    'one without a header': [() => golden.loadEncryption(luks1), { name: 'NotEncryptedError', code: 'EINVAL' }],
    'one that is too small': [() => small.formatEncryption(luks1), { name: 'NoSpaceError', code: 'ENOSPC' }],
    'one with a journal': [() => journaled.formatEncryption(luks1), { name: 'NotSupportedError' }],
    'a clone': [() => clone.formatEncryption(luks1), { name: 'NotSupportedError' }],
    'one that is open read-only': [() => reader.formatEncryption(luks1), { name: 'ReadOnlyImageError' }],
  })
  t.same(await golden.read(0, 6), Buffer.alloc(6), 'nothing was written')
})
