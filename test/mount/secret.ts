/** `cephkit keyring secret`: the whole secret, for nobody else to read, or an error that does not show it. */
import { chmod, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { secretOf } from '../../src/mount/secret.js'
import { run } from '../support/cluster.js'
import { cephkit } from '../support/command.js'

const key = 'AQCvCbtToC6MDhAATtuT70Sl+DymPCfDSsyV4w=='
const other = 'AQDvCbtToC6MDhAAqtuT70Sl+DymPCfDSsyV5w=='

t.test('what a keyring may look like', t => {
  for (const [text, entity] of [
    [`[client.web]\n\tkey = ${key}\n`],
    [`[client.web]\n\tkey = ${key}`],
    [`[client.web]\r\n\tkey = ${key}\r\n`],
    [`\uFEFF[client.web]\nkey=${key}\n`],
    [`  [ client.web ]  \n   key   =   ${key}   \n`],
    [`# a comment\n; another\n\n[client.web] # of the web\nkey = ${key} # its key\n`],
    [`[client.web]\nkey = "${key}"\n`],
    [`[client.web]\n\tcaps mds = "allow rwp path=/, allow r"\n\tauid = 0\n\tkey = ${key}\n\tcaps mon = "allow r"\n`],
    [`[client.web]\nkey = ${key}\n[client.web]\nkey = ${key}\n`],
    [`[client.caps-only]\n\tcaps mon = "allow r"\n[client.web]\n\tkey = ${key}\n`],
    [`[client.other]\nkey = ${other}\n[client.web]\nkey = ${key}\n`, 'client.web'],
    [`[client.web]\nkey = ${key}\n[client.webserver]\nkey = ${other}\n`, 'client.web'],
  ] as const)
    t.equal(secretOf('keyring', text, entity), key, JSON.stringify(text))
  t.end()
})

t.test('what is none', t => {
  for (const [text, message, entity] of [
    ['', /no keyring/],
    ['\n\n', /no keyring/],
    ['[client.web]\n', /no keyring/],
    [`key = ${key}\n`, /a key of nobody in line 1/],
    [key, /neither a section nor a setting in line 1/],
    [`[client.web\nkey = ${key}\n`, /line 1/],
    [`[]\nkey = ${key}\n`, /line 1/],
    [`[client.web]\n${key}\n`, /line 2/],
    [`{"client.web": {"key": "${key}"}}`, /line 1/],
    [`[client.web]\nkey = ${key}\n[client.web]\nkey = ${other}\n`, /another key of "client.web" in line 4/],
    [`[client.web]\nkey = ${key}\nkey = ${other}\n`, /another key/],
    [
      `[client.a]\nkey = ${key}\n[client.b]\nkey = ${other}\n`,
      /several keys: choose by --name of "client.a", "client.b"/,
    ],
    [`[client.a]\nkey = ${key}\n`, /no key of "client.b"; it has "client.a"/, 'client.b'],
    [`[client.web]\nkey = ${key}\n`, /no key of "web"/, 'web'],
    [`[client.web]\nkey =\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key.slice(0, -1)}\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key.slice(0, -2)}\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key}=\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key} ${other}\n`, /none of Ceph's/],
    [`[client.web]\nkey = "${key}\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key.replace('+', '-')}\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key.slice(0, 20)}\\\n${key.slice(20)}\n`, /line 3/],
    [`[client.web]\nkey = ${key.slice(4)}\n`, /none of Ceph's/],
    [`[client.web]\nkey = AAAAAAAAAAAAAAAA\n`, /none of Ceph's/],
    [`[client.web]\nkey = ${key}\0\n`, /none of Ceph's/],
  ] as const) {
    const name = JSON.stringify(text).replaceAll(key.slice(0, 10), '...')
    try {
      secretOf('keyring', text, entity)
      t.fail(name)
    } catch (error) {
      const said = String((error as Error).message)
      t.match(said, message, name)
      t.notMatch(said, key.slice(4, 12), 'shows nothing of the key')
      t.notMatch(said, other.slice(4, 12))
    }
  }
  t.end()
})

t.test('the command', async t => {
  const folder = t.testdir()
  const keyring = join(folder, 'keyring')
  const output = join(folder, 'secret')
  await run(
    'ceph-authtool',
    '--create-keyring',
    keyring,
    '--gen-key',
    '--name',
    'client.web',
    '--cap',
    'mds',
    'allow rwp',
  )
  const secret = (await run('ceph-authtool', keyring, '--print-key', '--name', 'client.web')).trim()
  const extract = (...args: string[]) => cephkit(['keyring', 'secret', keyring, '--output', output, ...args])

  await t.test('writes what ceph-authtool prints, and prints nothing', async t => {
    t.strictSame(await extract(), { code: 0, stdout: '', stderr: '' })
    t.equal(await readFile(output, 'utf8'), secret)
    t.match(secret, /==$/)
    t.equal((await stat(output)).mode & 0o777, 0o600)
  })

  await t.test('replaces what is there, which others could read or have linked elsewhere', async t => {
    await writeFile(output, 'old')
    await chmod(output, 0o666)
    t.equal((await extract('--name', 'client.web')).code, 0)
    t.equal(await readFile(output, 'utf8'), secret)
    t.equal((await stat(output)).mode & 0o777, 0o600)
    const link = join(folder, 'link')
    const elsewhere = join(folder, 'elsewhere')
    await writeFile(elsewhere, 'theirs')
    await symlink(elsewhere, link)
    t.equal((await cephkit(['keyring', 'secret', keyring, '--output', link])).code, 0)
    t.equal(await readFile(elsewhere, 'utf8'), 'theirs')
  })

  await t.test('leaves nothing where it fails', async t => {
    const before = await readdir(folder)
    const refused = async (expected: RegExp, ...args: string[]) => {
      const { code, stdout, stderr } = await cephkit(['keyring', 'secret', ...args])
      t.match({ code, stdout }, { code: 1, stdout: '' })
      t.match(stderr, expected)
      t.notMatch(stderr, secret.slice(4, 12))
    }
    await refused(/--output/, keyring)
    await refused(/no key of "client.other"/, keyring, '--output', output, '--name', 'client.other')
    await refused(/the keyring itself/, keyring, '--output', keyring)
    await refused(/cannot be written/, keyring, '--output', folder)
    await refused(/ENOENT/, join(folder, 'none'), '--output', output)
    await refused(/no keyring/, '/dev/null', '--output', output)
    t.strictSame(await readdir(folder), before)
    t.match(await readFile(keyring, 'utf8'), secret)
  })
})
